"""Encodings of positions, trained at one length and read beyond it.

    python -m experiments.positions [--steps 300] [--seeds 0 1 2] [--corpus FOLDER] [--draw PATH.svg] [--full]

None, learned, sinusoidal, RoPE and ALiBi are trained at 128 tokens and read at 128 to 1,024; RoPE as it was trained is
read again stretched: linear, dynamic NTK, YaRN, llama3. Predicted: parameters and bytes that each adds, and which has
scores that depend on the distance only. Measured: that dependence as a number (0: only the distance counts, 1: it
says nothing), perplexity on text never seen, CPU time of a training step, and which kernels take ALiBi's bias here.
"""

import sys
from collections.abc import Sequence
from functools import partial
from math import exp, inf
from pathlib import Path
from statistics import mean
from time import thread_time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from experiments.common import results as answers
from experiments.common import training_runs as runs_of
from experiments.common.position_kinds import (
    STRETCHED,
    TRAINED,
    Placed,
    Spread,
    alibi_bias,
    slopes,
    spread_by_distance,
    stretched,
)
from experiments.common.position_matrices import DRAWN, matrices, rounded
from llamalab import LlamaArch, build
from llamalab.measure.device.machine import resolve_device
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream
from llamalab.train.trainer import Trainer, TrainingPlan, held_out_loss

QUESTION = "How does a model know where a token stands, and what happens beyond the length it was trained on?"

ARCH = LlamaArch(dim=64, n_layers=2, n_heads=4, n_kv_heads=4, ffn_dim=176, vocab_size=512, tied_embeddings=True)
SEQ, BATCH = 128, 8
LENGTHS = (128, 256, 512, 1024)
READ_TOKENS = 8192  # of held-out text, at every length
DISTANCE_ONLY = ("none", "rope", "alibi")  # predicted
SAME = 1e-3  # a spread below this is rounding
_NO_KERNEL = "No viable backend"  # what PyTorch says where the only kernel that it may take cannot do it


def predict() -> list[dict[str, Any]]:
    """What each kind adds, and what its scores depend on."""
    bias = 4 * ARCH.n_heads * SEQ * SEQ
    return [
        {
            "kind": kind, "added_parameters": SEQ * ARCH.dim if kind == "learned" else 0,
            "bias_bytes": bias if kind == "alibi" else 0, "distance_only": kind in DISTANCE_ONLY,
            "longest_tokens": SEQ if kind == "learned" else None,
        }
        for kind in TRAINED
    ]  # fmt: skip


