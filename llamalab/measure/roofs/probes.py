"""The highest rates of this machine, which a data sheet does not state.

Each roof is the best rate over several shapes and layouts of the weight, the model's own among them, so that no
operation of the model exceeds it. The best shape is then checked by doubling its work
(llamalab.measure.timing.doubling_check). Weights and copies exceed the measured cache by far, as far as memory
allows: one probe stays within `probe_budget_bytes`, and is freed before the next is made.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import cycle, islice
from math import prod
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.formatting import format_bytes
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.machine import probe_budget_bytes
from llamalab.measure.roofs.best import FINAL, SURVEY, Candidate, Probe, best_roof, deferred, repeated, roof_of
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.doubling_check import check_doubling
from llamalab.measure.timing.timer import Call, Plan, time_one
from llamalab.model.packed import Product, product_for
from llamalab.model.quantised.codes import coded
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.model.wide import PLAIN
from llamalab.records.roof import Roof
from llamalab.units import group_in_row

_LAUNCHES = 400  # launches, twice which fit into the queue of a held device
T = TypeVar("T")
SQUARE = (4096, 4096)
_MOST_CALL_S, _FEWEST_ROWS = 1.0, 16
_CALL_SHARE = 0.02  # shares of the time for all roofs, and of one product
_LEAST_MATRIX_BYTES = 1 << 20
_TRIAL, _TRIAL_SIZE, _TRIAL_ROWS = Plan(0.005, 2, 4), 256, 32
_TRIAL_RATIO = 8  # a layout slower than the best one by this factor has no kernel made for the device


def weight_shapes(arch: LlamaArch) -> list[tuple[int, int]]:
    """The distinct (out, in) of the model's weight matrices, and a large square for small models."""
    dim, kv_dim, ffn_dim = arch.dim, arch.kv_dim, arch.ffn_dim
    return list(dict.fromkeys([(dim, dim), (kv_dim, dim), (ffn_dim, dim), (dim, ffn_dim), SQUARE]))


