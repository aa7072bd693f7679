"""Attention backends over lengths: which is fastest where, and how near each comes to its prediction.

    python -m experiments.attention_backends [--device auto|cpu|cuda] [--record PATH.json] [--out PATH.json]

Prefill and decode at the heads of 7B and of 70B, whose 64 heads share 8 of keys and values. All backends run in
the same rounds. Predicted: the counted work over the roofs or constants of a record of this machine, which are those
of the backend that its model ran. A backend that cannot do a call, or fails in it, is a row with the reason.
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from experiments.common import results as answers
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend, get_backend
from llamalab.comparison.attention_rows import shape_of_point
from llamalab.comparison.comparison import Comparison
from llamalab.measure.attention.calls import measure_attention, obstacle, random_inputs
from llamalab.measure.attention.lab import lab_machine
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan
from llamalab.presets import PRESETS
from llamalab.records.record import AttentionPoint, Record
from llamalab.records.record_json import record_from_json

QUESTION = "Which attention backend is fastest where, and how near does each come to what was predicted?"

DTYPE = "bf16"
HEADS = {"7b": (32, 32), "70b": (64, 8)}


class Scale(NamedTuple):
    """What is run on a kind of device: tokens of a prefill, (batch, context) of a decode step."""

    backends: tuple[str, ...]
    prefill: tuple[int, ...]
    decode: tuple[tuple[int, int], ...]
    plan: Plan


SCALES = {
    "cuda": Scale(
        ("naive", "flash", "cudnn", "efficient", "triton", "sdpa"),
        (1024, 2048, 4096, 8192),
        ((1, 4096), (8, 4096), (32, 4096)),
        Plan(0.5, 10, 60),
    ),
    "cpu": Scale(("naive", "sdpa", "chunked"), (256, 1024), ((1, 1024), (8, 1024)), Plan(0.5, 3, 20)),
}


def shapes(scale: Scale) -> list[AttentionShape]:
    """Every call, prefill first."""
    asked = [(1, tokens, tokens) for tokens in scale.prefill] + [(batch, 1, context) for batch, context in scale.decode]
    return [AttentionShape(*size, *heads, 128, DTYPE, DTYPE) for heads in HEADS.values() for size in asked]


def measure(machine: Machine, asked: Sequence[AttentionShape], scale: Scale) -> list[AttentionPoint]:
    """All backends at all shapes."""
    points = []
    backends = [get_backend(name) for name in scale.backends]
    for shape in asked:
        print(
            f"  {shape.n_heads}/{shape.n_kv_heads} heads, batch {shape.batch}, {shape.new_tokens} of "
            f"{shape.context_tokens} tokens",
            file=sys.stderr,
        )
        left_out = {backend.name: fault for backend in backends if (fault := fault_of(machine, shape, backend))}
        points += _measured(machine, shape, backends, scale.plan, left_out)
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
    return points


def _measured(
    machine: Machine, shape: AttentionShape, backends: Sequence[Backend], plan: Plan, left_out: dict[str, str]
) -> list[AttentionPoint]:
    """All in the same rounds; where that fails, each by itself, and the one at fault is left out."""
    try:
        return measure_attention(machine, shape, backends, plan, left_out=left_out)
    except Exception as error:  # as in `fault_of`: in a graph a call may fail that did not before
        running = [backend for backend in backends if backend.name not in left_out]
        if len(backends) == 1:
            return measure_attention(machine, shape, backends, plan, left_out={running[0].name: _refusal(error)})
    return [point for backend in backends for point in _measured(machine, shape, [backend], plan, left_out)]


def fault_of(machine: Machine, shape: AttentionShape, backend: Backend) -> str | None:
    """Why a backend is left out: it says so itself, or a first call fails; None where it runs."""
    reason = obstacle(machine, shape, backend)
    if reason is not None:
        return reason
    try:
        random_inputs(machine, shape).call(backend)()
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
    except Exception as error:  # a kernel of another library: anything can come
        return _refusal(error)
    return None


def _refusal(error: Exception) -> str:
    """In a line, without the paths of this machine."""
    line = " ".join(f"failed: {type(error).__name__}: {error}".split())
    return re.sub(r"(/[\w.-]+){2,}", "(a path)", line)[:300]


def predict(points: Sequence[AttentionPoint], record: Record | None) -> list[float | None]:
    """Seconds by the record's roofs or constants, of naive attention and of the backend that its model ran.

    Unknown without a record. Its model stands for one whose weights and cache no cache of the processor holds.
    """
    if record is None:
        return [None] * len(points)
    known = replace(record, arch=PRESETS["7b"].arch.as_dict(), attention=list(points))
    return [row.predicted_s for row in Comparison(known).attention]


def fastest(points: Sequence[AttentionPoint]) -> dict[AttentionShape, AttentionPoint]:
    """The fastest backend at each shape where any ran; `sdpa`, which chooses one of the others, does not count."""
    best: dict[AttentionShape, AttentionPoint] = {}
    for point in points:
        if not point.samples_s or point.backend == "sdpa":
            continue
        shape = shape_of_point(point)
        if shape not in best or median(point.samples_s) < median(best[shape].samples_s):
            best[shape] = point
    return best


def conclude(points: Sequence[AttentionPoint], predicted: Sequence[float | None]) -> str:
    """Who is fastest how often, how good `sdpa` chooses, and who could not run."""
    best, parts = fastest(points), []
    for phase in ("prefill", "decode"):
        own = [point.backend for shape, point in best.items() if (shape.new_tokens == 1) == (phase == "decode")]
        counts = ", ".join(f"{name} {count}" for name, count in Counter(own).most_common())
        parts.append(f"Fastest in {phase}, of {len(own)} shapes: {counts or 'none ran'}.")
    chosen = {
        shape_of_point(point): median(point.samples_s)
        for point in points
        if point.backend == "sdpa" and point.samples_s
    }
    ratios = [seconds / median(best[shape].samples_s) for shape, seconds in chosen.items() if shape in best]
    if ratios:
        parts.append(f"What sdpa chooses takes {median(ratios):.2f} times the fastest, at worst {max(ratios):.2f}.")
    errors = [
        abs(seconds / median(point.samples_s) - 1)
        for point, seconds in zip(points, predicted, strict=True)
        if seconds is not None and point.samples_s and point.algorithm == "flash"
    ]
    if errors:
        parts.append(f"Fused attention is predicted with a median error of {median(errors):.0%}.")
    absent = {point.backend for point in points} - {point.backend for point in points if point.samples_s}
    reasons = {point.backend: point.reason for point in points if point.backend in absent}
    return " ".join([*parts, *(f"{name} did not run: {reason}." for name, reason in sorted(reasons.items()))])


def _print_table(points: Sequence[AttentionPoint], predicted: Sequence[float | None]) -> None:
    for point, seconds in zip(points, predicted, strict=True):
        head = (
            f"{point.n_heads}/{point.n_kv_heads} x{point.batch} {point.new_tokens} of {point.context_tokens}  "
            f"{point.backend:10}"
        )
        prediction = "" if seconds is None else f" predicted {1e3 * seconds:9.3f}"
        print(
            head + (f"{1e3 * median(point.samples_s):9.3f} ms{prediction}" if point.samples_s else f" {point.reason}")
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, hold against predictions, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--record", type=Path, metavar="PATH.json", help="of this machine, to predict from")
    args = parser.parse_args(argv)
    machine, _ = lab_machine(args.device, DTYPE, shapes(SCALES["cpu"]))
    scale = SCALES[machine.device.type]
    record = None
    if args.record is not None and args.record.is_file():
        record = record_from_json(args.record.read_text(encoding="utf-8"), source=args.record.name)
    with torch.inference_mode():
        points = measure(machine, shapes(scale), scale)
    predicted = predict(points, record)
    _print_table(points, predicted)
    measured: list[dict[str, Any]] = [
        asdict(point) | {"predicted_s": seconds} for point, seconds in zip(points, predicted, strict=True)
    ]
    answers.finish(
        QUESTION,
        "attention_backends",
        args.out,
        conclude(points, predicted),
        device=args.device,
        dtype=DTYPE,
        measured=measured,
    )


if __name__ == "__main__":
    main()
