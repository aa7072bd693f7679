"""Roofs that a pass exceeded are probed again, right after the passes.

A disturbance during the first probe may be over. Where the second probe is still slower than the pass, the rate of the
pass becomes the roof (llamalab.comparison.held_roofs).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from llamalab.comparison.held_roofs import above, hold_roofs
from llamalab.measure.device.machine import clock_for, release_memory
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import cache_roof, copy_roof
from llamalab.measure.roofs.probes import attention_roof, gemm_roof, stream_roof, weight_shapes
from llamalab.model.fastest import fastest_backend
from llamalab.records.record import Record
from llamalab.records.roof import Roof

TURNS = 2  # the machine may still be slowed down in the first
Find = Callable[[], Roof]


def probe_again(record: Record, device: torch.device) -> Record:
    """The record with roofs that no pass exceeds: exceeded ones are probed again, then raised to the pass's rate."""
    held = hold_again(record, finders(record, device))
    release_memory(device)
    return held


def hold_again(record: Record, finders: Mapping[str, Find]) -> Record:
    """The same, for given probes by kind of roof."""
    for _ in range(TURNS):
        better = {one.kind: finders[one.kind]() for one in above(record) if one.kind in finders}
        if not better:
            break
        record = replace(record, roofs=[_best(roof, better.get(roof.kind), record.dtype) for roof in record.roofs])
    return hold_roofs(record)


def finders(record: Record, device: torch.device) -> dict[str, Find]:
    """Probes of the shapes that the passes of a record had."""
    machine, arch = Machine(device, clock_for(device), record.dtype), record.llama_arch
    shapes, tokens = weight_shapes(arch), machine.filling(max(run.new_tokens for run in record.passes))
    backend = fastest_backend(device, machine.torch_dtype)
    return {
        "gemm": lambda: gemm_roof(machine, shapes, tokens),
        "stream": lambda: stream_roof(machine, [*shapes, (arch.vocab_size, arch.dim)]),
        "copy": lambda: copy_roof(machine),
        "cache": lambda: cache_roof(machine),
        "attention": lambda: attention_roof(machine, arch, backend.attend, [tokens]),
    }


def _best(roof: Roof, again: Roof | None, dtype: str) -> Roof:
    """The better of two roofs; an untrusted one does not count."""
    if again is None or roof.dtype != dtype or not again.trusted:
        return roof
    return max(roof, again, key=lambda one: one.per_second or 0.0)
