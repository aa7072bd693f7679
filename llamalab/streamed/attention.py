"""Attention of one query of each sequence by attention.cpp, in fp32 from keys and values of any type.

B batch, S visible keys, H query heads, K KV heads, E head dim (a multiple of 16).
"""

import ctypes

import torch
from torch import Tensor

from llamalab.streamed.library import library
from llamalab.streamed.products import TYPES, can_stream

_STEP = 16  # elements in one step of the loops


def can_attend(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the loops support keys of this type and size."""
    return head_dim % _STEP == 0 and can_stream(dtype, 2 * head_dim)


def attend_one(q_BH1E: Tensor, k_BKSE: Tensor, v_BKSE: Tensor) -> Tensor:
    """z_BH1E over all keys."""
    made: Tensor = torch.ops.llamalab_streamed.attend(q_BH1E, k_BKSE, v_BKSE)
    return made


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    loops = library()
    assert loops is not None, "can_attend says where the loops are"
    batch, heads, _, dim = q.shape
    k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (k, v))
    wide, made = q.float().contiguous(), torch.empty(q.shape)
    strides = [(ctypes.c_long * 3)(*x.stride()[:3]) for x in (k, v)]
    loops[f"attend_{TYPES[k.dtype]}"](
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (wide, k, v, made)),
        *strides,
        *(ctypes.c_long(size) for size in (batch, k.shape[1], heads // k.shape[1], k.shape[2], dim)),
        ctypes.c_float(dim**-0.5),
        ctypes.c_int(torch.get_num_threads()),
    )
    return made.to(q.dtype)


_OPERATIONS = torch.library.Library("llamalab_streamed", "FRAGMENT")  # type: ignore[no-untyped-call]
_OPERATIONS.define("attend(Tensor q, Tensor k, Tensor v) -> Tensor")  # type: ignore[no-untyped-call]
_OPERATIONS.impl("attend", _attend, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("llamalab_streamed::attend", lambda q, k, v: torch.empty_like(q), lib=_OPERATIONS)
