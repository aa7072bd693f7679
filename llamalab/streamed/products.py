"""x W^T of a few rows by rows.cpp and blocks.cpp: with plain weights, and with codes of 8 and 4 bits in groups.

O out features, I in features (a multiple of 32), G groups of a row.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from llamalab.startup.compilers import constant_in_graphs
from llamalab.streamed.layout import UNIT, out_features
from llamalab.streamed.library import library

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_TRIED_OI, _TRIED_ROWS = (23, 96), (1, 3)


@constant_in_graphs
def can_stream(dtype: torch.dtype, inner: int) -> bool:
    """Whether rows of so many weights are supported; the loops are tested on a small product first."""
    return dtype in TYPES and inner % UNIT == 0 and _streams(dtype)


def multiply_plain(x: Tensor, weight_OI: Tensor) -> Tensor:
    """The product with a plain weight."""
    made: Tensor = torch.ops.llamalab_streamed.plain(x, weight_OI)
    return made


def multiply_codes(x: Tensor, laid: Tensor, scales: Tensor, group: int) -> Tensor:
    """The product with codes and their scales as `layout` lays them."""
    made: Tensor = torch.ops.llamalab_streamed.codes(x, laid, scales, group)
    return made


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return _called("plain", x, (weight,), weight.dtype)


def _codes(x: Tensor, laid: Tensor, scales: Tensor, group: int) -> Tensor:
    bits = "int8" if laid.dtype == torch.int8 else "int4"
    return _called(bits if laid.dim() == 2 else f"{bits}_blocks", x, (laid, scales), scales.dtype, group)


def _called(name: str, x: Tensor, weight: tuple[Tensor, ...], dtype: torch.dtype, *group: int) -> Tensor:
    loops = library()
    assert loops is not None, "can_stream says where the loops are"
    out, inner = out_features(weight[0]), x.shape[-1]
    wide, made = x.float().contiguous(), torch.empty(*x.shape[:-1], out)
    loops[f"{name}_{TYPES[dtype]}"](
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (wide, *weight, made)),
        *(ctypes.c_long(size) for size in (x.numel() // inner, out, inner, *group)),
        ctypes.c_int(torch.get_num_threads()),
    )
    return made.to(x.dtype)


def _shaped(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features(weight))


# Operations of torch, so that compilers accept them and a profiler names them.
_OPERATIONS = torch.library.Library("llamalab_streamed", "DEF")  # type: ignore[no-untyped-call]
for _name, _run, _words in (
    ("plain", _plain, "(Tensor x, Tensor weight) -> Tensor"),
    ("codes", _codes, "(Tensor x, Tensor laid, Tensor scales, int group) -> Tensor"),
):
    _OPERATIONS.define(_name + _words)  # type: ignore[no-untyped-call]
    _OPERATIONS.impl(_name, _run, "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"llamalab_streamed::{_name}", _shaped, lib=_OPERATIONS)


@cache
def _streams(dtype: torch.dtype) -> bool:
    """Whether the loops are available and give right results with plain weights of this type."""
    if library() is None:
        return False
    out, inner = _TRIED_OI
    with torch.inference_mode(), torch.device("cpu"):
        weight_OI = torch.linspace(-1, 1, out * inner).view(out, inner).sin().to(dtype)
        for rows in _TRIED_ROWS:
            x = torch.linspace(-2, 2, rows * inner).view(rows, inner).cos().to(dtype)
            exact = x.double() @ weight_OI.double().T
            error = (multiply_plain(x, weight_OI).double() - exact).abs().max()
            if not error <= 8 * exact.abs().max() * torch.finfo(dtype).eps:
                return False
    return True
