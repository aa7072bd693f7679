"""The built-in model beside transformers and llama.cpp, in bf16, 8 and 4 bits.

    python -m experiments.versus [--device auto|cpu|cuda] [--layers 4] [--dtype bf16] [--rounds 7] [--compiled]
                                 [--only llamalab,llama.cpp] [--folder DIR] [--out PATH.json]

Blocks of 7B, some of them, with embedding and head; a prompt of 512 tokens, then steps of one. Each contestant runs in
a process of its own, with its own memory settings and the same threads, and only one at a time: rounds go through all
of them, there and back. Of a contestant's ways those are raced that came within 15 % of its best in the warm-up.
llama.cpp, through xllamacpp, tells its own times of a pass. A ratio is the median over the rounds of two times of one
round, its interval from resampling the rounds. On CUDA the built-in model and transformers run in one dtype: 8 and 4
bits and llama.cpp have kernels for the CPU alone.
Predicted: decode reads every weight and the cache once, so in 8 and 4 bits it is faster by the bytes; prefill is its
matrix products, whatever weights are kept in.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common.contestants import CONTESTANTS, HERE, PRODUCTS, PROMPT, READ, READ_BYTES, entries
from experiments.common.race import Ratio, ratio
from experiments.common.sides import Side, ask, end, started
from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.op import add_up
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.choices import PHASES
from llamalab.errors import InputError
from llamalab.hardware import CPU
from llamalab.measure.device.machine import resolve_device
from llamalab.measure.roofs.kernel_rows import product_here
from llamalab.presets import PRESETS
from llamalab.startup.large_pages import ask_for_large_pages
from llamalab.units import QUANTISED, KeptWeights

QUESTION = "How fast is the built-in model beside transformers and llama.cpp, in bf16, 8 and 4 bits?"

OURS = "llamalab {}"
# Of each phase and rival: how many times as fast the built-in model is to be.
BARS = (
    ("prefill", "llamalab bf16", "transformers", 1.2),
    ("prefill", "llamalab bf16", "transformers compiled", 1.2),
    ("prefill", "llamalab bf16", "llama.cpp bf16", 1.0),
    ("decode", "llamalab bf16", "transformers", 1.25),
    ("decode", "llamalab bf16", "transformers compiled", 1.25),
    ("decode", "llamalab int8", "llamalab bf16", 1.8),
    ("decode", "llamalab int4", "llamalab bf16", 2.8),
    ("decode", "llamalab bf16", "llama.cpp bf16", 1.0),
    ("decode", "llamalab int8", "llama.cpp q8_0", 1.0),
    ("decode", "llamalab q4_0", "llama.cpp q4_0", 1.0),
    ("decode", "llamalab int4", "llama.cpp q4_0", 1.0),
)
_NEAR = 1.15  # times the best of its contestant that a way may take in the warm-up and still be raced


def predict(arch: LlamaArch, dtype: str, storages: Sequence[str] = QUANTISED) -> dict[str, float]:
    """FLOPs of the prefill and bytes of a decode step by storage, counted; `storages` beside `dtype`."""
    flops = add_up(model_ops(arch, PassShape(new_tokens=PROMPT, dtype=dtype))).flops_causal
    found = {"prefill_flops": float(flops)}
    for storage in (dtype, *storages):
        kept = KeptWeights(storage, _product(dtype, storage)) if storage in QUANTISED else None
        decode = add_up(model_ops(arch, PassShape(new_tokens=1, context_tokens=PROMPT + 1, dtype=dtype), kept=kept))
        found[f"decode_read_bytes {storage}"] = float(decode.weight_bytes + decode.read_bytes)
    return found


def _product(dtype: str, storage: str) -> str:
    """The kernel whose bytes a step reads."""
    return product_here(torch.device("cpu"), dtype, storage)


def measure(
    arch: LlamaArch,
    dtype: str,
    rounds: int,
    only: Sequence[str],
    folder: Path,
    *,
    place: torch.device = HERE,
    compiled: bool = False,
    phases: Sequence[str] = PHASES,
) -> dict[str, dict[str, list[float]]]:
    """Seconds a token of every variant, by contestant, one sample a round; the first passes, which compile, apart.

    Of phases that are not named only these first passes are run: a step needs a prompt before it.
    """
    sides: dict[str, Side] = {}
    samples: dict[str, dict[str, list[float]]] = {}
    try:
        for entry in entries(dtype, only, place=place, compiled=compiled):
            print(f"  building {entry.name}", file=sys.stderr)
            sides[entry.name] = started(entry, arch, dtype, folder)
        order = [(side, name) for side, (_, _, names) in sides.items() for name in names]
        samples = {side: {name: [] for name in names} for side, (_, _, names) in sides.items()}
        warm = {one: ask(sides[one[0]], one[1]) for one in order}
        again = [one for one in order if place.type != CPU or "compiled" in one[1]]  # first runs compile and record
        warm |= {one: ask(sides[one[0]], one[1]) for one in again}
        for (side, name), seconds in warm.items():
            print(f"  warm-up: {side}, {name}: {seconds * 1e3:.1f} ms a token", file=sys.stderr)
        order = [one for one in near_the_best(warm) if phase_of(one[1]) in phases]
        for turn in range(rounds):
            print(f"  round {turn + 1} of {rounds}", file=sys.stderr)
            for side, name in order if turn % 2 == 0 else order[::-1]:
                samples[side][name].append(ask(sides[side], name))
    finally:
        end(sides.values())
    return {side: {name: times for name, times in rows.items() if times} for side, rows in samples.items()}


def near_the_best(warm_s: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
    """Of (side, way) with the seconds of a warm-up those that may be the best of their contestant; all yardsticks.

    >>> near_the_best({("a", "decode, x"): 1.0, ("a", "decode, y"): 1.1, ("a", "decode, z"): 1.6, ("a", "sum"): 0.1})
    [('a', 'decode, x'), ('a', 'decode, y'), ('a', 'sum')]
    """
    ways = {place: seconds for place, seconds in warm_s.items() if place[1].startswith(PHASES)}
    least: dict[tuple[str, str], float] = {}
    for (side, name), seconds in ways.items():
        rival = contestant(side, name), phase_of(name)
        least[rival] = min(seconds, least.get(rival, seconds))
    far = {place for place, seconds in ways.items() if seconds > _NEAR * least[contestant(*place), phase_of(place[1])]}
    return [place for place in warm_s if place not in far]


def contestant(side: str, name: str) -> str:
    """Who runs a way: what torch.compile made of transformers is a contestant of its own."""
    compiled = side == "transformers" and ", compiled" in name.partition(" cache")[0]
    return f"{side} compiled" if compiled else side


def phase_of(name: str) -> str:
    """The phase of a variant; yardsticks belong to decode, which is held against them."""
    return name.partition(",")[0] if name.startswith(PHASES) else "decode"


def best(samples: dict[str, list[float]], phase: str) -> str:
    """The variant of that phase with the smallest median."""
    return min((name for name in samples if name.startswith(phase)), key=lambda name: median(samples[name]))


def summary(samples: dict[str, dict[str, list[float]]], predicted: dict[str, float], dtype: str) -> dict[str, Any]:
    """Tokens per second of each contestant's best variant, the ratios that the bars are about, and the reads."""
    phases = [phase for phase in PHASES if any(phase_of(name) == phase for rows in samples.values() for name in rows)]
    samples = apart(samples)
    bests = {side: {phase: best(rows, phase) for phase in phases} for side, rows in samples.items()}
    times = {side: {phase: samples[side][name] for phase, name in names.items()} for side, names in bests.items()}
    ratios = []
    for phase, ours, rival, bar in BARS:
        if phase in phases and ours in times and rival in times:
            found = ratio(times[rival][phase], times[ours][phase])
            ratios.append({"phase": phase, "ours": ours, "rival": rival, "bar": bar, **found._asdict()})
    return {
        "tokens_per_s": {
            side: {phase: 1 / median(one) for phase, one in phases.items()} for side, phases in times.items()
        },
        "variants": bests,
        "ratios": ratios,
        "of_best_read": _reads(samples, times, predicted, dtype),
        "ceilings": _ceilings(samples, times, OURS.format(dtype)),
    }


