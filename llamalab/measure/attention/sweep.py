"""Flash or naive attention, by itself, as the sequence grows: time, peak memory, kernel.

All backends run in the same rounds at a length. Work and score matrix grow with the square of the length, so time and
memory of the next length are estimated from the last; a call over its limit of time or memory is left out, with that
reason instead of a time.
"""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.arch import LlamaArch
from llamalab.attention import Backend, get_backend
from llamalab.formatting import format_bytes, format_si
from llamalab.measure.attention.calls import measure_attention
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Plan
from llamalab.model.fastest import fastest_backend
from llamalab.records.record import AttentionPoint

_NO_TIME = "there was no time left for it"
_LENGTH_SHARE, _CALL_SHARE = 0.4, 0.03  # of the time that is left: of one length, and of one call


class Limits(NamedTuple):
    """Limits of one call: seconds and bytes."""

    call_s: float
    peak_bytes: int


def sweep_attention(
    machine: Machine, arch: LlamaArch, lengths: Iterable[int], limits: Limits, plan: Plan
) -> list[AttentionPoint]:
    """Points of flash and naive attention at every length, shortest first, at the heads of `arch`.

    Lengths for which the deadline leaves no time are left out with that reason.
    """
    points: list[AttentionPoint] = []
    compared = backends_compared(machine.device, machine.torch_dtype)
    for tokens in sorted(lengths):
        if machine.deadline is not None:
            limits = limits._replace(call_s=min(limits.call_s, _CALL_SHARE * machine.deadline.left_s))
        reasons = {
            backend.name: _NO_TIME if machine.late else _too_much(_last(points, backend.name), tokens, limits)
            for backend in compared
        }
        left_out = {name: reason for name, reason in reasons.items() if reason}
        shape = AttentionShape(
            batch=1,
            new_tokens=tokens,
            context_tokens=tokens,
            n_heads=arch.n_heads,
            n_kv_heads=arch.n_kv_heads,
            head_dim=arch.head_dim,
            dtype=machine.dtype,
            kv_dtype=machine.dtype,
        )
        points += measure_attention(machine, shape, compared, machine.within(plan, _LENGTH_SHARE), left_out=left_out)
    return points


def backends_compared(device: torch.device, dtype: torch.dtype) -> tuple[Backend, ...]:
    """Naive attention, the fastest backend of the device, and torch's fused attention; each once."""
    return tuple(dict.fromkeys((get_backend("naive"), fastest_backend(device, dtype), get_backend("sdpa"))))


def _last(points: list[AttentionPoint], backend: str) -> AttentionPoint | None:
    return next((point for point in reversed(points) if point.backend == backend), None)


def _too_much(last: AttentionPoint | None, tokens: int, limits: Limits) -> str | None:
    """Why this length is left out, judged from the last one; None where it is not."""
    if last is None:
        return None
    if not last.samples_s:
        return last.reason
    growth = (tokens / last.new_tokens) ** 2
    call_s = median(last.samples_s) * growth
    if call_s > limits.call_s:
        return (
            f"one call would take about {format_si(call_s, 's')}, more than the {format_si(limits.call_s, 's')} allowed"
        )
    peak_bytes = (last.peak_bytes or 0) * growth
    if peak_bytes > limits.peak_bytes:
        return (
            f"one call would hold about {format_bytes(peak_bytes)}, more than the "
            f"{format_bytes(limits.peak_bytes)} allowed"
        )
    return None
