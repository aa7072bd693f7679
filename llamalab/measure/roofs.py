"""What is the most this machine reaches? Its own ceilings, because a data sheet does not know it.

Each roof is the best rate seen over several shapes and layouts, the model's own among them: what a
model's operation reaches must not lie above. The best shape is then checked by doubling its work
(llamalab.measure.self_check). Weights and copies are larger than the caches by far.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.deadline import Deadline
from llamalab.measure.clock import Clock
from llamalab.measure.machine import cache_bytes
from llamalab.measure.self_check import Checked, check_doubling
from llamalab.measure.timer import Plan, Work, time_one
from llamalab.model.dtypes import torch_dtype
from llamalab.model.packed import multiply_packed, pack
from llamalab.records import Roof

_PATTERN = 1 << 20  # distinct random values; the rest repeats them, as making them all takes seconds
_FLOOR_BYTES = 1 << 28
_CACHES = {"cpu": 8, "cuda": 32}  # a buffer this many times the last-level cache is not in it; a GPU writes back late
_LAUNCHES = 1000
SQUARE = (4096, 4096)


class Machine(NamedTuple):
    """Where roofs are measured: device, its clock, and the element type by llamalab's name."""

    device: torch.device
    clock: Clock
    dtype: str
    deadline: Deadline | None = None

    def within(self, plan: Plan, share: float = 1.0) -> Plan:
        """The plan as far as so much of the time that is left lets it."""
        return plan if self.deadline is None else plan.within(self.deadline.part(share))

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and not self.deadline.left_s

    @property
    def torch_dtype(self) -> torch.dtype:
        """The element type."""
        return torch_dtype(self.dtype)

    @property
    def stream_bytes(self) -> int:
        """Bytes that surely come from memory and not from a cache."""
        return max(_FLOOR_BYTES, _CACHES[self.device.type] * cache_bytes(self.device))

    def random(self, *shape: int) -> Tensor:
        """Values of about unit size; zeros would flatter a device that clocks by power."""
        tensor = torch.empty(shape, dtype=self.torch_dtype, device=self.device)
        flat = tensor.view(-1)
        pattern = torch.randn(min(_PATTERN, flat.numel()), dtype=self.torch_dtype, device=self.device)
        for start in range(0, flat.numel(), _PATTERN):
            piece = flat[start : start + _PATTERN]
            piece.copy_(pattern[: piece.numel()])
        return tensor


class Probe(NamedTuple):
    """Work that can be done once or twice over: what it does per second is a roof's candidate."""

    shape: str
    amount: float
    once: Work
    twice: Work


_SURVEY, _FINAL = Plan(0.05, 2, 8), Plan(0.3, 3, 40)
_UNKNOWN_CACHE_BYTES = 1 << 25
_MOST_CALL_S, _FEWEST_ROWS = 1.0, 16
_SURVEY_SHARE, _CALL_SHARE = 0.5, 0.02  # of the time for a roof; for all of them, of one product
_LEAST_MATRIX_BYTES = 1 << 20


def best_roof(kind: str, machine: Machine, probes: Iterator[Probe]) -> Roof:
    """Try all probes shortly, check the fastest by doubling, and keep the best rate of them all."""
    surveyed: list[tuple[float, str]] = []
    best: Probe | None = None
    survey = machine._replace(deadline=machine.deadline and machine.deadline.part(_SURVEY_SHARE))
    for probe in probes:
        rate = probe.amount / min(time_one(probe.once, machine.clock, survey.within(_SURVEY)))
        if not surveyed or rate > max(surveyed)[0]:
            best = probe
        surveyed.append((rate, probe.shape))
        if survey.late:
            break  # on a slow machine the first shapes must do
    assert best is not None
    checked = check_doubling(best.once, best.twice, machine.clock, _FINAL, machine.deadline)
    rate, shape = max(*surveyed, (best.amount / checked.unit_s, best.shape))
    return _roof(kind, machine.dtype, checked, per_second=rate, shape=shape)


def absent_roof(kind: str, dtype: str, reason: str) -> Roof:
    """A roof that was not looked for, which carries no prediction."""
    return Roof(kind=kind, dtype=dtype, per_second=None, trusted=False, reason=reason)


def weight_shapes(arch: LlamaArch) -> list[tuple[int, int]]:
    """The distinct (out, in) of the model's weight matrices, and a large square for small models."""
    dim, kv_dim, ffn_dim = arch.dim, arch.kv_dim, arch.ffn_dim
    return list(dict.fromkeys([(dim, dim), (kv_dim, dim), (ffn_dim, dim), (dim, ffn_dim), SQUARE]))


def affordable_rows(machine: Machine, shape: tuple[int, int], rows: int) -> int:
    """`rows`, halved until a product of that weight shape takes a second at most, less where time is short."""
    out, inner = shape
    x, weight = machine.random(64, inner), machine.random(out, inner)
    row_s = min(time_one(_call(F.linear, x, weight), machine.clock, machine.within(_SURVEY))) / 64
    most_s = _MOST_CALL_S if machine.deadline is None else min(_MOST_CALL_S, _CALL_SHARE * machine.deadline.left_s)
    while rows > _FEWEST_ROWS and rows * row_s > most_s:
        rows //= 2
    return rows


def gemm_roof(machine: Machine, shapes: Iterable[tuple[int, int]], rows: int) -> Roof:
    """FLOP/s of a matrix product of `rows` tokens, weights as (out, in) and as the device may like them better."""

    def probes() -> Iterator[Probe]:
        for out, inner in shapes:
            x, weight = machine.random(2 * rows, inner), machine.random(out, inner)
            name, flops = f"{rows}x{inner} @ {inner}x{out}", 2.0 * rows * out * inner
            yield Probe(name, flops, _call(F.linear, x[:rows], weight), _call(F.linear, x, weight))
            how, multiply, other = _other_order(weight)
            yield Probe(f"{name}, {how}", flops, _call(multiply, x[:rows], other), _call(multiply, x, other))

    return best_roof("gemm", machine, probes())


