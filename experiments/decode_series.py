"""Decode step by step from Python and as a graph that is replayed, against what memory gives.

    python -m experiments.decode_series [--device auto|cpu|cuda] [--models 7b] [--compiled] [--out PATH.json]

Whole models of bf16 with random weights, tied where they do not fit; the cache is filled, and a token is chosen
from the logits of every step. `plain` steps come from Python one by one, `loop` is llamalab.text.decode_loop: on
CUDA a step is recorded once and replayed. `fused` is the loop over our own kernels, where the model can have them.
`compiled` is the loop over blocks that llamalab.compile made. Predicted: a step reads every weight and the filled cache
once, at the bandwidth of a copy.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch

import llamalab
from experiments.common import results as answers
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.device.machine import available_bytes, cache_bytes, clock_for, device_of, resolve_device
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import copy_roof
from llamalab.measure.target.blocks import SPARE, Depth, choose_tied
from llamalab.measure.timing.timer import Call, Plan, time_variants
from llamalab.model import Transformer, build
from llamalab.model.fused.step import FusedStep
from llamalab.presets import resolve_model
from llamalab.text.decode_loop import DecodeLoop

QUESTION = "How near does decode come to what memory gives, step by step from Python and as a graph that is replayed?"

DTYPE = "bf16"
MOST_CPU_BYTES = 2**31  # of weights on a CPU: more would not leave room beside other work


class Scale(NamedTuple):
    """Steps of a run, (batch, tokens in the cache), and rounds."""

    steps: int
    sizes: tuple[tuple[int, int], ...]
    plan: Plan


SCALES = {
    "cuda": Scale(16, ((1, 496), (1, 4080), (4, 496), (16, 496), (16, 4080), (64, 496)), Plan(0.8, 3, 20, 1)),
    "cpu": Scale(2, ((1, 62), (4, 62)), Plan(1.5, 3, 10, 1)),
}


def predict(arch: LlamaArch, batch: int, context: int) -> int:
    """Bytes that a step must read."""
    total = add_up(
        forward_ops(arch, PassShape(new_tokens=1, context_tokens=context, batch=batch, dtype=DTYPE, logits="last"))
    )
    return total.weight_bytes + total.read_bytes


def depth_of(arch: LlamaArch, place: torch.device) -> Depth:
    """All blocks where the weights leave a third of the memory free, else tied ones."""
    room = int(SPARE * available_bytes(place) * 2 / 3) if place.type == "cuda" else MOST_CPU_BYTES
    return choose_tied(arch, DTYPE, room_bytes=room, cache_bytes=cache_bytes(place))


def measure(
    name: str, arch: LlamaArch, place: torch.device, scale: Scale, *, compiled: bool = False
) -> Iterator[dict[str, Any]]:
    """A row per size and series; one that cannot be run has the reason."""
    depth = depth_of(arch, place)
    tied = depth.distinct if depth.tied else None
    model = build(arch, dtype=DTYPE, device=place, tie_blocks=tied).eval()
    series = ("compiled",) if compiled else ("plain", "loop", "fused") if place.type == "cuda" else ("plain", "loop")
    if compiled:
        llamalab.compile(model)
    for batch, past in scale.sizes[:1] if compiled else scale.sizes:
        settings = {
            "model": name,
            "blocks": depth.label,
            "batch": batch,
            "context": past + scale.steps,
            "steps": scale.steps,
            "read_bytes": predict(arch, batch, past + scale.steps // 2),
        }
        print(f"  {name}, {', '.join(series)}, batch {batch}, {past} tokens in the cache", file=sys.stderr)
        case = BenchCase(0, scale.steps, past, batch)
        free = available_bytes(place) + depth.held_weight_bytes(DTYPE)
        need = depth.need_bytes(batch=batch, new_tokens=1, max_tokens=case.context, dtype=DTYPE, attention="naive")
        if need > SPARE * free:
            yield from (settings | {"series": one, "reason": "does not fit beside the weights"} for one in series)
            continue
        samples = _timed(model, series, case, place, scale.plan)
        yield from (settings | {"series": one, "samples_s": samples[one]} for one in samples)
        _release(place)


def _timed(
    model: Transformer, series: Sequence[str], case: BenchCase, place: torch.device, plan: Plan
) -> dict[str, list[float]]:
    """Seconds of a step, one sample per round of all series that the model can have; they share one cache."""
    with torch.inference_mode():
        loop = DecodeLoop(model, batch=case.batch, max_tokens=case.context)
        for store in (*loop.cache.keys, *loop.cache.values):
            store.normal_()  # pages of zeros would be cached, and flatter a device that clocks by power
        loop.cache.advance(case.depth)
        token_B1 = torch.zeros(case.batch, 1, dtype=torch.int64, device=place)

        def plain() -> None:
            token = token_B1
            for _ in range(case.generate):
                token = loop.choice(model(token, cache=loop.cache, logits="last")[:, -1])

        def looped(step: FusedStep | None) -> None:
            loop.fused = step
            loop.steps(case.generate)

        works: dict[str, Call] = {"plain": plain}
        works |= dict.fromkeys(("loop", "compiled"), partial(looped, None))
        if "fused" in series and loop.fused is not None and _runs(fused := partial(looped, loop.fused)):
            works["fused"] = fused
            loop.cache.rewind(case.depth)
        chosen = {name: works[name] for name in series if name in works}
        found = time_variants(chosen, clock_for(place, marks=512), plan, before=lambda: loop.cache.rewind(case.depth))
    return {name: [seconds / case.generate for seconds in times] for name, times in found.items()}


def _runs(call: Call) -> bool:
    """Whether it can be called at all: what cannot must not take the others with it."""
    try:
        call()
    except Exception as error:  # compilers and graphs fail in many ways
        print(f"  fused steps do not run: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def add_rates(rows: Sequence[dict[str, Any]], copy_bytes_per_s: float) -> None:
    """Tokens and bytes per second of every row that was run, and their share of the copy's."""
    for row in rows:
        if row.get("samples_s"):
            step_s = median(row["samples_s"])
            rate = row["read_bytes"] / step_s
            row |= {
                "step_s": step_s,
                "predicted_s": row["read_bytes"] / copy_bytes_per_s,
                "tokens_per_s": row["batch"] / step_s,
                "bytes_per_s": rate,
                "of_copy": rate / copy_bytes_per_s,
            }


