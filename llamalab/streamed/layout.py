"""The order of codes for the loops: row by row for rows.cpp, in blocks of 16 rows for blocks.cpp.

A block has the codes of 16 rows in bytes beside each other, four neighbours of one row after four of the row before;
codes of 4 bits have the next four in the high halves. All but codes of 8 bits row by row are stored with an excess of
half their range, so that none is negative.

O out features, I in features (a multiple of 32), G groups of a row, B blocks.
"""

import torch
from torch import Tensor

UNIT = 32  # weights in one step of the loops of rows.cpp
ROWS = 16  # of a block
_TOGETHER = 4  # neighbours of one row


def out_features(laid: Tensor) -> int:
    """O of a plain weight or of codes in either order."""
    return len(laid) * (ROWS if laid.dim() == 3 else 1)


def in_bytes(codes_OI: Tensor) -> Tensor:
    """Codes of -8 to 7, plus 8, two in a byte: of 32 neighbours the first half in the low bits, the other in the high.

    >>> in_bytes(torch.arange(32, dtype=torch.int8)[None] % 8 - 8)[0, :3].tolist()
    [0, 17, 34]
    """
    return _paired(codes_OI, UNIT // 2)


def from_bytes(packed: Tensor) -> Tensor:
    """The inverse of `in_bytes`."""
    return _apart(packed, UNIT // 2)


def in_blocks(codes_OI: Tensor, bits: int) -> Tensor:
    """Codes of whole blocks of rows as (B, I / 4, 64) int8 of 8 bits, or (B, I / 8, 64) uint8 of 4.

    >>> codes = torch.arange(32, dtype=torch.int8).repeat(16, 1) % 8 - 8
    >>> [tuple(in_blocks(codes, bits).shape) for bits in (8, 4)], in_blocks(codes, 4)[0, 0, :5].tolist()
    ([(1, 8, 64), (1, 4, 64)], [64, 81, 98, 115, 64])
    """
    if bits == 8:
        return _beside(codes_OI.view(torch.uint8) ^ 0x80).view(torch.int8)
    return _beside(_paired(codes_OI, _TOGETHER))


def from_blocks(laid: Tensor) -> Tensor:
    """The inverse of `in_blocks`: codes_OI."""
    rows = laid.view(len(laid), -1, ROWS, _TOGETHER).transpose(1, 2).reshape(out_features(laid), -1)
    if laid.dtype == torch.int8:
        return (rows.view(torch.uint8) ^ 0x80).view(torch.int8)
    return _apart(rows, _TOGETHER)


def scales_in_blocks(scales_OG: Tensor) -> Tensor:
    """(B, G, 16): the scales of a group of 16 rows beside each other."""
    return scales_OG.view(-1, ROWS, scales_OG.shape[1]).transpose(1, 2).contiguous()


def scales_from_blocks(scales_BG: Tensor) -> Tensor:
    """The inverse of `scales_in_blocks`: scales_OG."""
    return scales_BG.transpose(1, 2).flatten(0, 1)


def _paired(codes_OI: Tensor, width: int) -> Tensor:
    """Codes of 4 bits, plus 8, in bytes: `width` neighbours in the low halves, the next ones in the high halves."""
    halves = (codes_OI + 8).to(torch.uint8).view(len(codes_OI), -1, 2, width)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).flatten(1)


def _apart(packed: Tensor, width: int) -> Tensor:
    """The inverse of `_paired`."""
    halves = packed.view(len(packed), -1, 1, width)
    return torch.cat((halves & 15, halves >> 4), 2).flatten(1).to(torch.int8).sub_(8)


def _beside(bytes_OI: Tensor) -> Tensor:
    """Bytes of rows as (B, I / 4, 64)."""
    return bytes_OI.view(-1, ROWS, bytes_OI.shape[1] // _TOGETHER, _TOGETHER).transpose(1, 2).flatten(2).contiguous()
