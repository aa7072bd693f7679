"""Software stacks: a few constants of each, applied to the columns of a data sheet.

    time = host + sum over operations of: fixed time + softmax_q(FLOPs / (share * peak), bytes / (share * bandwidth))

A stack is a row of stacks.json per kind of device: its fusion, its accumulation dtype, its handling of packed weights,
the shares of peak and bandwidth that its kernels reach, and its overhead on the host. There are no constants of a
device: one without fitted points is predicted from its data sheet alone. A row inherits missing values from its
parent, so that stacks with few points share constants that their points do not determine. The rows are fitted by
experiments/fit_stacks.py, which also writes error and spread.
"""

import os
from functools import lru_cache

from llamalab.errors import UnavailableError, UnknownNameError
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import Any, NamedTuple

UNPACKS = ("inside", "first", "integer")
OWN = ("apple", "cpu")  # a kind of device whose rows apply to no other


class Stack(NamedTuple):
    """One stack on one kind of device. Shares lie in (0, 1]; times are seconds at CLOCK_HZ.

    `chunk` is how many tokens of a prompt go through at a time; several devices `split` every layer (tensor), or
    take layers each, one after the other (layers). `unpack` tells what becomes of packed weights
    under many rows: unpacked inside the product, first (written out in 16 bits), or multiplied as integers.
    Under one row they are unpacked by the vector units, with `unpack_ops` operations a weight, `k_quant_ops` times as
    many in GGML's K formats, whose scales are packed too; of 16-bit weights a multiprocessor then reads
    `row_bytes_per_clock`, what its warps keep in flight (None: no limit of its own). `vector_ops` is how
    many operations the vector units do for a byte that an elementwise kernel, or attention in steps, moves.
    Operations and shares of vector units refer to the issue rate of their schedulers (analytic.data_sheet.issue_peak).
    A collective takes `link_s` over NVLink, and `hop_s` for each of the 2 (N - 1) steps of a ring over PCIe.
    `vector_products` means that products run on the vector units of a CPU, and shares are of its fp32 peak;
    `die_bytes_per_s` is the bandwidth of the threads of one of its dies (analytic.cpu_threads).
    Up to `split_heads` query heads over all sequences, decode attention is split over its keys and reaches
    `split_gain` times its share of the vector units' peak (analytic.split_attention).
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
    split: str
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
    split_heads: int | None
    split_gain: float
    elementwise_memory: float
    unpack_ops: float
    k_quant_ops: float
    row_bytes_per_clock: float | None
    vector_ops: float
    vector_products: bool
    die_bytes_per_s: float | None
    link_s: float
    link_memory: float
    hop_s: float
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


SPREAD_PHASES = ("prefill", "decode", "run")


@lru_cache(maxsize=1)
def stacks() -> dict[str, Stack]:
    """All rows, by `name/kind of device`."""
    import json  # imported here: most predictions rest on shipped constants, and need no stack

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
    """The selectable stacks according to the file; choices.STACK_NAMES lists them without reading it."""
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
    """The kind of a device's rows: nvidia, amd, intel, apple, or cpu."""
    return spec.kind if spec.kind == "cpu" else (spec.vendor or "nvidia").lower()


def assumed_stack(spec: HardwareSpec) -> str | None:
    """The default stack of a device: llama.cpp on consumer devices.

    None in a data centre and for a user's own file: there the shipped constants of analytic.shipped_constants apply,
    with fused kernels as in servers.
    """
    return None if spec.measured or spec.kind in ("datacentre", None) else "llama.cpp"
