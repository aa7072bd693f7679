"""The roofs of a report: every kind in the run's dtype, products and streams in fp32 beside them."""

from collections.abc import Callable

from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import release_memory
from llamalab.measure.report.budget import (
    Scale,
)
from llamalab.measure.roofs.best import absent_roof
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import cache_roof, copy_roof
from llamalab.measure.roofs.probes import (
    SQUARE,
    affordable_rows,
    attention_roof,
    gemm_roof,
    launch_time_roof,
    stream_roof,
    weight_shapes,
)
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.model.fastest import fastest_backend
from llamalab.records.roof import Roof

ROOFS_DONE = 0.3  # share of the whole run's time


def roofs_of_report(machine: Machine, arch: LlamaArch, scale: Scale, progress: ProgressCallback) -> list[Roof]:
    """The ceilings in the run's dtype, and the product's and stream's in fp32 to hold it against."""
    shapes = weight_shapes(arch)
    heads, rows = [(arch.vocab_size, arch.dim)], affordable_rows(machine, max(shapes), scale.gemm_rows)
    attend, lengths = fastest_backend(machine.device, machine.torch_dtype).attend, scale.attention_tokens[1:4]
    ours, square = machine.dtype, [SQUARE]
    steps: list[tuple[str, str, str, Callable[[Machine], Roof]]] = [
        (f"GEMM roof, {ours}", "gemm", ours, lambda own: gemm_roof(own, shapes, rows)),
        (f"stream roof, {ours}", "stream", ours, lambda own: stream_roof(own, [*shapes, *heads])),
        (f"copy roof, {ours}", "copy", ours, copy_roof),
        (f"cache roof, {ours}", "cache", ours, cache_roof),
        (f"attention roof, {ours}", "attention", ours, lambda own: attention_roof(own, arch, attend, lengths)),
        ("launch time", "launch", ours, launch_time_roof),
    ]
    if (storage := machine.weight_dtype) is not None:

        def quantised(own: Machine) -> Roof:
            return stream_roof(own._replace(dtype=ours, weight_dtype=storage), [*shapes, *heads])

        steps.append((f"stream roof, {storage}", "stream", storage, quantised))
    if ours != "fp32":
        steps += [
            ("GEMM roof, fp32", "gemm", "fp32", lambda own: gemm_roof(own, square, max(1, rows // 4))),
            ("stream roof, fp32", "stream", "fp32", lambda own: stream_roof(own, square)),
        ]
    roofs = []
    for done, (label, kind, dtype, find) in enumerate(steps):
        progress(label, ROOFS_DONE * done / len(steps))
        # Most steps need less than their part: twice of it lets the larger ones have what these leave.
        part = None if machine.deadline is None else machine.deadline.part(min(1.0, 2 / (len(steps) - done)))
        own = machine._replace(dtype=dtype, weight_dtype=None, deadline=part)
        roofs.append(absent_roof(kind, dtype, "there was no time left for it") if own.late else find(own))
        release_memory(machine.device)
    return roofs
