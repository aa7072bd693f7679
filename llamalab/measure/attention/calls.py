"""One attention call, backend by backend: time, peak memory, and the kernel that ran.

All backends run in the same rounds, so that their times can be paired. A call that would not fit,
or that a backend cannot do, is left out with the reason instead of a time; and so is a call in which
another kernel ran than the one that was asked for.

In a model, all other weights are read between two decode steps of a layer, so its keys and values are in no
cache: a decode step is timed over a ring of inputs larger than the caches. Where the device has graphs, calls
are captured and replayed, so that times are the device's and not those of launching from Python.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from llamalab.analytic.activations import attention_bytes, memory_of
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend
from llamalab.errors import UnavailableError
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import available_bytes, device_of, measure_peak, probe_budget_bytes
from llamalab.measure.profile.attention_kernel import attention_kernel
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Call, Plan, time_variants
from llamalab.records.record import AttentionPoint
from llamalab.units import format_bytes, storage_bytes

FEW_TOKENS = 16  # up to so many new tokens, reading keys and values is what takes the time
_RING_CACHES, _LARGEST_RING = 4, 32


class Inputs(NamedTuple):
    """The tensors of a call; the last query stands at the end of the keys."""

    q_BHTE: Tensor
    k_BKSE: Tensor
    v_BKSE: Tensor

    def call(self, backend: Backend) -> Callable[[], Tensor]:
        """One call of `backend` on these tensors."""
        query_offset = self.k_BKSE.shape[2] - self.q_BHTE.shape[2]
        return lambda: backend.attend(*self, query_offset=query_offset)


def random_inputs(machine: Machine, shape: AttentionShape) -> Inputs:
    """Random q, k and v of a shape, on the machine."""
    keys = (shape.batch, shape.n_kv_heads, shape.context_tokens, shape.head_dim)
    q_BHTE = machine.random(shape.batch, shape.n_heads, shape.new_tokens, shape.head_dim)
    return Inputs(q_BHTE, machine.random(*keys), machine.random(*keys))


def input_bytes(shape: AttentionShape) -> int:
    """Bytes of q, k and v."""
    return storage_bytes(shape.query_elements, shape.dtype) + 2 * storage_bytes(shape.key_elements, shape.kv_dtype)


def ring_size(machine: Machine, shape: AttentionShape) -> int:
    """How many different inputs a timed call goes through: more than caches hold for a decode step, else one."""
    if shape.new_tokens > FEW_TOKENS:
        return 1
    wanted, one = _RING_CACHES * effective_cache_bytes(machine.device), input_bytes(shape)
    return max(1, min(_LARGEST_RING, -(-wanted // one), probe_budget_bytes(machine.device) // one))


def obstacle(machine: Machine, shape: AttentionShape, backend: Backend) -> str | None:
    """Why a backend cannot do a call here: its own limits, or memory; None where it can."""
    try:
        backend.check(shape, machine.device)
    except UnavailableError as refusal:
        return str(refusal)
    held = attention_bytes(shape, memory_of(backend.name, backend.algorithm))
    needed = held + ring_size(machine, shape) * input_bytes(shape)
    free = available_bytes(machine.device)
    if needed <= free:
        return None
    return f"one call needs {format_bytes(needed)}; {format_bytes(free)} are free; take a shorter sequence or 'sdpa'"


def measure_attention(
    machine: Machine,
    shape: AttentionShape,
    backends: Iterable[Backend],
    plan: Plan,
    *,
    left_out: dict[str, str] | None = None,
) -> list[AttentionPoint]:
    """One point per backend, in order; `left_out` names those not to run, with the reason."""
    chosen, reasons = list(backends), dict(left_out or {})
    for backend in chosen:
        if backend.name not in reasons and (reason := obstacle(machine, shape, backend)):
            reasons[backend.name] = reason
    running = [backend for backend in chosen if backend.name not in reasons]
    if not running:
        return [_left_out(backend, shape, reasons[backend.name]) for backend in chosen]
    ring = [random_inputs(machine, shape) for _ in range(ring_size(machine, shape))]
    calls = {}
    for backend in running:
        try:
            calls[backend.name] = _round(machine, backend, ring)
        except RuntimeError as error:  # the device refused to record it, which does not concern the others
            reasons[backend.name] = f"failed: {str(error).partition(chr(10))[0]}"
    samples = time_variants(calls, machine.clock, plan) if calls else {}
    return [
        _measured(machine, shape, backend, ring[0], [time / len(ring) for time in samples[backend.name]])
        if backend.name in calls
        else _left_out(backend, shape, reasons[backend.name])
        for backend in chosen
    ]


def _round(machine: Machine, backend: Backend, ring: list[Inputs]) -> Call:
    """One call on each of the inputs, launched as cheaply as the device allows."""

    def once_each() -> None:
        for inputs in ring:
            inputs.call(backend)()

    return device_of(machine.device).graph(once_each)


def _measured(
    machine: Machine, shape: AttentionShape, backend: Backend, inputs: Inputs, samples_s: list[float]
) -> AttentionPoint:
    call = inputs.call(backend)
    kernel, memory = attention_kernel(call, machine.device), measure_peak(call, machine.device)
    if backend.kernel and backend.kernel not in (kernel or ""):
        reason = f"failed: {backend.name!r} was asked for and the profiler saw {kernel or 'no kernel that it knows'}"
        return _left_out(backend, shape, reason, kernel=kernel)
    return _point(backend, shape, kernel, samples_s, memory.peak_bytes, memory.reason)


def _left_out(backend: Backend, shape: AttentionShape, reason: str, *, kernel: str | None = None) -> AttentionPoint:
    return _point(backend, shape, kernel, [], None, reason)


def _point(
    backend: Backend,
    shape: AttentionShape,
    kernel: str | None,
    samples_s: list[float],
    peak_bytes: int | None,
    reason: str | None,
) -> AttentionPoint:
    return AttentionPoint(
        backend=backend.name,
        algorithm=backend.algorithm,
        batch=shape.batch,
        new_tokens=shape.new_tokens,
        context_tokens=shape.context_tokens,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        head_dim=shape.head_dim,
        dtype=shape.dtype,
        kernel=kernel,
        samples_s=samples_s,
        peak_bytes=peak_bytes,
        reason=reason,
    )
