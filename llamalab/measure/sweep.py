"""Flash or naive attention, by itself, as the sequence grows: time, peak memory, kernel.

All backends run in the same rounds at a length. Work and score matrix grow with the square of the
length: what a length took says what its double will, and what would take too long or too much
memory is left out with that reason instead of a time.
"""

from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.attention import BACKENDS, Backend
from llamalab.measure.kernels import attention_kernel
from llamalab.measure.memory import measure_peak
from llamalab.measure.roofs import Machine
from llamalab.measure.timer import Plan, time_variants
from llamalab.records import AttentionPoint
from llamalab.units import format_bytes, format_si


class Limits(NamedTuple):
    """What one call may take."""

    call_s: float
    peak_bytes: int


def sweep_attention(
    machine: Machine, arch: LlamaArch, lengths: Iterable[int], limits: Limits, plan: Plan
) -> list[AttentionPoint]:
    """Points of every backend at every length, shortest first, at the heads of `arch`."""
    points: list[AttentionPoint] = []
    for tokens in sorted(lengths):
        q_BHTE = machine.random(1, arch.n_heads, tokens, arch.head_dim)
        k_BKSE, v_BKSE = (machine.random(1, arch.n_kv_heads, tokens, arch.head_dim) for _ in range(2))
        reasons = {name: _too_much(_last(points, name), tokens, limits) for name in BACKENDS}
        calls = {
            name: _call(backend, q_BHTE, k_BKSE, v_BKSE) for name, backend in BACKENDS.items() if reasons[name] is None
        }
        samples = time_variants(calls, machine.clock, plan) if calls else {}
        for name, backend in BACKENDS.items():
            call = calls.get(name)
            memory = measure_peak(call, machine.device) if call else None
            points.append(
                AttentionPoint(
                    backend=name,
                    algorithm=backend.algorithm,
                    batch=1,
                    new_tokens=tokens,
                    context_tokens=tokens,
                    n_heads=arch.n_heads,
                    n_kv_heads=arch.n_kv_heads,
                    head_dim=arch.head_dim,
                    dtype=machine.dtype,
                    kernel=attention_kernel(call) if call else None,
                    samples_s=samples.get(name, []),
                    peak_bytes=memory.peak_bytes if memory else None,
                    reason=reasons[name] or (memory.reason if memory else None),
                )
            )
    return points


def _call(backend: Backend, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor) -> Callable[[], Tensor]:
    return lambda: backend.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=0)


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