def conclude(rows: Sequence[dict[str, Any]], copy_bytes_per_s: float) -> str:
    """What each series reaches at batch 1, and what replaying is worth."""
    known = {(row["model"], row["batch"], row["context"], row["series"]): row for row in rows if "step_s" in row}
    parts = [f"A copy moves {copy_bytes_per_s / 1e9:,.0f} GB/s."]
    for (model, batch, context, series), row in known.items():
        if batch != 1:
            continue
        parts.append(
            f"{model} at {context} tokens, {series}: {row['tokens_per_s']:.1f} tokens/s, "
            f"{row['bytes_per_s'] / 1e9:,.0f} GB/s, {row['of_copy']:.0%} of it."
        )
    for series, words in (("loop", "The loop"), ("fused", "The loop over fused steps")):
        gains = [
            row["step_s"] / known[*key, series]["step_s"]
            for (*key, other), row in known.items()
            if other == "plain" and (*key, series) in known
        ]
        if gains:
            parts.append(f"{words} is {median(gains):.2f} times as fast as plain steps ({len(gains)} sizes).")
    failed = sorted({f"{row['model']}, {row['series']}: {row['reason']}" for row in rows if "reason" in row})
    return " ".join([*parts, *(f"{one}." for one in failed)])


def _rows(models: Sequence[str], place: torch.device, scale: Scale, compiled: bool) -> list[dict[str, Any]]:
    """All models, or the first one compiled; an error ends its model, and is a row."""
    rows: list[dict[str, Any]] = []
    series = "compiled" if compiled else "loop"
    for name in models[:1] if compiled else models:
        arch = resolve_model(name)[1]
        try:
            rows += measure(name, arch, place, scale, compiled=compiled)
        except Exception as error:  # compilers and graphs fail in many ways; what was measured before stays
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            print(f"  {name}, {series}: {reason}", file=sys.stderr)
            rows.append({"model": name, "series": series, "batch": 1, "context": 0, "reason": type(error).__name__})
        _release(place)
    return rows


def _release(place: torch.device) -> None:
    gc.collect()
    if place.type == "cuda":
        torch.cuda.empty_cache()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", default="7b", help="presets with commas (default: 7b)")
    parser.add_argument("--compiled", action="store_true", help="the first model with its blocks compiled, at one size")
    args = parser.parse_args(argv)
    place = resolve_device(args.device)
    rows = _rows(args.models.split(","), place, SCALES[place.type], args.compiled)
    with torch.inference_mode():
        copy = copy_roof(Machine(place, clock_for(place), DTYPE))
    assert copy.per_second is not None
    add_rates(rows, copy.per_second)
    for row in rows:
        head = f"{row['model']:5} {row['series']:9} x{row['batch']:<3} at {row['context']:5} tokens "
        speed = f"{1e3 * row['step_s']:9.3f} ms a step, {row['of_copy']:4.0%} of a copy" if "step_s" in row else ""
        print(head + (speed or row["reason"]))
    refusal = device_of(place).graph_refusal
    graphs = f" Steps were launched one by one, as the device records no graphs: {refusal}." if refusal else ""
    answers.finish(
        QUESTION,
        "decode_series",
        args.out,
        conclude(rows, copy.per_second) + graphs,
        device=args.device,
        dtype=DTYPE,
        copy_bytes_per_s=copy.per_second,
        copy_trusted=copy.trusted,
        measured=rows,
    )


if __name__ == "__main__":
    main()
