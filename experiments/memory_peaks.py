"""Weights, cache and the peak of activations of a pass, counted before it runs and compared with what it takes.

    python -m experiments.memory_peaks [--device auto|cpu|cuda] [--models 7b] [--out PATH.json]

Two blocks of real size with embedding and head, in bf16: activations do not depend on the depth. Predicted by
llamalab.analytic, from the sizes alone. Measured: on a CPU the allocator's events of one pass, on CUDA what the
caching allocator held above what was there before; the pass has run once before, so that libraries have theirs.
"""

import gc
import sys
from collections.abc import Sequence
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.formatting import format_bytes
from llamalab.measure.bench.passes import filled_cache
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.device.machine import measure_peak, resolve_device
from llamalab.measure.target.target import tokens_of
from llamalab.model import Transformer, build
from llamalab.presets import resolve_model

QUESTION = "Is the memory of a pass known before it runs? Weights, cache and the peak of activations, counted and held."

DTYPE, LAYERS = "bf16", 2
CASES = {
    "cuda": (
        BenchCase(512, 0),
        BenchCase(2048, 0),
        BenchCase(512, 0, 0, 16),
        BenchCase(512, 0, 3584),
        BenchCase(0, 1, 4095),
        BenchCase(0, 1, 4095, 64),
    ),
    "cpu": (
        BenchCase(64, 0),
        BenchCase(256, 0),
        BenchCase(48, 0, 16, 2),
        BenchCase(0, 1, 255),
        BenchCase(0, 1, 255, 4),
    ),
}


def predict(arch: LlamaArch, case: BenchCase) -> dict[str, int]:
    """Bytes that weights and cache take, and activations at their peak."""
    new = max(1, case.prompt)
    peak = peak_activation_bytes(
        arch, PassShape(new_tokens=new, context_tokens=case.context, batch=case.batch, dtype=DTYPE)
    )
    held = weight_bytes(arch, DTYPE) + kv_bytes(arch, seq=case.context, batch=case.batch, dtype=DTYPE)
    return {"predicted_resident_bytes": held, "predicted_peak_bytes": peak.bytes}


def measure(model: Transformer, case: BenchCase, place: torch.device) -> dict[str, Any]:
    """The same of one pass; the allocator's own scratch and slack beside it."""
    cache = filled_cache(model.arch, case, DTYPE, place)
    tokens_BT = tokens_of(model.arch, case.batch, max(1, case.prompt), place)

    def run() -> None:
        cache.rewind(case.depth)
        model(tokens_BT, cache=cache, logits="last")

    run()
    weights = sum(weight.nbytes for weight in model.parameters())
    found = measure_peak(run, place, resident_bytes=weights + cache.nbytes)
    return {
        "resident_bytes": found.resident_bytes,
        "peak_bytes": found.peak_bytes,
        "method": found.method,
        "process_peak_bytes": found.process_peak_bytes,
        "reason": found.reason,
    }


def conclude(rows: list[dict[str, Any]]) -> str:
    """The worst errors."""
    known = [row for row in rows if row["peak_bytes"] is not None]
    exact = all(row["resident_bytes"] == row["predicted_resident_bytes"] for row in rows)
    lead = f"Weights and cache are {'exactly' if exact else 'NOT'} as counted in {len(rows)} passes."
    if not known:
        return f"{lead} No peak was measured: {rows[0]['reason']}."
    totals = {
        key: [row[f"{key}resident_bytes"] + row[f"{key}peak_bytes"] for row in known] for key in ("", "predicted_")
    }
    errors = [abs(said / seen - 1) for said, seen in zip(totals["predicted_"], totals[""], strict=True)]
    alone = max(known, key=lambda row: abs(row["predicted_peak_bytes"] / row["peak_bytes"] - 1))
    off = alone["predicted_peak_bytes"] / alone["peak_bytes"] - 1
    return (
        f"{lead} With the peak of activations: worst error {max(errors):.2%}. "
        f"Of activations alone, {alone['model']} "
        f"{alone['test']} x{alone['batch']} is off most: {off:+.1%} of {format_bytes(alone['peak_bytes'])}."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", default="7b", help="presets with commas (default: 7b)")
    args = parser.parse_args(argv)
    place, rows = resolve_device(args.device), []
    for name in args.models.split(","):
        arch = resolve_model(name)[1].replace(n_layers=LAYERS)
        with torch.inference_mode():
            model = build(arch, dtype=DTYPE, device=place).eval()
            for case in CASES[place.type]:
                print(f"  {name}, {case.test}, batch {case.batch}", file=sys.stderr)
                settings = {"model": name, "test": case.test, **case._asdict()}
                rows.append(settings | predict(arch, case) | measure(model, case, place))
        del model
        gc.collect()
    for row in rows:
        sizes = f"predicted {row['predicted_peak_bytes']:14,} measured {row['peak_bytes'] or 0:14,}"
        print(f"{row['model']:5}{row['test']:14} x{row['batch']:<3} {sizes}")
    answers.finish(
        QUESTION,
        "memory_peaks",
        args.out,
        conclude(rows),
        device=args.device,
        dtype=DTYPE,
        layers=LAYERS,
        measured=rows,
    )


if __name__ == "__main__":
    main()
