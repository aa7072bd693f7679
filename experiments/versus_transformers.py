"""QUESTION: how much faster is the built-in model than transformers, and how near to the machine's limit?

    python -m experiments.versus_transformers [--layers 4] [--dtype bf16] [--rounds 7] [--out PATH.json]

Blocks of 7B, some of them, with embedding and head; a prompt of 512 tokens, then steps of one. Each side runs in a
process of its own, with its own memory settings, and only one at a time: rounds go through all variants of both.
Predicted: decode reads every weight and the cache once, prefill is its matrix products.
"""

import gc
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common.contestants import CONTESTANTS, PROMPT, READ_BYTES, STEPS
from llamalab.analytic.ops import add_up, forward_ops
from llamalab.arch import LlamaArch
from llamalab.measure.timing.timer import paired_ratio
from llamalab.presets import PRESETS

OURS = "compiled blocks"
BARS = {"prefill": 1.2, "decode": 1.25}
PRODUCTS_BAR, STREAM_BAR = 0.85, 0.95


def work(side: str, arch: LlamaArch, dtype: str, pipe: Connection) -> None:
    """A process: makes its turns, then does what it is told and answers with seconds a token."""
    with torch.inference_mode():
        turns = CONTESTANTS[side](arch, dtype)
        pipe.send(list(turns))
        gc.disable()
        while (name := pipe.recv()) is not None:
            turn = turns[name]
            turn.before()
            began = time.perf_counter()
            turn.work()
            pipe.send((time.perf_counter() - began) / turn.tokens)


def predict(arch: LlamaArch, dtype: str) -> dict[str, float]:
    """FLOPs of the prefill and bytes of a decode step, counted."""
    prefill = add_up(forward_ops(arch, new_tokens=PROMPT, dtype=dtype, logits="last"))
    decode = add_up(forward_ops(arch, new_tokens=1, context_tokens=PROMPT + 1, dtype=dtype, logits="last"))
    return {"prefill_flops": prefill.flops_causal, "decode_read_bytes": decode.weight_bytes + decode.read_bytes}


def measure(arch: LlamaArch, dtype: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds a token of every variant, by side, one sample a round; the first passes, which compile, apart."""
    context, sides = get_context("spawn"), {}
    for side in CONTESTANTS:
        ours, other = context.Pipe()
        process = context.Process(target=work, args=(side, arch, dtype, other), daemon=True)
        process.start()
        sides[side] = (process, ours, ours.recv())
    order = [(side, name) for side, (_, _, names) in sides.items() for name in names]

    def ask(side: str, name: str) -> float:
        sides[side][1].send(name)
        return float(sides[side][1].recv())

    samples: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    try:
        for side, name in order * 2:
            print(f"  warm-up: {side}, {name}: {ask(side, name) * 1e3:.1f} ms a token", file=sys.stderr)
        for turn in range(rounds):
            print(f"  round {turn + 1} of {rounds}", file=sys.stderr)
            for side, name in order if turn % 2 == 0 else order[::-1]:
                samples[side].setdefault(name, []).append(ask(side, name))
    finally:
        for process, pipe, _ in sides.values():
            pipe.send(None)
            process.join(10)
    return samples


def best(samples: dict[str, list[float]], phase: str) -> str:
    """The variant of that phase with the smallest median."""
    return min((name for name in samples if name.startswith(phase)), key=lambda name: median(samples[name]))


def summary(samples: dict[str, dict[str, list[float]]], predicted: dict[str, float]) -> dict[str, Any]:
    """The ratios that the bars are about."""
    ours, found = samples["llamalab"], {}
    for phase in BARS:
        rival = best(samples["transformers"], phase)
        mine = ours[f"{phase}, {OURS}"]
        found[phase] = {
            "tokens_per_s": 1 / median(mine), "rival": rival,
            "rival_tokens_per_s": 1 / median(samples["transformers"][rival]),
            "ratio": paired_ratio(samples["transformers"][rival], mine),
            "of_its_products": paired_ratio(ours[f"{phase}, its products alone"], mine),
        }  # fmt: skip
    mine, reads = ours[f"decode, {OURS}"], ours["decode, sum of 2 GiB"]
    found["decode"]["bytes_per_s"] = predicted["decode_read_bytes"] / median(mine)
    found["decode"]["best_read_bytes_per_s"] = READ_BYTES / median(reads)
    found["decode"]["of_best_read"] = paired_ratio(reads, mine) * predicted["decode_read_bytes"] / READ_BYTES
    return found


def conclude(found: dict[str, Any]) -> str:
    """What was found, in words, with the bars that it meets or misses."""
    parts = []
    for phase, bar in BARS.items():
        one, rival = found[phase], found[phase]["rival"].removeprefix(phase + ", ")
        parts.append(
            f"{phase.capitalize()}: {one['tokens_per_s']:.1f} tokens/s, {one['ratio']:.2f} times the best of "
            f"transformers ({rival}; {_verdict(one['ratio'], bar)} {bar})."
        )
    decode, products = found["decode"], found["prefill"]["of_its_products"]
    share, read = decode["of_best_read"], decode["best_read_bytes_per_s"]
    parts.append(
        f"Decode reads {decode['bytes_per_s'] / 1e9:.1f} GB/s, {share:.0%} of the {read / 1e9:.1f} GB/s of a sum over "
        f"memory ({_verdict(share, STREAM_BAR)} {STREAM_BAR:.0%}) and {decode['of_its_products']:.0%} of its matrix "
        f"products alone; prefill runs at {products:.0%} of its products ({_verdict(products, PRODUCTS_BAR)} "
        f"{PRODUCTS_BAR:.0%})."
    )
    return " ".join(parts)


def _verdict(reached: float, bar: float) -> str:
    return "meets" if reached >= bar else "misses"


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(argv)
    arch = PRESETS["7b"].arch.replace(n_layers=args.layers)
    predicted = predict(arch, args.dtype)
    samples = measure(arch, args.dtype, args.rounds)
    for side, rows in samples.items():
        for name, times_s in rows.items():
            print(f"{side:13} {name:50} {median(times_s) * 1e3:8.2f} ms a token, least {min(times_s) * 1e3:8.2f}")
    found = summary(samples, predicted)
    answers.finish(__doc__, "versus_transformers", args.out, conclude(found), dtype=args.dtype, layers=args.layers,
                   steps=STEPS, predicted=predicted, samples_s_per_token=samples, found=found)  # fmt: skip


if __name__ == "__main__":
    main()
