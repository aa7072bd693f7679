"""Decode with and without a KV cache, token by token, grown by concatenation, and in 8 bits.

    python -m experiments.kv_cache_onoff [--folder ../shared/real]

Four kinds make the same text: `none` computes all tokens again for each new one, `static` writes into one
buffer, `dynamic` grows by torch.cat, `int8` stores 8 bits and a scale per token and head. Cost against
position is that of a model of random weights with 8 KiB of cache per token; equality of tokens and the
error of int8 are those of a trained checkpoint, stories260K. FLOPs are counted under naive attention,
as torch counts none for the fused kernel on a CPU; bytes are those of the inputs and outputs of every
operation that is no view, a table that is gathered from counted by its rows. All runs on one thread, and
time is that thread's own: what others do on the machine does not count.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.common import results as answers
from experiments.common.cache_kinds import DTYPE, KINDS, Cache, filled, greedy, one_step, perplexity
from experiments.common.one_thread import ThreadClock, one_thread
from experiments.common.traffic import Traffic
from llamalab import LlamaArch, build, load
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import Op, add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.roofline import Rates, predict_pass, total_s
from llamalab.formatting import format_bytes
from llamalab.measure.device.machine import cache_bytes
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import copy_roof
from llamalab.measure.roofs.probes import gemm_roof
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model import StaticKVCache
from llamalab.text import load_tokenizer

QUESTION = "What does a KV cache save, token by token, and what do growing it by concatenation and 8 bits change?"

ARCH = LlamaArch(dim=256, n_layers=4, n_heads=8, n_kv_heads=8, ffn_dim=688, vocab_size=512)
POSITIONS = (64, 256, 1024, 2048)
PLAN = Plan(budget_s=0.4, least=3, most=60, warmup=1, warmup_s=0.0)
GREEDY_TOKENS = 200
SHARED = Path(__file__).resolve().parents[2] / "shared" / "real"


class Step(NamedTuple):
    """What one more token costs, where it is the `position`-th."""

    kind: str
    position: int
    flops: int
    bytes: int
    time_s: float


def predict(rates: dict[str, Rates]) -> list[Step]:
    """What the op table says: FLOPs with full attention, bytes, and time at this machine's roofs."""
    steps = []
    for position in POSITIONS:
        for kind in KINDS:
            ops = _ops(kind, position)
            totals = add_up(ops)
            time_s = total_s(ops, predict_pass(ops, rates))
            steps.append(Step(kind, position, totals.flops_full, totals.bytes, time_s))
    return steps


def measure() -> list[Step]:
    """The same, counted and timed: kind by kind, as one evicts what another has in the processor's caches."""
    model, counted = build(ARCH, dtype=DTYPE), build(ARCH, dtype=DTYPE, attention="naive")
    tokens_BT = torch.randint(ARCH.vocab_size, (1, max(POSITIONS)), generator=torch.Generator().manual_seed(0))
    steps = []
    with torch.inference_mode():
        model(tokens_BT)  # what a first pass sets up is no cost of the first position
        for position in POSITIONS:
            caches = {kind: filled(model, kind, tokens_BT[:, : position - 1], position) for kind in KINDS}
            works = {kind: one_step(model, caches[kind], tokens_BT[:, :position]) for kind in KINDS}
            for kind in KINDS:
                rewind = _rewinder(caches[kind], position - 1)
                time_s = median(time_one(works[kind], ThreadClock(), PLAN, before=rewind))
                rewind()
                with Traffic() as traffic:
                    works[kind]()
                rewind()
                with FlopCounterMode(display=False) as flops:
                    one_step(counted, caches[kind], tokens_BT[:, :position])()
                steps.append(Step(kind, position, flops.get_total_flops(), traffic.bytes, time_s))
    return steps


