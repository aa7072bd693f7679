"""How does a software stack run a model? A few constants of each, beside the columns of a data sheet.

    time = host + sum over operations of: fixed time + softmax_q(FLOPs / (share * peak), bytes / (share * bandwidth))

A stack is a row of stacks.json per kind of device: what it fuses, in which type it accumulates, how it
unpacks packed weights, which shares of peak and bandwidth its kernels reach, and what its host adds.
There are no constants of a device: one that no fit has seen is predicted from its data sheet alone. Where a
row has no value of its own it takes its parent's, so that stacks with few points share what they cannot tell
apart. The rows are fitted by experiments/fit_stacks.py, which also writes error and spread.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from llamalab.analytic.constants import Host, data_sheet, product_dtype
from llamalab.analytic.forecast import Workload
from llamalab.analytic.roofline import Rates
from llamalab.errors import UnavailableError, UnknownNameError
from llamalab.hardware import HardwareSpec
from llamalab.units import DTYPES

CLOCK_HZ = 1.83e9  # at which fixed times are told: a GPU of another clock takes inversely as long
GEMM_Q, ATTENTION_Q = 2.0, 1.3  # how far compute and memory overlap in a product, and in attention
UNPACKS = ("inside", "first", "integer")
UNPACK_ROWS = 32  # stacks that unpack first have kernels of their own for fewer rows than this
MARGIN_OF_BORROWED = 1.5  # times the spread of the row that is borrowed, where no point tells more
OWN = ("apple", "cpu")  # a kind of device whose rows serve no other


class Stack(NamedTuple):
    """One stack on one kind of device. Shares lie in (0, 1]; times are seconds at CLOCK_HZ.

    `chunk` is how many tokens of a prompt go through at a time. `unpack` tells what becomes of packed weights
    under many rows: unpacked inside the product, first (written out in 16 bits), or multiplied as integers.
    Under one row they are unpacked by the vector units, with `unpack_ops` operations a weight.
    `spread` is the relative half-width that holds 9 of 10 unfitted points of a phase, `unseen_spread` that on
    devices of which it was fitted on none; `devices` are those it was fitted on.
    """

    name: str
    on: str
    title: str
    versions: str
    fused: bool
    attention: str
    chunk: int | None
    accumulate: str
    unpack: str
    kv_of_fp8: str | None
    gemm_compute: float
    gemm_memory: float
    packed_compute: float
    packed_memory: float
    kernel_s: float
    attention_compute: float
    attention_memory: float
    decode_memory: float
    decode_vector_compute: float | None
    elementwise_memory: float
    unpack_ops: float
    link_s: float
    link_memory: float
    step_s: float
    sequence_s: float
    request_s: float
    interleave: float
    fitted: tuple[str, ...]
    devices: tuple[str, ...]
    sources: tuple[str, ...]
    points: int
    error: float | None
    spread: dict[str, float]
    unseen_spread: dict[str, float]
    note: str | None = None

    @property
    def key(self) -> str:
        """Its name in stacks.json."""
        return f"{self.name}/{self.on}"


class StackConstants(NamedTuple):
    """What a prediction by stack rests on; it serves where analytic.constants.Constants does."""

    rates: Mapping[str, Rates]
    basis: str
    spread: float | None
    host: Host
    stack: Stack
    phase_spread: Mapping[str, float]
    assumed: bool = False

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time, never below its bound."""
        return self.interval_of_phase("run", time_s, bound_s)

    def interval_of_phase(self, phase: str, time_s: float, bound_s: float) -> tuple[float, float]:
        """As interval, for a phase: prefill, decode or run."""
        spread = self.phase_spread[phase]
        return max(bound_s, time_s / (1 + spread)), time_s * (1 + spread)


PHASES = ("prefill", "decode", "run")


@lru_cache(maxsize=1)
def stacks() -> dict[str, Stack]:
    """All rows, by `name/kind of device`."""
    with open(os.path.join(os.path.dirname(__file__), "stacks.json"), encoding="utf-8") as file:
        rows = {row["key"]: row for row in json.load(file)["stacks"]}
    return {key: _stack(key, rows) for key in rows}


