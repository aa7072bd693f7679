"""A model that runs its full depth over a few distinct blocks against one with blocks of its own.

    python -m experiments.tied_blocks [--device cpu|cuda] [--rounds N] [--threads N] [--out PATH.json]

Six blocks of 7B's size in bf16, with blocks of their own, over 2, and over as many as `--tie-blocks auto` takes
on this machine. FLOPs and analytic bytes are the same; what could differ is how many of the bytes a cache
serves, at most its size over that of the distinct blocks. All run in the same rounds, in alternating order,
and the untied one twice, which shows the noise; the figure is the median over rounds of the ratio to it.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common.race import quartiles
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.measure.bench.passes import filled_cache
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.device.machine import cache_bytes, clock_for, resolve_device
from llamalab.measure.target.blocks import TIED_ERROR, Depth, bytes_of_block, choose_tied
from llamalab.measure.target.target import tokens_of
from llamalab.measure.timing.timer import Call, Plan, time_variants
from llamalab.model import build
from llamalab.presets import PRESETS

QUESTION = "Is a model that runs its full depth over a few distinct blocks as fast as one with blocks of its own?"

LIMIT = TIED_ERROR
DTYPE = "bf16"
CPU = torch.device("cpu")
# Vocabulary small: the head is not tied, and would hide what is.
ARCH = PRESETS["7b"].arch.replace(n_layers=6, vocab_size=4096)
CASES = {"prefill": BenchCase(64, 0), "decode": BenchCase(0, 1, depth=256)}
UNTIED, AGAIN = "untied", "untied again"


def depths(arch: LlamaArch, place: torch.device = CPU) -> list[Depth]:
    """Over 2 blocks, and over those that are taken where one byte of memory is missing."""
    chosen = choose_tied(arch, DTYPE, room_bytes=weight_bytes(arch, DTYPE) - 1, cache_bytes=cache_bytes(place))
    return [Depth(arch, distinct) for distinct in sorted({2, chosen.distinct})]


def predict(arch: LlamaArch, place: torch.device = CPU) -> list[dict[str, Any]]:
    """Ratios lie between 1 and what a cache that knew the future would leave of the blocks' bytes."""
    block_bytes, cached_bytes = bytes_of_block(arch, DTYPE), cache_bytes(place)
    return [
        {"blocks": depth.label, "least_ratio": round(1 - min(1.0, cached_bytes / (depth.distinct * block_bytes)), 4)}
        for depth in depths(arch, place)
    ]


def measure(arch: LlamaArch, plans: dict[str, Plan], place: torch.device = CPU) -> list[dict[str, Any]]:
    """Seconds of all variants in the same rounds, and their ratios to the untied model."""
    models = {UNTIED: build(arch, dtype=DTYPE, device=place).eval()}
    for depth in depths(arch, place):
        models[depth.label] = build(arch, dtype=DTYPE, device=place, tie_blocks=depth.distinct).eval()
    models[AGAIN] = models[UNTIED]
    found = []
    with torch.inference_mode():
        for phase, case in CASES.items():
            works = {name: _work(model, case, place) for name, model in models.items()}
            samples = time_variants(works, clock_for(place), plans[phase])
            ratios = {name: quartiles(samples[name], samples[UNTIED]) for name in models if name != UNTIED}
            rounds, seconds = len(samples[UNTIED]), median(samples[UNTIED])
            found.append({"phase": phase, **case._asdict(), "rounds": rounds, "untied_s": seconds, "ratios": ratios})
    return found


def _work(model: Any, case: BenchCase, place: torch.device) -> Call:
    """The passes of a case; all models have a cache of their own."""
    cache = filled_cache(model.arch, case, DTYPE, place)
    new, _ = case.passes[0]
    tokens_BT = tokens_of(model.arch, case.batch, new, place)

    def run() -> None:
        cache.rewind(case.depth)
        model(tokens_BT, cache=cache, logits="last")

    return run


def conclude(found: list[dict[str, Any]]) -> str:
    """Whether tied blocks take the same time, in a sentence per phase."""
    lines = []
    for one in found:
        tied = {name: ratio["median"] for name, ratio in one["ratios"].items() if name != AGAIN}
        worst = max(abs(ratio - 1) for ratio in tied.values())
        ratios = ", ".join(f"{name}: {ratio:.3f}" for name, ratio in tied.items())
        verdict = "within" if worst <= LIMIT else "NOT within"
        noise = f"the untied model against itself {one['ratios'][AGAIN]['median']:.3f}"
        lines.append(f"{one['phase']}: time over that of the untied model {ratios}, {verdict} {LIMIT:.0%}; {noise}.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--rounds", type=int, default=105, help="of decode; a fifth of them of prefill (default: 105)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    place = resolve_device(args.device)
    predicted = predict(ARCH, place)
    rounds = {"prefill": max(2, args.rounds // 5), "decode": max(2, args.rounds)}
    measured = measure(ARCH, {phase: Plan(0.0, count, count) for phase, count in rounds.items()}, place)
    answers.finish(
        QUESTION,
        "tied_blocks",
        args.out,
        conclude(measured),
        device=args.device,
        arch=ARCH.as_dict(),
        dtype=DTYPE,
        threads=args.threads,
        predicted=predicted,
        measured=measured,
    )


if __name__ == "__main__":
    main()