def learn(corpus: Path, real: Path, kind: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one kind with one seed on one thread and read at every length."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    stream = runs_of.stream_in(corpus, real)
    placed = Placed(build(ARCH, dtype="fp32", seed=seed), kind, SEQ)
    plan = TrainingPlan(steps=steps, batch=BATCH, seq=SEQ, seed=seed)
    trainer, begun_s = Trainer(placed, stream, plan, Recipe(3e-3, warmup_steps=max(1, steps // 10))), thread_time()
    for _ in range(steps):
        trainer.step()
    seconds = (thread_time() - begun_s) / steps
    spread = spread_by_distance(placed, DRAWN)
    row = {
        "kind": kind, "seed": seed, "step_cpu_s": seconds, "spread": spread.share,
        "parameters": sum(weight.numel() for weight in placed.parameters()),
        "perplexity": {length: _read(placed, stream, length) for length in LENGTHS},
        "scores": rounded(spread),
    }  # fmt: skip
    if kind == "rope":
        row["stretched"] = {way: _read_stretched(placed, stream, way) for way in STRETCHED}
        row["stretched_scores"] = {way: rounded(_turned(placed, way)) for way in STRETCHED}
    return row


def _read(placed: Placed, stream: TokenStream, length: int) -> float | None:
    """Perplexity over the same held-out tokens in windows of a length; None where there are no rows for it."""
    if placed.rows is not None and length > len(placed.rows):
        return None
    return exp(held_out_loss(placed, stream, seq=length, batch=BATCH * SEQ // length, windows=READ_TOKENS // length))


def _read_stretched(placed: Placed, stream: TokenStream, way: str) -> dict[int, float | None]:
    """The same of RoPE turned otherwise: the factor is that of the length; dynamic NTK finds it by itself."""
    read, trained = {}, placed.model.arch
    for length in LENGTHS:
        factor = 1.0 if way == "dynamic" else length / SEQ
        placed.model.arch = stretched(trained, way, trained_tokens=SEQ, factor=factor)
        read[length] = _read(placed, stream, length)
    placed.model.arch = trained
    return read


def _turned(placed: Placed, way: str) -> Spread:
    """The scores of RoPE turned as for the longest text."""
    trained, factor = placed.model.arch, 1.0 if way == "dynamic" else LENGTHS[-1] / SEQ
    placed.model.arch = stretched(trained, way, trained_tokens=SEQ, factor=factor)
    spread = spread_by_distance(placed, DRAWN)
    placed.model.arch = trained
    return spread


def kernels(place: torch.device) -> dict[str, str]:
    """Which of PyTorch's kernels take a bias on a device, each held to the math kernel's result."""
    torch.manual_seed(0)
    q_BHTE = torch.randn(1, 4, 256, 32, device=place)
    bias_HTS = alibi_bias(4, 256, 256).to(place)
    slope_H = torch.tensor(slopes(4), device=place)

    def flex() -> torch.Tensor:
        def score(score: torch.Tensor, batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor,
                  key: torch.Tensor) -> torch.Tensor:  # fmt: skip
            return torch.where(query >= key, score - slope_H[head] * (query - key), -inf)

        made: torch.Tensor = flex_attention(q_BHTE, q_BHTE, q_BHTE, score_mod=score)  # type: ignore[assignment]
        return made

    def kernel(which: SDPBackend) -> Any:
        def run() -> torch.Tensor:
            with sdpa_kernel(which):
                return scaled_dot_product_attention(q_BHTE, q_BHTE, q_BHTE, attn_mask=bias_HTS[None])

        return run

    tried = {which.name.removesuffix("_ATTENTION").lower(): kernel(which) for which in (
        SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION,
    )}  # fmt: skip
    expected = tried["math"]()
    return {name: _outcome(run, expected) for name, run in (*tried.items(), ("flex", flex))}


def _outcome(run: Any, expected: torch.Tensor) -> str:
    try:
        made = run()
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        return "has no kernel for it" if said.startswith(_NO_KERNEL) else f"refuses: {said}"
    return "runs" if torch.allclose(made, expected, atol=1e-5) else "runs, with another result"


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds: one row a kind, stretched ones after RoPE's."""
    table = []
    for kind in TRAINED:
        own = [row for row in rows if row["kind"] == kind]
        costs = {"spread": max(row["spread"] for row in own), "step_cpu_s": mean(row["step_cpu_s"] for row in own)}
        table.append({"kind": kind} | costs | _means([row["perplexity"] for row in own]))
        ways = STRETCHED if kind == "rope" else ()
        table += [{"kind": f"rope, {way}"} | _means([row["stretched"][way] for row in own]) for way in ways]
    return table


def _means(read: list[dict[int, float | None]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for length in LENGTHS:
        known = [one for row in read if (one := row[length]) is not None]
        found[f"perplexity_{length}"] = mean(known) if known else None
    return found


def conclude(predicted: list[dict[str, Any]], rows: list[dict[str, Any]], ran: dict[str, str]) -> str:
    """Who needs what, who reads further, and whether the seeds agree."""
    table = {row["kind"]: row for row in table_of(rows)}
    only = [kind for kind in TRAINED if table[kind]["spread"] < SAME]
    wanted = [row["kind"] for row in predicted if row["distance_only"]]
    first, longest = f"perplexity_{SEQ}", LENGTHS[-1]
    grown = {kind: [row["perplexity"][longest] / row["perplexity"][SEQ] for row in rows if row["kind"] == kind]
             for kind in TRAINED if kind != "learned"}  # fmt: skip
    order = sorted(grown, key=lambda kind: mean(grown[kind]))
    best = [min(grown, key=lambda kind: grown[kind][place]) for place in range(len(grown[order[0]]))]
    ropes = [row for row in rows if row["kind"] == "rope"]
    ways = {way: [row["stretched"][way][longest] / row["perplexity"][longest] for row in ropes] for way in STRETCHED}
    steady = "with every seed" if set(best) == {order[0]} else f"in the mean, not with every seed ({', '.join(best)})"
    spreads = ", ".join(f"{kind} {table[kind]['spread']:.2g}" for kind in TRAINED)
    read = ", ".join(f"{kind} {table[kind][first]:.2f}" for kind in TRAINED)
    beyond = ", ".join(f"{mean(grown[kind]):.2f} times with {kind}" for kind in order)
    again = ", ".join(f"{mean(shares):.2f} times ({way}{_steady(shares)})" for way, shares in ways.items())
    return (
        f"Scores of equal tokens depend on the distance only with {', '.join(only)} "
        f"({'as predicted' if only == wanted else 'predicted: ' + ', '.join(wanted)}; spread {spreads}). Perplexity at "
        f"{SEQ} tokens: {read}. From {SEQ} to {longest} it becomes {beyond}; learned positions have no row there. "
        f"{order[0]} reads furthest {steady}. Stretched without training, RoPE's perplexity at {longest} is {again} "
        f"that of plain RoPE. ALiBi's bias on this device: {'; '.join(f'{name} {said}' for name, said in ran.items())}."
    )


def _steady(shares: list[float]) -> str:
    """That ratios of several seeds lie on both sides of 1, where they do."""
    return "" if max(shares) < 1 or min(shares) > 1 else ", not with every seed"


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = runs_of.parser(__doc__)
    parser.add_argument("--steps", type=int, default=300, help="of a run, without --full")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(runs_of.SEEDS))
    parser.add_argument("--draw", type=Path, metavar="PATH.svg", help="write the score matrices here")
    args = parser.parse_args(argv)
    plan, predicted = runs_of.prepared(args), predict()
    steps = plan.steps if args.full else args.steps
    keys = [(kind, seed) for seed in args.seeds for kind in TRAINED]
    works = [partial(learn, args.corpus, args.real, kind, seed, steps) for kind, seed in keys]
    rows = runs_of.side_by_side(works, [f"{kind}, seed {seed}" for kind, seed in keys])
    for row in rows:
        if row["seed"] != args.seeds[0]:
            del row["scores"]  # one picture is enough
            row.pop("stretched_scores", None)
    ran = kernels(resolve_device("auto"))
    print(f"{'':14}{'spread':>9}{'step ms':>9}" + "".join(f"{length:>9}" for length in LENGTHS) + "  perplexity")
    for row in table_of(rows):
        cells = [row.get("spread"), row.get("step_cpu_s", None) and row["step_cpu_s"] * 1e3]
        cells += [row[f"perplexity_{length}"] for length in LENGTHS]
        print(f"{row['kind']:14}" + "".join(f"{'–' if one is None else f'{one:.3g}':>9}" for one in cells))
    if args.draw is not None:
        matrices(rows, args.draw)
        print(f"wrote {args.draw}", file=sys.stderr)
    answers.finish(
        QUESTION, "positions", args.out, conclude(predicted, rows, ran), arch=ARCH.as_dict(), steps=steps,
        trained_tokens=SEQ, predicted=predicted, measured=rows, table=table_of(rows), kernels=ran,
    )  # fmt: skip


if __name__ == "__main__":
    main()
