"""The machine of a measurement: a device, its clock, a dtype, and the time available."""

from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import device_of, probe_budget_bytes
from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.deadline import Deadline
from llamalab.measure.timing.timer import Plan
from llamalab.model import torch_dtype

_PATTERN = 1 << 20  # distinct random values, repeated to fill a buffer, since drawing all takes seconds
_FLOOR_BYTES = 1 << 28
# A buffer this many times the last-level cache is read from memory; an accelerator writes back late.
_CACHES = {"host": 4, "accelerator": 32}

# Tokens that fully use a device: with fewer, a roof is lower than the rate of a pass. A host needs one.
FULL_TOKENS = {"host": 1, "accelerator": 4096}


class Machine(NamedTuple):
    """A device, its clock, and the dtype by llamalab's name.

    `weight_dtype` is the storage of quantised weights, which passes then read (None: weights are in `dtype`), and
    `kernel_rows` how many rows their kernel multiplies at most.
    """

    device: torch.device
    clock: Clock
    dtype: str
    deadline: Deadline | None = None
    weight_dtype: str | None = None
    kernel_rows: int | None = None

    def within(self, plan: Plan, share: float = 1.0) -> Plan:
        """The plan limited to this share of the remaining time."""
        return plan if self.deadline is None else plan.within(self.deadline.part(share))

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and not self.deadline.left_s

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of torch."""
        return torch_dtype(self.dtype)

    def filling(self, tokens: int) -> int:
        """The given tokens, or as many as fully use the device if more."""
        return max(tokens, FULL_TOKENS[device_of(self.device).role])

    @property
    def stream_bytes(self) -> int:
        """Bytes that are read from memory instead of a cache, at most half of a probe's budget."""
        wanted = max(_FLOOR_BYTES, _CACHES[device_of(self.device).role] * effective_cache_bytes(self.device))
        return min(wanted, probe_budget_bytes(self.device) // 2)

    def random(self, *shape: int) -> Tensor:
        """Random values of about unit size; zeros would draw less power and so allow higher clocks."""
        return self.fill(torch.empty(shape, dtype=self.torch_dtype, device=self.device))

    def fill(self, tensor: Tensor, size: float = 1.0) -> Tensor:
        """Write values of about `size` into a contiguous tensor."""
        flat = tensor.view(-1)
        pattern = torch.randn(min(_PATTERN, flat.numel()), dtype=tensor.dtype, device=tensor.device).mul_(size)
        for start in range(0, flat.numel(), _PATTERN):
            piece = flat[start : start + _PATTERN]
            piece.copy_(pattern[: piece.numel()])
        return tensor