def stream_roof(machine: Machine, shapes: Iterable[tuple[int, int]]) -> Roof:
    """Byte/s of weights read by products with one token, over more weights than caches hold; on a CPU packed.

    Matrices below 1 MiB are left out: reading them is a matter of calls, not of memory.
    """
    size, floor = machine.torch_dtype.itemsize, machine.stream_bytes
    large = [(out, inner) for out, inner in shapes if out * inner * size >= _LEAST_MATRIX_BYTES]
    counts = {(out, inner): max(1, -(-floor // (out * inner * size))) for out, inner in large}
    weights = machine.random(2 * max(count * out * inner for (out, inner), count in counts.items()))

    def probes() -> Iterator[Probe]:
        for (out, inner), count in counts.items():
            stack = weights[: 2 * count * out * inner].view(2 * count, out, inner)
            # A stock product of one row does not reach the speed of memory on a CPU: what the model runs does.
            packed = machine.device.type == "cpu"
            multiply, ring = (multiply_packed, [pack(w) for w in stack]) if packed else (F.linear, list(stack))
            turns = cycle(ring)
            x, name = machine.random(1, inner), f"1x{inner} @ {inner}x{out}, {count} matrices"
            once, twice = (_next(multiply, x, turns, times * count) for times in (1, 2))
            yield Probe(name, float(count * out * inner * size), once, twice)

    return best_roof("stream", machine, probes())


def copy_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum far larger than the caches."""
    return best_roof("copy", machine, _moves(machine, machine.stream_bytes // 4))


def cache_roof(machine: Machine) -> Roof:
    """Byte/s, read plus written, of a copy and of a sum that stay in the last-level cache."""
    capacity = cache_bytes(machine.device) or None
    # The three tensors of the doubled probe fill 3/8 of the cache.
    roof = best_roof("cache", machine, _moves(machine, (capacity or _UNKNOWN_CACHE_BYTES) // 16))
    return replace(roof, capacity_bytes=capacity)


def attention_roof(machine: Machine, arch: LlamaArch, attend: Callable[..., Tensor], lengths: Iterable[int]) -> Roof:
    """FLOP/s, causal pairs counted, of fused attention at the model's heads."""

    def probes() -> Iterator[Probe]:
        for tokens in lengths:
            q = machine.random(2, arch.n_heads, tokens, arch.head_dim)
            k, v = (machine.random(2, arch.n_kv_heads, tokens, arch.head_dim) for _ in range(2))
            flops = 4.0 * arch.n_heads * arch.head_dim * (tokens * (tokens + 1) // 2)
            name = f"{tokens} tokens, {arch.n_heads} heads of {arch.head_dim}"
            once = _call(attend, q[:1], k[:1], v[:1], query_offset=0)
            yield Probe(name, flops, once, _call(attend, q, k, v, query_offset=0))

    return best_roof("attention", machine, probes())


def launch_roof(machine: Machine) -> Roof:
    """Seconds of the smallest operation: what every operation costs before it works."""
    x = machine.random(1)

    def repeat(count: int) -> Work:
        def run() -> None:
            for _ in range(count):
                x.add_(1)

        return run

    checked = check_doubling(repeat(_LAUNCHES), repeat(2 * _LAUNCHES), machine.clock, _FINAL, machine.deadline)
    return _roof("launch", machine.dtype, checked, seconds=checked.unit_s / _LAUNCHES, shape="add to 1 element")


def _moves(machine: Machine, size_bytes: int) -> Iterator[Probe]:
    elements = max(1, size_bytes // machine.torch_dtype.itemsize)
    source, other, target = (machine.random(2 * elements) for _ in range(3))
    a, b, c = source[:elements], other[:elements], target[:elements]
    name = f"{size_bytes / 2**20:.3g} MiB"
    yield Probe(f"copy of {name}", 2.0 * size_bytes, _call(c.copy_, a), _call(target.copy_, source))
    add_once, add_twice = _call(torch.add, a, b, out=c), _call(torch.add, source, other, out=target)
    yield Probe(f"sum of two of {name}", 3.0 * size_bytes, add_once, add_twice)


def _call(function: Callable[..., object], *arguments: object, **options: object) -> Work:
    """The call, bound now: a probe outlives the loop that made it."""
    return lambda: function(*arguments, **options)


def _other_order(weight_OI: Tensor) -> tuple[str, Callable[[Tensor, Tensor], Tensor], Tensor]:
    """Another order of the same weight: its name, the product that takes it, and the weight in it."""
    if weight_OI.device.type == "cpu":
        return "packed weight", multiply_packed, pack(weight_OI)
    return "weight (in, out)", torch.mm, weight_OI.t().contiguous()


def _next(multiply: Callable[[Tensor, Tensor], Tensor], x: Tensor, ring: Iterator[Tensor], count: int) -> Work:
    """Products with the ring's next matrices: those that a call just read, and a cache may hold, come last again."""

    def run() -> None:
        for matrix in islice(ring, count):
            multiply(x, matrix)

    return run


def _roof(
    kind: str,
    dtype: str,
    checked: Checked,
    *,
    shape: str,
    per_second: float | None = None,
    seconds: float | None = None,
) -> Roof:
    return Roof(
        kind=kind,
        dtype=dtype,
        per_second=per_second,
        seconds=seconds,
        shape=shape,
        samples_s=checked.once_s,
        doubling_ratio=checked.ratio,
        trusted=checked.trusted,
        reason=checked.reason,
    )