def _stack(key: str, rows: dict[str, dict[str, Any]]) -> Stack:
    if same := rows[key].get("same_as"):
        return _stack(same, rows)._replace(name=key.partition("/")[0])
    merged: dict[str, Any] = {}
    own, chain = rows[key], [key]
    while (parent := rows[chain[-1]].get("parent")) is not None:
        chain.append(parent)
    for one in reversed(chain):
        merged |= rows[one]
    for cell in ("fitted", "devices", "sources"):
        merged[cell] = tuple(own.get(cell, ()))
    merged |= {"points": own.get("points", 0), "error": own.get("error"), "note": own.get("note")}
    name, _, on = key.partition("/")
    return Stack(name=name, on=on, **{cell: merged[cell] for cell in Stack._fields if cell not in ("name", "on")})


def stack_names() -> tuple[str, ...]:
    """The stacks that can be asked for."""
    return tuple(dict.fromkeys(stack.name for stack in stacks().values() if stack.name != "any"))


def find_stack(name: str, spec: HardwareSpec) -> Stack:
    """The row of a stack for a device. Raises UnknownNameError, UnavailableError where it does not run there.

    >>> from llamalab.hardware import find_hardware
    >>> find_stack("llama.cpp", find_hardware("apple-m1max")).key
    'llama.cpp/apple'
    """
    if name not in stack_names():
        raise UnknownNameError("stack", name, stack_names())
    kind = kind_of(spec)
    if found := stacks().get(f"{name}/{kind}"):
        return found
    others = [stack for stack in stacks().values() if stack.name == name and stack.on not in OWN]
    if kind in OWN or not others:
        known = ", ".join(stack.on for stack in stacks().values() if stack.name == name)
        raise UnavailableError(f"{name} must have constants for {kind}; it has them for {known}; choose another stack")
    return others[0]


def kind_of(spec: HardwareSpec) -> str:
    """Which rows a device takes: nvidia, amd, intel, apple, or cpu."""
    return spec.kind if spec.kind == "cpu" else (spec.vendor or "nvidia").lower()


def assumed_stack(spec: HardwareSpec) -> str | None:
    """The stack that is assumed where none is named: llama.cpp on what people own.

    None in a data centre and for a reader's own file: there the shipped constants of analytic.constants stand,
    kernels as servers fuse them.
    """
    return None if spec.measured or spec.kind in ("datacentre", None) else "llama.cpp"


def workload_of(stack: Stack, work: Workload) -> Workload:
    """The run as a stack does it: what it fuses, its attention, chunks, cache and head."""
    weight = work.weight_dtype or work.dtype
    packed, ggml = is_packed(weight), weight.startswith("q")
    return work._replace(
        fused=stack.fused,
        attention=stack.attention,
        chunk=work.chunk or stack.chunk,
        kv_dtype=work.kv_dtype or (stack.kv_of_fp8 if weight == "fp8" else None),
        head_dtype=work.head_dtype or (work.dtype if (packed and not ggml) or weight == "fp8" else None),
        unpack_rows=UNPACK_ROWS if packed and stack.unpack == "first" else None,
    )


def is_packed(weight_dtype: str) -> bool:
    """Whether weights are stored in fewer bits than they are multiplied in.

    >>> is_packed("int4"), is_packed("fp8"), is_packed("bf16")
    (True, False, False)
    """
    return weight_dtype != "fp8" and DTYPES[weight_dtype].bits < 16


