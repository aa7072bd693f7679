"""The products of products.c on tensors. M rows of activations, O out features, I in features, G groups of a row."""

import ctypes

import torch
from torch import Tensor

from llamalab.model.native.library import library

_BLOCK = 128  # inputs that share a scale while they are multiplied by codes

_pointer, _long = ctypes.c_void_p, ctypes.c_long


def bf16_rows() -> int:
    """The most rows that a plain weight is multiplied by at the rate of one; 0 where nothing is."""
    made = library()
    return 0 if made is None else 2 * int(made.llamalab_bf16_rows())


def takes_bf16(weight_OI: Tensor) -> bool:
    """Whether a plain weight can be multiplied."""
    made = library()
    if made is None or weight_OI.dtype != torch.bfloat16 or weight_OI.device.type != "cpu":
        return False
    return weight_OI.is_contiguous() and weight_OI.shape[1] % int(made.llamalab_bf16_step()) == 0


def takes_codes(inner: int, group: int) -> bool:
    """Whether codes in such groups can be multiplied: this needs the processor's products of whole numbers."""
    made = library()
    grouped = group == inner or (group >= 32 and group & (group - 1) == 0)
    return made is not None and hasattr(made, "llamalab_codes") and inner % _BLOCK == 0 and grouped


def multiply_bf16(x_MI: Tensor, weight_OI: Tensor) -> Tensor:
    """X W^T of a plain weight that `takes_bf16`."""
    made, x_MI = library(), x_MI.contiguous()
    assert made is not None
    (rows, inner), out = x_MI.shape, weight_OI.shape[0]
    y_MO = torch.empty(rows, out, dtype=torch.bfloat16)
    made.llamalab_bf16(_at(weight_OI), _at(x_MI), _at(y_MO), _long(rows), _long(out), _long(inner))
    return y_MO


def multiply_codes(
    bits: int, x_MI: Tensor, codes: Tensor, scales_OG: Tensor, offsets_OG: Tensor | None, group: int
) -> Tensor:
    """X W^T of codes as products.c wants them. Raises MemoryError where there is none for the parts of x."""
    made, x_MI = library(), x_MI.contiguous()
    assert made is not None
    (rows, inner), out = x_MI.shape, scales_OG.shape[0]
    y_MO = torch.empty(rows, out, dtype=torch.bfloat16)
    pointers = [_at(one) for one in (codes, scales_OG, offsets_OG, x_MI, y_MO)]
    if made.llamalab_codes(bits, *pointers, _long(rows), _long(out), _long(inner), _long(group)):
        raise MemoryError("a product of codes must have memory for the parts of its inputs")
    return y_MO


def _at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else _pointer(tensor.data_ptr())