def compare_texts(folder: Path) -> dict[str, float]:
    """On the trained checkpoint: greedy tokens of each kind, and what int8 does to logits and perplexity."""
    model = load(folder / "stories260K.bin", dtype=DTYPE)
    story = (folder / "stories260K.story.txt").read_text(encoding="utf-8").rstrip("\n")
    ids = load_tokenizer(folder / "tok512.bin").encode(story, bos=True)
    with torch.inference_mode():
        texts = {kind: greedy(model, kind, ids[:1], GREEDY_TOKENS) for kind in KINDS}
        tokens_BT = torch.tensor([ids])
        exact_TV = model(tokens_BT)[0]
        cache = StaticKVCache(model.arch, batch=1, max_tokens=len(ids), dtype="int8")
        int8_TV = model(tokens_BT, cache=cache)[0]
    error = (int8_TV - exact_TV).double()
    return {
        "tokens": GREEDY_TOKENS,
        **{f"equal_to_none_{kind}": _agree(texts["none"], texts[kind]) for kind in KINDS[1:]},
        "scored_tokens": len(ids) - 1,
        "perplexity_fp32": perplexity(exact_TV, ids),
        "perplexity_int8": perplexity(int8_TV, ids),
        "logit_error_rms": float(error.square().mean().sqrt()),
        "logit_error_max": float(error.abs().max()),
        "logit_rms": float(exact_TV.double().square().mean().sqrt()),
        "bytes_per_token_fp32": kv_bytes(model.arch, seq=1, dtype=DTYPE),
        "bytes_per_token_int8": (cache.nbytes + cache.scale_nbytes) // len(ids),
    }


def conclude(predicted: list[Step], measured: list[Step], texts: dict[str, float]) -> str:
    """The answer in words."""
    said, seen = _by_kind(predicted), _by_kind(measured)
    first, last = POSITIONS[0], POSITIONS[-1]

    def times(kind: str, field: str, position: int = last, *, of: str = "static", of_position: int = 0) -> str:
        over, under = (kind, position), (of, of_position or position)
        ratios = [getattr(steps[over], field) / getattr(steps[under], field) for steps in (seen, said)]
        return "{} times (predicted: {})".format(
            *(f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}" for ratio in ratios)
        )

    held, room = kv_bytes(ARCH, seq=last, dtype=DTYPE), cache_bytes(torch.device("cpu"))
    why = (
        f" (the {format_bytes(held)} of keys and values fit in {format_bytes(room)} of the processor's cache, which "
        "is faster than the memory that the prediction goes by)"
    )
    equal = all(texts[f"equal_to_none_{kind}"] == texts["tokens"] for kind in ("static", "dynamic"))
    return f"""\
Without a cache token {last:,} takes {times("none", "time_s")} the time and {times("none", "flops")} the FLOPs of one \
with a static cache, and token {first} {times("none", "time_s", first)} the time.
With it, token {last:,} needs {times("static", "flops", of_position=first)} the FLOPs of token {first} and moves \
{times("static", "bytes", of_position=first)} the bytes.
Growing by concatenation moves {times("dynamic", "bytes")} the bytes at token {last:,} and takes \
{times("dynamic", "time_s")} the time{why if held < room else ""}.
Int8 that is decoded ahead of attention moves {times("int8", "bytes")} the bytes and takes \
{times("int8", "time_s")} the time: without a kernel that reads int8 it saves \
room, {texts["bytes_per_token_int8"]:.0f} bytes a token in place of \
{texts["bytes_per_token_fp32"]:.0f} on the trained checkpoint, and no traffic.
The greedy tokens are {"equal" if equal else "NOT equal"} without a cache, with a static and with a growing one. Int8 \
changes the trained checkpoint's logits by {texts["logit_error_rms"] / texts["logit_rms"]:.2%} rms, its perplexity \
from {texts["perplexity_fp32"]:.4f} to {texts["perplexity_int8"]:.4f}, and keeps the first \
{texts["equal_to_none_int8"]:.0f} of {texts["tokens"]:.0f} greedy tokens."""


