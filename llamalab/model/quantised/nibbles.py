"""4-bit codes in bytes in the layout of torch's CPU kernel, which is found by trial, and the inverse.

`torch.ops.aten._convert_weight_to_int4pack_for_cpu` puts blocks of rows one after the other, in each block column after
column. In a byte of a whole block lie two rows that are half a block apart, in a byte of the last rows that make no
whole block two neighbours (aten/src/ATen/native/cpu/int4mm_kernel.cpp). How many rows a block has depends on the
instruction set; `block_rows` finds out by packing codes that identify their place; it is None where no block fits.

O out features, I in features.
"""

from functools import cache

import torch
from torch import Tensor

_BLOCKS = (64, 32, 16)


def in_nibbles(codes_OI: Tensor) -> Tensor:
    """Codes of -8 to 7 in the order of the CPU kernel, two in a byte. Raises RuntimeError where there is none."""
    made: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_OI.int() + 8, 1)
    return made


def from_nibbles(packed: Tensor, block: int) -> Tensor:
    """The codes_OI from the output of `in_nibbles`, with blocks of so many rows."""
    out, inner = packed.shape[0], 2 * packed.shape[1]
    whole = out - out % block
    flat = packed.view(-1)
    codes = torch.empty(out, inner, dtype=torch.int8, device=packed.device)
    if whole:
        bytes_BIH = flat[: whole * inner // 2].view(-1, inner, block // 2)
        rows = codes[:whole].view(-1, 2, block // 2, inner)
        rows[:, 0] = ((bytes_BIH & 15).to(torch.int8) - 8).transpose(1, 2)
        rows[:, 1] = ((bytes_BIH >> 4).to(torch.int8) - 8).transpose(1, 2)
    if out > whole:
        bytes_IH = flat[whole * inner // 2 :].view(inner, -1)
        codes[whole::2] = ((bytes_IH & 15).to(torch.int8) - 8).t()
        codes[whole + 1 :: 2] = ((bytes_IH >> 4).to(torch.int8) - 8).t()
    return codes


@cache
def block_rows() -> int | None:
    """Rows of a block in this CPU's order; None where the order is unknown, or there is no such kernel."""
    generator = torch.Generator().manual_seed(0)
    tried = [torch.randint(-8, 8, (out, 32), generator=generator, dtype=torch.int8) for out in (128, 80)]
    try:
        packed = [(one, in_nibbles(one)) for one in tried]
        return next((n for n in _BLOCKS if all(torch.equal(from_nibbles(made, n), one) for one, made in packed)), None)
    except (RuntimeError, AttributeError):
        return None