def apart(samples: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """The samples by contestant."""
    found: dict[str, dict[str, list[float]]] = {}
    for side, rows in samples.items():
        for name, times_s in rows.items():
            found.setdefault(contestant(side, name), {})[name] = times_s
    return found


def _ceilings(
    samples: dict[str, dict[str, list[float]]], times: dict[str, dict[str, list[float]]], ours: str
) -> dict[str, dict[str, float]]:
    """By rival: how many times as fast as it the matrix products of a prompt are alone, which no pass can beat."""
    alone = samples.get(ours, {}).get(PRODUCTS)
    if alone is None:
        return {}
    return {
        rival: ratio(own["prefill"], alone)._asdict()
        for rival, own in times.items()
        if rival.startswith("transformers") and "prefill" in own
    }


def _reads(
    samples: dict[str, dict[str, list[float]]], times: dict[str, dict[str, list[float]]], predicted: dict[str, float],
    dtype: str,
) -> dict[str, float]:  # fmt: skip
    """The share of the fastest read of memory that each storage's decode reaches."""
    first = OURS.format(dtype)
    if first not in samples or READ not in samples[first] or "decode" not in times[first]:
        return {}
    found = {}
    for storage in (dtype, *QUANTISED):
        if (side := OURS.format(storage)) in times:
            share = ratio(samples[first][READ], times[side]["decode"]).middle
            found[storage] = share * predicted[f"decode_read_bytes {storage}"] / READ_BYTES
    return found


def conclude(found: dict[str, Any]) -> str:
    """What was found, in words; an interval that holds 1 shows no difference."""
    parts = []
    for one in found["ratios"]:
        made = Ratio(one["middle"], one["low"], one["high"])
        rate = found["tokens_per_s"][one["ours"]][one["phase"]]
        parts.append(
            f"{one['phase'].capitalize()}, {one['ours']}: {rate:.1f} tokens/s, {made.words} times {one['rival']}"
            f"{', no difference seen' if made.low <= 1 <= made.high else ''}."
        )
    for rival, one in found["ceilings"].items():
        made = Ratio(one["middle"], one["low"], one["high"])
        parts.append(f"The GEMM ceiling: a prompt's products alone are {made.words} times as fast as {rival}.")
    if found["of_best_read"]:
        shares = ", ".join(f"{storage} {share:.0%}" for storage, share in found["of_best_read"].items())
        parts.append(f"Of the fastest read of memory, decode reaches: {shares}.")
    return " ".join(parts)


def headline(answer: Mapping[str, Any]) -> str:
    """An answer in a few words, for readers who do not know the contestants."""
    rates: dict[str, dict[str, float]] = answer["found"]["tokens_per_s"]
    ours = {side.removeprefix("llamalab "): own for side, own in rates.items() if side.startswith("llamalab")}
    shown = ", ".join(f"{own['decode']:.1f} in {storage}" for storage, own in ours.items())
    where = f"On {answer['device']} with {answer['threads']} threads"
    parts = [f"{where}, {answer['layers']} blocks of 7B with embedding and head write {shown} tokens/s."]
    for phase in PHASES:
        against = [
            f"{one['middle']:.2f} times {one['rival']} ({one['ours'].removeprefix('llamalab ')})"
            for one in answer["found"]["ratios"]
            if one["phase"] == phase and not one["rival"].startswith("llamalab")
        ]
        if against:
            parts.append(f"Speed of {phase}: {', '.join(against)}.")
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--phase", default=",".join(PHASES), help="what is timed: prefill, decode or both")
    parser.add_argument("--compiled", action="store_true", help="with the compiled variants, where there are any")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep llama.cpp's files here, and take those there")
    args = parser.parse_args(argv)
    ask_for_large_pages()  # of the contestants' processes, as every command does
    only = tuple(args.only.split(","))
    if unknown := set(only) - set(CONTESTANTS):
        raise InputError(f"--only must name some of {', '.join(CONTESTANTS)}; got {', '.join(sorted(unknown))}")
    place = resolve_device(args.device)
    arch = PRESETS["7b"].arch.replace(n_layers=args.layers)
    predicted = predict(arch, args.dtype, QUANTISED if place.type == CPU else ())
    with TemporaryDirectory(prefix="llamalab-versus-") as folder:
        kept = args.folder or Path(folder)
        samples = measure(
            arch, args.dtype, args.rounds, only, kept, place=place, compiled=args.compiled, phases=args.phase.split(",")
        )
    for side, rows in samples.items():
        for name, times_s in rows.items():
            print(f"{side:15} {name:50} {median(times_s) * 1e3:8.2f} ms a token, least {min(times_s) * 1e3:8.2f}")
    found = summary(samples, predicted, args.dtype)
    answers.finish(
        QUESTION, "versus", args.out, conclude(found), device=args.device, dtype=args.dtype, layers=args.layers,
        threads=torch.get_num_threads(), predicted=predicted, samples_s_per_token=samples, found=found,
    )  # fmt: skip


if __name__ == "__main__":
    main()