def fitted(machine: Machine, shape: tuple[int, int], most_bytes: int) -> tuple[int, int]:
    """The (out, in) of a weight of at most `most_bytes`: unchanged, or with fewer rows."""
    out, inner = shape
    return min(out, max(1, most_bytes // (inner * machine.torch_dtype.itemsize))), inner


def affordable_rows(machine: Machine, shape: tuple[int, int], rows: int) -> int:
    """`rows`, halved until a product of that weight shape takes a second at most, less where time is short."""
    most_bytes = probe_budget_bytes(machine.device) // 2
    out, inner = fitted(machine, shape, most_bytes)
    x, weight = machine.random(64, inner), machine.random(out, inner)
    once_s = min(time_one(deferred(F.linear, x, weight), machine.clock, machine.within(SURVEY)))
    row_s = once_s / 64 * shape[0] / out
    most_s = _MOST_CALL_S if machine.deadline is None else min(_MOST_CALL_S, _CALL_SHARE * machine.deadline.left_s)
    while rows > _FEWEST_ROWS and rows * row_s > most_s:
        rows //= 2
    return rows


def gemm_roof(machine: Machine, shapes: Iterable[tuple[int, int]], rows: int) -> Roof:
    """FLOP/s of a matrix product of `rows` tokens, weights as (out, in) and in the layout that the device prefers."""
    budget = probe_budget_bytes(machine.device)

    def candidates() -> Iterator[Candidate]:
        # Two layouts of a weight exist for a moment; operands and outputs of doubled work have the other half.
        for shape in dict.fromkeys(fitted(machine, shape, budget // 4) for shape in shapes):
            held_bytes = 2 * sum(shape) * machine.torch_dtype.itemsize
            tokens = max(1, min(rows, budget // 2 // held_bytes))
            for how, product in _orders(machine):
                yield deferred(_gemm, machine, shape, tokens, how, product)

    return best_roof("gemm", machine, candidates())


def _gemm(machine: Machine, shape: tuple[int, int], rows: int, how: str, product: Product) -> Probe:
    out, inner = shape
    weight, x = product.arrange(machine.random(out, inner)), machine.random(2 * rows, inner)
    once, twice = (deferred(product.multiply, tokens, weight) for tokens in (x[:rows], x))
    return Probe(f"{rows}x{inner} @ {inner}x{out}{how}", 2.0 * rows * out * inner, once, twice)


def _orders(machine: Machine) -> list[tuple[str, Product]]:
    """A weight as it is, and in another layout that may be faster here; each with a suffix for its name.

    A layout without a kernel (bf16 without AVX-512: a hundred times slower) is recognised on a small product, and
    skipped: one large product of it would take the time of all roofs.
    """
    plain, chosen = Product(PLAIN, lambda weight: weight, F.linear), product_for(machine.device, machine.torch_dtype)
    turned = Product("turned", lambda weight: weight.t().contiguous(), torch.mm)
    orders = [("", plain), (", weight (in, out)", turned)]
    if chosen.name != PLAIN:
        orders[1] = (f", {chosen.name} weight", chosen)
    taken_s = [_trial_s(machine, product) for _, product in orders]
    return [order for order, seconds in zip(orders, taken_s, strict=True) if seconds <= _TRIAL_RATIO * min(taken_s)]


def _trial_s(machine: Machine, product: Product) -> float:
    """The best time of a small product with a weight in that layout."""
    weight, x = product.arrange(machine.random(_TRIAL_SIZE, _TRIAL_SIZE)), machine.random(_TRIAL_ROWS, _TRIAL_SIZE)
    return min(time_one(deferred(product.multiply, x, weight), machine.clock, machine.within(_TRIAL)))


def stream_roof(machine: Machine, shapes: Iterable[tuple[int, int]]) -> Roof:
    """Byte/s of weights read by products with one token, over more weights than caches hold; packed where these are.

    Of quantised weights, where the machine has them, and then of that storage.

    Matrices below 1 MiB are left out, because calls dominate their time. Untrusted where memory is too small for more
    weights than the cache holds.
    """
    floor, size = machine.stream_bytes, machine.torch_dtype.itemsize
    large = [shape for shape in shapes if prod(shape) * size >= _LEAST_MATRIX_BYTES] or [SQUARE]
    if machine.weight_dtype is not None:
        large = [shape for shape in large if group_in_row(machine.weight_dtype, shape[1])] or [SQUARE]
    fitting = dict.fromkeys(fitted(machine, shape, max(1, floor // 2)) for shape in large)
    stream = _stream if machine.weight_dtype is None else _quantised_stream
    roof = best_roof("stream", machine, [deferred(stream, machine, shape, floor) for shape in fitting])
    if machine.weight_dtype is not None:
        roof = replace(roof, dtype=machine.weight_dtype)
    cached = effective_cache_bytes(machine.device)
    if floor > cached:
        return roof
    reason = f"weights of {format_bytes(floor)}, which memory has room for, stay in a cache of {format_bytes(cached)}"
    return replace(roof, trusted=False, reason=reason)


def _stream(machine: Machine, shape: tuple[int, int], floor_bytes: int) -> Probe:
    """Products with the matrices of a ring in turn; each is laid out when it is made."""
    out, inner = shape
    matrix_bytes = out * inner * machine.torch_dtype.itemsize
    count = max(1, -(-floor_bytes // matrix_bytes))
    # A plain product of one row does not reach the bandwidth of a CPU's memory; the model's own kernel is run.
    product = product_for(machine.device, machine.torch_dtype)
    turns = cycle([product.arrange(machine.random(out, inner)) for _ in range(count)])
    x = machine.random(1, inner)
    once, twice = (_next(product.multiply, x, turns, times * count) for times in (1, 2))
    return Probe(f"1x{inner} @ {inner}x{out}, {count} matrices", float(count * matrix_bytes), once, twice)


def _quantised_stream(machine: Machine, shape: tuple[int, int], floor_bytes: int) -> Probe:
    """As _stream, with weights in the machine's storage; all have copies of the same codes in separate memory."""
    storage = machine.weight_dtype
    assert storage is not None
    out, inner = shape
    first = QuantisedLinear.of(coded(machine.random(out, inner), storage), storage, machine.torch_dtype)
    matrix_bytes = sum(part.nbytes for part in first.parts)
    count = max(1, -(-floor_bytes // matrix_bytes))
    turns = cycle([first, *(deepcopy(first) for _ in range(count - 1))])
    x = machine.random(1, inner)
    once, twice = (_next(lambda x, layer: layer(x), x, turns, times * count) for times in (1, 2))
    return Probe(f"1x{inner} @ {inner}x{out}, {count} matrices", float(count * matrix_bytes), once, twice)


def attention_roof(machine: Machine, arch: LlamaArch, attend: Callable[..., Tensor], lengths: Iterable[int]) -> Roof:
    """FLOP/s, causal pairs counted, of fused attention at the model's heads."""
    # With doubled work: queries, output and their copies, keys and values, each expanded to all heads of a group.
    token_bytes = 2 * 8 * arch.n_heads * arch.head_dim * machine.torch_dtype.itemsize
    most = max(1, probe_budget_bytes(machine.device) // token_bytes)
    shorter = dict.fromkeys(min(tokens, most) for tokens in lengths)
    return best_roof("attention", machine, [deferred(_attention, machine, arch, attend, tokens) for tokens in shorter])


def _attention(machine: Machine, arch: LlamaArch, attend: Callable[..., Tensor], tokens: int) -> Probe:
    q = machine.random(2, arch.n_heads, tokens, arch.head_dim)
    k, v = (machine.random(2, arch.n_kv_heads, tokens, arch.head_dim) for _ in range(2))
    flops = 4.0 * arch.n_heads * arch.head_dim * (tokens * (tokens + 1) // 2)
    name = f"{tokens} tokens, {arch.n_heads} heads of {arch.head_dim}"
    once = deferred(attend, q[:1], k[:1], v[:1], query_offset=0)
    return Probe(name, flops, once, deferred(attend, q, k, v, query_offset=0))


def launch_time_roof(machine: Machine) -> Roof:
    """Seconds of the smallest operation: the fixed cost of every operation."""
    x = machine.random(1)

    once, twice = (repeated(deferred(x.add_, 1), times * _LAUNCHES) for times in (1, 2))
    checked = check_doubling(once, twice, machine.clock, FINAL, machine.deadline)
    return roof_of("launch", machine.dtype, checked, seconds=checked.unit_s / _LAUNCHES, shape="add to 1 element")


def _next(multiply: Callable[[Tensor, T], Tensor], x: Tensor, ring: Iterator[T], count: int) -> Call:
    """Products with the ring's next matrices, so that the last ones read, which a cache may hold, come last again."""

    def run() -> None:
        for matrix in islice(ring, count):
            multiply(x, matrix)

    return run
