"""Roofs in seconds: the same probes as a report's, fewer shapes of each.

Good enough to state an operation's share of the roof; a report's record is better, and can be given instead.
"""

from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import device_of
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
)
from llamalab.measure.timing.deadline import Deadline, ProgressCallback, part_of
from llamalab.model.fastest import fastest_backend
from llamalab.model.host_memory import keep_freed_memory
from llamalab.records.roof import Roof

_ROWS, _ATTENTION_TOKENS = 256, (512,)
SHORT_ROOFS_S = 15.0  # for all of them, where the caller gives no deadline; most machines need a few seconds


def quick_roofs(
    machine: Machine, arch: LlamaArch, *, progress: ProgressCallback = lambda label, done: None
) -> list[Roof]:
    """GEMM, stream, copy, cache, attention and launch in the machine's dtype, and the stream of quantised weights.

    By the machine's deadline (default: SHORT_ROOFS_S from now); a roof without time is absent, with a reason.
    """
    keep_freed_memory()  # as for a compiled model
    machine = machine._replace(deadline=machine.deadline or Deadline(SHORT_ROOFS_S))
    shapes, ours, storage = _shapes(arch), machine.dtype, machine.weight_dtype
    lengths = [machine.filling(tokens) for tokens in _ATTENTION_TOKENS]
    attend = fastest_backend(machine.device, machine.torch_dtype).attend
    steps = [
        RoofStep("products", "gemm", ours, lambda own: quick_gemm(own, arch)),
        RoofStep("stream", "stream", ours, lambda own: stream_roof(own, _streamed(own, arch))),
        RoofStep("copy", "copy", ours, copy_roof),
        RoofStep("cache", "cache", ours, cache_roof),
        RoofStep("attention", "attention", ours, lambda own: attention_roof(own, arch, attend, lengths)),
        RoofStep("launch", "launch", ours, launch_time_roof),
    ]
    if storage is not None:

        def quantised(own: Machine) -> Roof:
            return stream_roof(own._replace(dtype=ours, weight_dtype=storage), shapes)

        steps.insert(0, RoofStep(f"stream of {storage}", "stream", storage, quantised))
    return roofs_in_turn(machine, steps, part_of(progress, 0.0, 1.0, "roof of "))


def quick_gemm(machine: Machine, arch: LlamaArch) -> Roof:
    """The roof of products alone."""
    shapes = _shapes(arch)
    return gemm_roof(machine, shapes, affordable_rows(machine, max(shapes), machine.filling(_ROWS)))


def _streamed(machine: Machine, arch: LlamaArch) -> list[tuple[int, int]]:
    """The shapes; on an accelerator with the head's, since gaps between kernels lower the rate of smaller ones."""
    head = [(arch.vocab_size, arch.dim)] if device_of(machine.device).role == "accelerator" else []
    return [*_shapes(arch), *head]


def _shapes(arch: LlamaArch) -> list[tuple[int, int]]:
    return [(arch.ffn_dim, arch.dim), SQUARE]
