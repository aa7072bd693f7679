"""The roofs of a report: every kind in the run's dtype, and products and streams in fp32 too."""

from llamalab.arch import LlamaArch
from llamalab.measure.report.budget import (
    Scale,
)
from llamalab.measure.roofs.in_turn import RoofStep, roofs_in_turn
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
from llamalab.measure.timing.deadline import ProgressCallback, part_of
from llamalab.model.fastest import fastest_backend
from llamalab.records.roof import Roof

ROOFS_DONE = 0.3  # share of the whole run's time


def roofs_of_report(machine: Machine, arch: LlamaArch, scale: Scale, progress: ProgressCallback) -> list[Roof]:
    """The roofs in the run's dtype, and those of product and stream in fp32 for comparison."""
    shapes = weight_shapes(arch)
    heads, rows = [(arch.vocab_size, arch.dim)], affordable_rows(machine, max(shapes), scale.gemm_rows)
    attend, lengths = fastest_backend(machine.device, machine.torch_dtype).attend, scale.attention_tokens[1:4]
    ours, square = machine.dtype, [SQUARE]
    steps = [
        RoofStep(f"GEMM roof, {ours}", "gemm", ours, lambda own: gemm_roof(own, shapes, rows)),
        RoofStep(f"stream roof, {ours}", "stream", ours, lambda own: stream_roof(own, [*shapes, *heads])),
        RoofStep(f"copy roof, {ours}", "copy", ours, copy_roof),
        RoofStep(f"cache roof, {ours}", "cache", ours, cache_roof),
        RoofStep(f"attention roof, {ours}", "attention", ours, lambda own: attention_roof(own, arch, attend, lengths)),
        RoofStep("launch time", "launch", ours, launch_time_roof),
    ]
    if (storage := machine.weight_dtype) is not None:

        def quantised(own: Machine) -> Roof:
            return stream_roof(own._replace(dtype=ours, weight_dtype=storage), [*shapes, *heads])

        steps.append(RoofStep(f"stream roof, {storage}", "stream", storage, quantised))
    if ours != "fp32":
        steps += [
            RoofStep("GEMM roof, fp32", "gemm", "fp32", lambda own: gemm_roof(own, square, max(1, rows // 4))),
            RoofStep("stream roof, fp32", "stream", "fp32", lambda own: stream_roof(own, square)),
        ]
    return roofs_in_turn(machine, steps, part_of(progress, 0.0, ROOFS_DONE))