def stack_constants(stack: Stack, spec: HardwareSpec, dtype: str, weight_dtype: str | None = None) -> StackConstants:
    """Rates by class of operation, and the host's part, of a stack on a device."""
    weight = weight_dtype or dtype
    dtype = computed_in(spec, dtype)
    bounds = data_sheet(spec, dtype, weight if weight == "fp8" else dtype, packed=is_packed(weight))
    fixed_s = stack.kernel_s * _slowness(spec)
    compute, memory = (
        (stack.packed_compute, stack.packed_memory) if is_packed(weight) else (stack.gemm_compute, stack.gemm_memory)
    )
    vector = spec.peak_flops_per_s["fp32"] if stack.decode_vector_compute else None
    rates = {
        "gather": _lossy(bounds["gather"], fixed_s / 2, None, stack.elementwise_memory),
        "elementwise": _lossy(bounds["elementwise"], fixed_s / 2, None, stack.elementwise_memory),
        "gemm": _lossy(bounds["gemm"], fixed_s, compute * _product_peak(stack, spec, dtype, weight), memory, GEMM_Q),
        "attention_prefill": _lossy(
            bounds["attention_prefill"], fixed_s, stack.attention_compute * _peak_of(spec, dtype),
            stack.attention_memory, ATTENTION_Q,
        ),
        "attention_decode": _lossy(
            bounds["attention_decode"], fixed_s,
            vector * stack.decode_vector_compute if vector and stack.decode_vector_compute else None,
            stack.decode_memory, ATTENTION_Q,
        ),
    }  # fmt: skip
    if is_packed(weight) and spec.peak_flops_per_s["fp32"]:
        unpacking = 2 * spec.peak_flops_per_s["fp32"] / stack.unpack_ops
        rates["gemm_row"] = _lossy(bounds["gemm"], fixed_s, unpacking, memory, GEMM_Q)
    for name in ("collective", "collective_one_shot"):
        if name in bounds:
            rates[name] = _lossy(bounds[name], stack.link_s * _slowness(spec), None, stack.link_memory)
    seen = spec.name in stack.devices
    spread = stack.spread if seen else stack.unseen_spread
    if not stack.points:
        spread = {phase: MARGIN_OF_BORROWED * value for phase, value in spread.items()}
    host = Host(stack.request_s, stack.sequence_s, stack.step_s)
    return StackConstants(rates, _basis(stack, seen), max(spread.values()), host, stack, spread)


def _basis(stack: Stack, seen: bool) -> str:
    if not stack.points:
        return f"stack {stack.name} ({stack.versions}), constants borrowed: no point was fitted"
    unseen = "" if seen else ", none on this device"
    return f"stack {stack.name} ({stack.versions}), fitted on {stack.points} published points{unseen}"


def _slowness(spec: HardwareSpec) -> float:
    if spec.kind in OWN or spec.max_clock_hz is None:
        return 1.0
    return CLOCK_HZ / spec.max_clock_hz


def _lossy(bound: Rates, t0_s: float, flops_per_s: float | None, memory: float, q: float = 1.0) -> Rates:
    """The bound's peaks with efficiencies that give the rates of a stack: the bound stays readable off them."""
    if flops_per_s is None or bound.peak_flops_per_s is None:
        return Rates(bound.peak_flops_per_s, bound.bandwidth_bytes_per_s, t0_s, 1.0, memory, q)
    share = min(1.0, flops_per_s / bound.peak_flops_per_s)
    return Rates(bound.peak_flops_per_s, bound.bandwidth_bytes_per_s, t0_s, share, memory, q)


def computed_in(spec: HardwareSpec, dtype: str) -> str:
    """The type that a device computes a type in: a CPU without 16-bit units widens to fp32."""
    narrow = spec.kind == "cpu" and spec.peak_flops_per_s.get(dtype) is None
    return "fp32" if narrow else dtype


def _peak_of(spec: HardwareSpec, dtype: str) -> float:
    peak = spec.peak_flops_per_s.get(dtype)
    if peak is None:
        raise UnavailableError(f"{spec.name} must have a {dtype} peak to predict with; its data sheet has none")
    return peak


def _product_peak(stack: Stack, spec: HardwareSpec, dtype: str, weight: str) -> float:
    """The data sheet's peak in the types that a stack multiplies and accumulates in."""
    if is_packed(weight) and stack.unpack == "integer" and spec.peak_flops_per_s["int8"]:
        return spec.peak_flops_per_s["int8"]
    if dtype == "fp16" and stack.accumulate == "fp16" and spec.fp16_in_fp16_flops_per_s:
        return spec.fp16_in_fp16_flops_per_s
    return _peak_of(spec, product_dtype(spec, dtype, weight) if weight == "fp8" else dtype)


def prepared(
    spec: HardwareSpec, work: Workload, name: str, *, assumed: bool = False
) -> tuple[Workload, StackConstants]:
    """A run as a stack does it on a device, and what its prediction rests on. Raises UnavailableError."""
    stack = find_stack(name, spec)
    constants = stack_constants(stack, spec, work.dtype, work.weight_dtype)
    return workload_of(stack, work), constants._replace(assumed=assumed)
