"""The fastest product of each weight shape on this machine: packed, plain, streamed, or in fp32 for many rows.

One row, as in decode, and many, as in a prompt, are timed in every way that this CPU has, over weights that no cache
holds. The results are stored beside the calibrations of this machine, one file a dtype, and are measured again where
the CPU, torch or the number of threads differs.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llamalab.analytic.calibration_files import folder
from llamalab.analytic.kept_weights import shapes_of
from llamalab.arch import LlamaArch
from llamalab.errors import LlamaLabError
from llamalab.files.inputs import read_object
from llamalab.files.outputs import write_text
from llamalab.measure.device.machine import clock_for, device_name, probe_budget_bytes
from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model import torch_dtype
from llamalab.model.onednn import can_pack, multiply_packed, pack
from llamalab.model.wide import BY_LOOPS, PACKED, PLAIN, ShapeProduct, multiply_wide
from llamalab.streamed.products import can_stream, multiply_plain

WeightShape = tuple[int, int]
SecondsOfWay = Callable[[str, int], float]

_KIND = "llamalab-products"
_MANY_ROWS = (32, 128, 512)
_FEW_ROWS = (4, 16, 64)  # most rows of a streamed weight
_LEAST_SIZE = 2**22  # of a matrix: calls dominate smaller ones
_MOST_OUT = 8192  # of a trial: the rate of wider ones is the same
_BEYOND_BYTES = 2**27  # of copies of a weight, used in turn
_MARGIN = 1.05  # speedup over packed from which another product is chosen
_PLAN = Plan(0.15, 2, 8, 1, 0.0)
_LONGEST_S = 2.0  # longest product; a longer one is extrapolated from fewer rows instead of run
_WIDE = ", fp32"


def products_here(
    device: torch.device, dtype: str, arch: LlamaArch, weight_dtype: str | None = None
) -> dict[WeightShape, ShapeProduct]:
    """The products of a model's large matrices on this device: stored ones, and newly timed ones, which are stored.

    Empty on an accelerator, for quantised weights, which have their own kernels, and for a model of small matrices.
    """
    if device.type != "cpu" or weight_dtype is not None:
        return {}
    wanted = set(map(_trial_shape, _large(arch)))
    known = kept_products(device, dtype)
    lacking = sorted(wanted - known.keys())
    if lacking:
        clock = clock_for(device)
        known |= {
            shape: chosen(orders(dtype, shape[1]), dtype, _timed(shape, device, dtype, clock)) for shape in lacking
        }
        _keep(device, dtype, known)
    return {(out, inner): known[_trial_shape((out, inner))] for out, inner in _large(arch)}


def products_like(device: torch.device, dtype: str, arch: LlamaArch, ranks: int = 1) -> dict[WeightShape, ShapeProduct]:
    """For the large matrices of one of a model's ranks, the stored product of the shape nearest in size.

    Empty where none is stored.
    """
    known = kept_products(device, dtype) if device.type == "cpu" else {}
    return {
        shape: known[min(known, key=lambda one: abs(one[0] * one[1] - shape[0] * shape[1]))]
        for shape in (_large(arch, ranks) if known else ())
    }


def _large(arch: LlamaArch, ranks: int = 1) -> list[WeightShape]:
    """The shapes of matrices whose time is not dominated by the call."""
    shapes = {(shape[0], shape[1]) for shape in shapes_of(arch, ranks).values()}
    return sorted(shape for shape in shapes if shape[0] * shape[1] >= _LEAST_SIZE)


def chosen(orders: Sequence[str], dtype: str, seconds: SecondsOfWay) -> ShapeProduct:
    """The fastest product: the order by the times of one row and of many, the first one where they are close.

    >>> chosen(["packed", "plain"], "bf16", lambda way, rows: rows / (3 if way == "packed, fp32" else 1))
    ShapeProduct(order='packed', wide_rows=32, streamed_rows=0)
    """
    widens = dtype != "fp32"

    def by_torch(order: str, rows: int) -> float:
        kept = PLAIN if order == BY_LOOPS else order
        return min(seconds(way, rows) for way in ([kept, kept + _WIDE] if widens else [kept]))

    def both(order: str) -> float:
        return seconds(order, 1) * by_torch(order, _MANY_ROWS[-1])

    order = orders[0]
    for other in orders[1:]:
        order = other if both(other) * _MARGIN < both(order) else order
    kept, wide_rows, streamed_rows = PLAIN if order == BY_LOOPS else order, None, 0
    for rows in reversed(_MANY_ROWS if widens else ()):
        if seconds(kept + _WIDE, rows) * _MARGIN >= seconds(kept, rows):
            break
        wide_rows = rows
    for rows in (1, *_FEW_ROWS) if order == BY_LOOPS else ():
        if rows > 1 and seconds(BY_LOOPS, rows) > by_torch(order, rows):
            break
        streamed_rows = rows
    return ShapeProduct(kept, wide_rows, streamed_rows)


def orders(dtype: str, inner: int) -> list[str]:
    """The layouts for one row that this CPU has with weights of so many features."""
    kind = torch_dtype(dtype)
    return [PACKED] * can_pack(kind) + [PLAIN] + [BY_LOOPS] * can_stream(kind, inner)


def kept_products(device: torch.device, dtype: str) -> dict[WeightShape, ShapeProduct]:
    """Products timed on this machine in its present state; none where there are none."""
    try:
        data = read_object(path_of(dtype), "file of measured products")
        if any(data.get(key) != value for key, value in _machine(device, dtype).items()):
            return {}
        return {_shape(name): ShapeProduct(*_checked(one)) for name, one in data["shapes"].items()}
    except (LlamaLabError, KeyError, ValueError, TypeError, AttributeError):  # the file is missing or of another kind
        return {}


def path_of(dtype: str) -> Path:
    """The file that stores the products of a dtype."""
    return folder() / f"cpu-{dtype}-products.json"


def _checked(one: Mapping[str, Any]) -> tuple[str, int | None, int]:
    order, wide_rows, streamed_rows = one["order"], one["wide_rows"], one["streamed_rows"]
    fits = wide_rows is None or (type(wide_rows) is int and wide_rows > 0)
    if order not in (PACKED, PLAIN) or not fits or type(streamed_rows) is not int or streamed_rows < 0:
        raise ValueError(order, wide_rows, streamed_rows)
    return order, wide_rows, streamed_rows


def _machine(device: torch.device, dtype: str) -> dict[str, Any]:
    """The properties by which stored products are valid: CPU, torch and threads."""
    return {
        "kind": _KIND,
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "most_instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "dtype": dtype,
    }


def _keep(device: torch.device, dtype: str, known: Mapping[WeightShape, ShapeProduct]) -> None:
    shapes = {f"{out}x{inner}": one._asdict() for (out, inner), one in sorted(known.items())}
    try:
        write_text(
            path_of(dtype), json.dumps(_machine(device, dtype) | {"shapes": shapes}, indent=1) + "\n", ours=_KIND
        )
    except (LlamaLabError, OSError):
        return  # a folder that cannot be written only costs a trial the next time


def _shape(name: str) -> WeightShape:
    out, _, inner = name.partition("x")
    return int(out), int(inner)


def _trial_shape(shape: WeightShape) -> WeightShape:
    return min(shape[0], _MOST_OUT), shape[1]


def _timed(shape: WeightShape, device: torch.device, dtype: str, clock: Clock) -> SecondsOfWay:
    """SecondsOfWay of products with weights of this shape, measured when asked for the first time."""
    out, inner = shape
    kind = torch_dtype(dtype)
    size = out * inner * kind.itemsize
    copies = max(1, min(-(-_BEYOND_BYTES // size), probe_budget_bytes(device) // (2 * size)))
    weights = {PLAIN: [torch.full(shape, 0.5, dtype=kind) for _ in range(copies)]}
    if can_pack(kind):
        weights[PACKED] = [pack(one) for one in weights[PLAIN]]
    multiply: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        PACKED: multiply_packed,
        PLAIN: torch.nn.functional.linear,
        BY_LOOPS: multiply_plain,
        PACKED + _WIDE: lambda x, weight: multiply_wide(x, weight.to_dense()),
        PLAIN + _WIDE: multiply_wide,
    }
    found: dict[tuple[str, int], float] = {}

    @torch.inference_mode()
    def seconds(way: str, rows: int) -> float:
        if (way, rows) in found:
            return found[way, rows]
        least = _MANY_ROWS[0]  # one row is bound by memory, and does not predict many rows
        in_proportion_s = seconds(way, least) * rows / least if rows > least else 0.0
        if in_proportion_s > _LONGEST_S:
            found[way, rows] = in_proportion_s
        else:
            kept = PLAIN if way == BY_LOOPS else way.removesuffix(_WIDE)
            x, turns = torch.full((rows, inner), 0.25, dtype=kind), cycle(weights[kept])
            found[way, rows] = min(time_one(lambda: multiply[way](x, next(turns)), clock, _PLAN))
        return found[way, rows]

    return seconds
