"""One attention call, backend by backend: time, peak memory, and the kernel that ran.

On a host all backends run in the same rounds, so that their times are paired. A call that exceeds memory, or that a
backend does not support, is left out with the reason instead of a time; so is a call in which the profiler saw
another kernel than the requested one.

In a model all other weights are read between two decode steps of a layer, so that its keys and values are in no
cache: a decode step is timed over a ring of inputs larger than the caches, of which every sample of every backend takes
the next few. On devices with graphs calls are captured and replayed, so that times exclude launches from Python:
enough calls in a graph that its start is negligible, and one backend after the other, since a graph holds its memory
until it is freed.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from math import ceil
from typing import NamedTuple

from torch import Tensor, clone

from llamalab.analytic.activations import attention_bytes, memory_of
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import Backend
from llamalab.errors import UnavailableError
from llamalab.formatting import format_bytes
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import (
    available_bytes,
    device_of,
    measure_peak,
    probe_budget_bytes,
    release_memory,
)
from llamalab.measure.profile.attention_kernel import attention_kernel
from llamalab.measure.roofs.best import repeated
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.timer import Call, Plan, time_one, time_variants
from llamalab.records.record import AttentionPoint
from llamalab.units import storage_bytes

FEW_TOKENS = 16  # new tokens, at most, of a call that is bound by reading keys and values
_RING_CACHES, _LARGEST_RING = 4, 1 << 12  # smaller inputs, which would need more, are bound by launches
_MOST_CALLS = 1 << 12  # in one graph
_SAMPLE_S, _LEAST_S = 5e-3, 1e-9  # of a sample of several calls; of a call that the clock did not see
_ONCE = Plan(0.0, 2, 2, 1, 0.0)


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
    """Number of different inputs of a timed call: more than caches hold for a decode step, else one."""
    if shape.new_tokens > FEW_TOKENS:
        return 1
    wanted, one = _RING_CACHES * effective_cache_bytes(machine.device), input_bytes(shape)
    return max(1, min(_LARGEST_RING, -(-wanted // one), probe_budget_bytes(machine.device) // one))


def obstacle(machine: Machine, shape: AttentionShape, backend: Backend) -> str | None:
    """Why a backend cannot run a call here (its own limits, or memory); None where it can."""
    try:
        backend.check(shape, machine.device)
    except UnavailableError as refusal:
        return str(refusal)
    held = attention_bytes(shape, memory_of(backend.name, backend.algorithm))
    held *= 2 if device_of(machine.device).graph_fill_s else 1  # of the run before the capture, and of the graph
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
    ring = _ring(machine, shape)
    graphs = device_of(machine.device).graph_fill_s > 0
    samples = (_graph_samples if graphs else _paired_samples)(machine, running, ring, plan, reasons)
    return [
        _measured(machine, shape, backend, ring[0], samples[backend.name])
        if backend.name in samples
        else _left_out(backend, shape, reasons[backend.name])
        for backend in chosen
    ]


def _ring(machine: Machine, shape: AttentionShape) -> list[Inputs]:
    """Inputs of the same values at other addresses, which is what caches go by; drawing all anew would take longer."""
    first = random_inputs(machine, shape)
    return [first, *(Inputs(*map(clone, first)) for _ in range(ring_size(machine, shape) - 1))]


def _paired_samples(
    machine: Machine, backends: list[Backend], ring: list[Inputs], plan: Plan, reasons: dict[str, str]
) -> dict[str, list[float]]:
    """Seconds of a call by backend, of all in the same rounds."""
    turn = cycle(ring)  # of all backends together: an input comes again only when all others have been read
    calls = {one.name: _calls_of_a_sample(machine, one, turn, len(ring)) for one in backends}
    variants = {one.name: _next_calls(one, turn, calls[one.name]) for one in backends}
    samples = time_variants(variants, machine.clock, plan)
    return {name: [time / calls[name] for time in times] for name, times in samples.items()}


def _calls_of_a_sample(machine: Machine, backend: Backend, turn: Iterator[Inputs], most: int) -> int:
    """How many calls the clock sees well: as many as take _SAMPLE_S, at most each input once."""
    if most == 1:
        return 1
    once_s = min(time_one(_next_calls(backend, turn, 1), machine.clock, _ONCE))
    return max(1, min(most, ceil(_SAMPLE_S / max(once_s, _LEAST_S))))


def _next_calls(backend: Backend, turn: Iterator[Inputs], calls: int) -> Call:
    """So many calls, each on the next input."""

    def run() -> None:
        for inputs in islice(turn, calls):
            inputs.call(backend)()

    return run


def _graph_samples(
    machine: Machine, backends: list[Backend], ring: list[Inputs], plan: Plan, reasons: dict[str, str]
) -> dict[str, list[float]]:
    """Seconds of a call by backend, each captured, timed and freed before the next; failures go into `reasons`."""
    samples = {}
    for backend in backends:
        try:
            samples[backend.name] = _graph_times(machine, _once_each(backend, ring), len(ring), plan)
        except RuntimeError as error:  # memory ran out, or capture failed: the other backends are unaffected
            reasons[backend.name] = f"failed: {str(error).partition(chr(10))[0]}"
        release_memory(machine.device)
    return samples


def _graph_times(machine: Machine, work: Call, calls: int, plan: Plan) -> list[float]:
    """Seconds of one call of `work`, repeated in a graph until the graph's start is negligible."""
    device = device_of(machine.device)
    once_s = min(time_one(work, machine.clock, _ONCE))
    times = max(1, min(_MOST_CALLS // calls, ceil(device.graph_fill_s / once_s)))
    samples_s = time_one(device.graph(repeated(work, times)), machine.clock, plan)
    return [seconds / (times * calls) for seconds in samples_s]


def _once_each(backend: Backend, ring: list[Inputs]) -> Call:
    """One call on each of the inputs."""

    def run() -> None:
        for inputs in ring:
            inputs.call(backend)()

    return run


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
