"""Roofs in seconds: the same probes as a report's, fewer shapes of each.

Good enough to say what share of the machine an operation reached; a report's record is better, and
can be given instead.
"""

from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import device_of
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
from llamalab.model.fastest import fastest_backend
from llamalab.model.host_memory import keep_freed_memory
from llamalab.records.roof import Roof

_ROWS, _ATTENTION_TOKENS = 256, (512,)


def quick_roofs(machine: Machine, arch: LlamaArch) -> list[Roof]:
    """GEMM, stream, copy, cache, attention and launch in the machine's dtype, and the stream of quantised weights."""
    keep_freed_memory()  # as a model that is compiled does
    shapes = _shapes(arch)
    lengths = [machine.filling(tokens) for tokens in _ATTENTION_TOKENS]
    quantised = [] if machine.weight_dtype is None else [stream_roof(machine, shapes)]
    machine = machine._replace(weight_dtype=None)
    return [
        *quantised,
        quick_gemm(machine, arch),
        stream_roof(machine, _streamed(machine, arch)),
        copy_roof(machine),
        cache_roof(machine),
        attention_roof(machine, arch, fastest_backend(machine.device, machine.torch_dtype).attend, lengths),
        launch_time_roof(machine),
    ]


def quick_gemm(machine: Machine, arch: LlamaArch) -> Roof:
    """The roof of products alone."""
    shapes = _shapes(arch)
    return gemm_roof(machine, shapes, affordable_rows(machine, max(shapes), machine.filling(_ROWS)))


def _streamed(machine: Machine, arch: LlamaArch) -> list[tuple[int, int]]:
    """The shapes; on an accelerator the head's too, as the gap between kernels counts against smaller ones."""
    head = [(arch.vocab_size, arch.dim)] if device_of(machine.device).role == "accelerator" else []
    return [*_shapes(arch), *head]


def _shapes(arch: LlamaArch) -> list[tuple[int, int]]:
    return [(arch.ffn_dim, arch.dim), SQUARE]