def roofs() -> dict[str, Rates]:
    """What this machine reaches in products and in copies, and the time of an operation that does nothing."""
    machine = Machine(torch.device("cpu"), ThreadClock(), DTYPE)
    peak, bandwidth = gemm_roof(machine, [(ARCH.ffn_dim, ARCH.dim)], 512).per_second, copy_roof(machine).per_second
    assert bandwidth is not None
    return dict.fromkeys(("gather", "gemm", "elementwise", "attention"), Rates(peak, bandwidth, call_s()))


def call_s() -> float:
    """Seconds that one operation of the table takes in a model so small that calls are all it costs."""
    arch = LlamaArch(dim=8, n_layers=ARCH.n_layers, n_heads=1, n_kv_heads=1, ffn_dim=8, vocab_size=8)
    model, token_BT = build(arch, dtype=DTYPE), torch.zeros(1, 1, dtype=torch.long)
    cache = StaticKVCache(arch, batch=1, max_tokens=1, dtype=DTYPE)
    work = one_step(model, cache, token_BT)
    with torch.inference_mode():
        step_s = median(time_one(work, ThreadClock(), Plan(0.5, 5, 200), before=cache.rewind))
    return step_s / sum(op.count for op in forward_ops(arch, PassShape(new_tokens=1, dtype=DTYPE)))


def _rewinder(cache: Cache | None, length: int) -> Callable[[], None]:
    return lambda: None if cache is None else cache.rewind(length)


def _ops(kind: str, position: int) -> tuple[Op, ...]:
    if kind == "none":
        ops = forward_ops(ARCH, PassShape(new_tokens=position, dtype=DTYPE))
        return tuple(op for op in ops if not op.name.endswith("kv_append"))
    kv_dtype = "int8" if kind == "int8" else DTYPE
    ops = forward_ops(ARCH, PassShape(new_tokens=1, context_tokens=position, dtype=DTYPE, kv_dtype=kv_dtype))
    layer = ARCH.replace(n_layers=1)
    before, after = (kv_bytes(layer, seq=seq, dtype=DTYPE) for seq in (position - 1, position))
    extra = {
        "static": [],
        # All that was there is read, and written to another place.
        "dynamic": [Op("layers.*.concatenate", "elementwise", ARCH.n_layers, read_bytes=before, written_bytes=before)],
        # What attention reads is made fp32 first, then scaled: twice written in full width and twice read.
        "int8": [Op("layers.*.decode", "elementwise", ARCH.n_layers, read_bytes=2 * after, written_bytes=2 * after)],
    }
    return (*ops, *extra[kind])


def _by_kind(steps: list[Step]) -> dict[tuple[str, int], Step]:
    return {(step.kind, step.position): step for step in steps}


def _agree(one: list[int], other: list[int]) -> int:
    """How many tokens are equal before the first that is not."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def _print_table(predicted: list[Step], measured: list[Step]) -> None:
    print(
        f"{'':17}{'GFLOP':>20}{'MB':>20}{'ms':>20}\n{'kind':8}{'position':>9}"
        + f"{'predicted':>10}{'measured':>10}" * 3
    )
    for said, seen in zip(predicted, measured, strict=True):
        pairs = ((said.flops, seen.flops, 1e9), (said.bytes, seen.bytes, 1e6), (said.time_s, seen.time_s, 1e-3))
        cells = "".join(f"{one / unit:10.3f}{other / unit:10.3f}" for one, other, unit in pairs)
        print(f"{said.kind:8}{said.position:9,}{cells}")


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--folder", type=Path, default=SHARED, help="with stories260K.bin, .story.txt and tok512.bin")
    args = parser.parse_args(argv)
    with one_thread():
        predicted, measured, texts = predict(roofs()), measure(), compare_texts(args.folder)
    _print_table(predicted, measured)
    conclusion = conclude(predicted, measured, texts)
    rows = {"predicted": [step._asdict() for step in predicted], "measured": [step._asdict() for step in measured]}
    answers.finish(QUESTION, "kv_cache_onoff", args.out, conclusion, **rows, texts=texts)


if __name__ == "__main__":
    main()
