"""x W^T of a few rows by rows.cpp: with plain weights, and with codes of 8 and 4 bits in groups.

O out features, I in features (a multiple of 32), G groups of a row.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from llamalab.streamed.library import library

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
UNIT = 32  # weights in one step of the loops
_TRIED_OI, _TRIED_ROWS = (23, 96), (1, 3)


def can_stream(dtype: torch.dtype, inner: int) -> bool:
    """Whether rows of so many weights are supported; the loops are tested on a small product first."""
    return dtype in TYPES and inner % UNIT == 0 and _streams(dtype)


def multiply_plain(x: Tensor, weight_OI: Tensor) -> Tensor:
    """The product with a plain weight."""
    made: Tensor = torch.ops.llamalab_streamed.plain(x, weight_OI)
    return made


def multiply_codes(x: Tensor, codes: Tensor, scales_OG: Tensor, group: int) -> Tensor:
    """The product with codes_OI of 8 bits, or of 4 bits packed by `in_bytes`."""
    made: Tensor = torch.ops.llamalab_streamed.codes(x, codes, scales_OG, group)
    return made


def in_bytes(codes_OI: Tensor) -> Tensor:
    """Codes of -8 to 7, plus 8, two in a byte: of 32 neighbours the first half in the low bits, the other in the high.

    >>> in_bytes(torch.arange(32, dtype=torch.int8)[None] % 8 - 8)[0, :3].tolist()
    [0, 17, 34]
    """
    halves = (codes_OI + 8).to(torch.uint8).view(len(codes_OI), -1, 2, UNIT // 2)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).flatten(1)


def from_bytes(packed: Tensor) -> Tensor:
    """The inverse of `in_bytes`."""
    halves = packed.view(len(packed), -1, 1, UNIT // 2)
    return torch.cat((halves & 15, halves >> 4), 2).flatten(1).to(torch.int8).sub_(8)


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return _called("plain", x, (weight,), weight.dtype)


def _codes(x: Tensor, codes: Tensor, scales: Tensor, group: int) -> Tensor:
    return _called("int8" if codes.dtype == torch.int8 else "int4", x, (codes, scales), scales.dtype, group)


def _called(name: str, x: Tensor, weight: tuple[Tensor, ...], dtype: torch.dtype, *group: int) -> Tensor:
    loops = library()
    assert loops is not None, "can_stream says where the loops are"
    out, inner = len(weight[0]), x.shape[-1]
    wide, made = x.float().contiguous(), torch.empty(*x.shape[:-1], out)
    loops[f"{name}_{TYPES[dtype]}"](
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (wide, *weight, made)),
        *(ctypes.c_long(size) for size in (x.numel() // inner, out, inner, *group)),
        ctypes.c_int(torch.get_num_threads()),
    )
    return made.to(x.dtype)


def _shaped(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


# Operations of torch, so that compilers accept them and a profiler names them.
_OPERATIONS = torch.library.Library("llamalab_streamed", "DEF")  # type: ignore[no-untyped-call]
for _name, _run, _words in (
    ("plain", _plain, "(Tensor x, Tensor weight) -> Tensor"),
    ("codes", _codes, "(Tensor x, Tensor codes, Tensor scales, int group) -> Tensor"),
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
