"""Flash attention against naive over lengths: where it becomes faster, by how much, and whether that was predicted.

    python -m experiments.flash_vs_naive [--device auto|cpu|cuda] [--dtype fp32] [--heads 8] [--longest 4096]

Predicted: the pairs of query and key that each algorithm computes, and the bytes it holds, are counted;
what a pair costs is measured at three other lengths of the same heads. Measured: both algorithms in the
same rounds, over lengths that double; a length at which naive does not fit is a row with that reason.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps, total
from llamalab.attention import get_backend
from llamalab.formatting import format_bytes
from llamalab.measure.attention.lab import LabRow, crossover_tokens, lab_machine, run_lab
from llamalab.measure.timing.timer import Plan

QUESTION = "From which length on is flash attention faster than naive, by how much, and can one know before?"

SHORTEST = 256


def shapes(heads: int, longest: int, dtype: str) -> list[AttentionShape]:
    """A prefill per length, each twice as long as the one before."""
    lengths = [SHORTEST << i for i in range(longest.bit_length()) if SHORTEST << i <= longest]
    return [
        AttentionShape(
            batch=1,
            new_tokens=n,
            context_tokens=n,
            n_heads=heads,
            n_kv_heads=heads,
            head_dim=128,
            dtype=dtype,
            kv_dtype=dtype,
        )
        for n in lengths
    ]


def predict(asked: list[AttentionShape]) -> list[dict[str, Any]]:
    """Bytes moved by the two algorithms, from arithmetic alone."""
    rows = []
    for shape in asked:
        naive, flash = total(naive_steps(shape)), flash_step(shape)
        moved = {name: step.read_bytes + step.written_bytes for name, step in (("naive", naive), ("flash", flash))}
        rows.append({"tokens": shape.context_tokens, "moved_bytes": moved, "ratio": moved["naive"] / moved["flash"]})
    return rows


def measure(asked: list[AttentionShape], device: str) -> list[LabRow]:
    """Both algorithms at all lengths."""
    machine, remark = lab_machine(device, asked[0].dtype, asked)
    if remark:
        print(remark, file=sys.stderr)
    backends = [get_backend("naive"), get_backend("sdpa")]
    with torch.inference_mode():

        def progress(label: str, _: float) -> None:
            print(f"  {label}", file=sys.stderr)

        return run_lab(machine, asked, backends, Plan(2.0, 9, 60), progress)


def conclude(rows: list[LabRow]) -> str:
    """What was found, in words."""
    flash = [row for row in rows if row.point.backend == "sdpa" and row.ratio]
    if not flash:
        return "Nothing could be compared: " + "; ".join(sorted({row.point.reason or "" for row in rows}))
    last = flash[-1]
    start, foreseen = crossover_tokens(flash), crossover_tokens(flash, predicted=True)
    ratio_errors = [abs(row.predicted_ratio / row.ratio - 1) for row in flash if row.predicted_ratio and row.ratio]
    peak_errors = [
        abs(row.predicted_peak_bytes / row.point.peak_bytes - 1)
        for row in rows
        if row.predicted_peak_bytes and row.point.peak_bytes
    ]
    naive = next(row for row in rows if row.point.backend == "naive" and row.shape == last.shape)
    lead = f"from {start} tokens on" if start else f"at no length up to {last.shape.context_tokens}"
    return (
        f"Flash is faster {lead} (predicted: {foreseen or 'at none'}). At {last.shape.context_tokens} tokens it takes "
        f"1/{last.ratio:.2f} of naive's time and holds {format_bytes(last.point.peak_bytes or 0)} where naive holds "
        f"{format_bytes(naive.point.peak_bytes or 0)}. Predicted time ratios: worst error {max(ratio_errors):.0%}; "
        f"peak memory: worst error {max(peak_errors):.1%}. Kernel: {last.point.kernel}."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--longest", type=int, default=4096)
    args = parser.parse_args(argv)
    asked = shapes(args.heads, args.longest, args.dtype)
    predicted, rows = predict(asked), measure(asked, args.device)
    for row in rows:
        if row.time_s and row.predicted_s:
            print(
                f"{row.point.backend:6} {row.shape.context_tokens:6} tokens  {row.time_s * 1e3:9.2f} ms  predicted "
                f"{row.predicted_s * 1e3:9.2f}  naive/this {row.ratio or 0:5.2f} ({row.predicted_ratio or 0:5.2f})"
            )
        else:
            print(f"{row.point.backend:6} {row.shape.context_tokens:6} tokens  {row.point.reason}")
    conclusion = conclude(rows)
    measured = [
        {
            "backend": row.point.backend,
            "tokens": row.shape.context_tokens,
            "samples_s": row.point.samples_s,
            "predicted_s": row.predicted_s,
            "ratio": row.ratio,
            "predicted_ratio": row.predicted_ratio,
            "peak_bytes": row.point.peak_bytes,
            "predicted_peak_bytes": row.predicted_peak_bytes,
            "kernel": row.point.kernel,
            "reason": row.point.reason,
        }
        for row in rows
    ]
    answer = {"dtype": args.dtype, "predicted": predicted, "measured": measured}
    answers.finish(QUESTION, "flash_vs_naive", args.out, conclusion, device=args.device, **answer)


if __name__ == "__main__":
    main()
