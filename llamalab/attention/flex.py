"""PyTorch's attention compiler: flex_attention, compiled for the causal rule.

The mask is a Python function; the compiler fuses it into a flash kernel. The rule determines in advance which tiles of
the score matrix are empty, full or on the diagonal, so that the block mask is built directly instead of from a T x S
mask.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention.limits import shape_of
from llamalab.attention.shapes import in_view
from llamalab.errors import UnavailableError

TILE = 128
MIN_HEAD_DIM = 16
MOST_KINDS = 256  # combinations of dtype, heads and head dim that one process compiles for


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """Causal attention; compiled at the first call of each kind. Raises InputError, UnavailableError."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    check(shape_of(q_BHTE, k_BKSE, window), q_BHTE.device)
    mask = causal_block_mask(q_BHTE.shape[2], k_BKSE.shape[2], query_offset, q_BHTE.device, window)
    grouped = q_BHTE.shape[1] != k_BKSE.shape[1]
    # Past the limit PyTorch would run the attention uncompiled, with all scores in memory, without a warning.
    with torch._dynamo.config.patch(recompile_limit=MOST_KINDS):
        z_BHTE: Tensor = _compiled()(q_BHTE, k_BKSE, v_BKSE, block_mask=mask, enable_gqa=grouped)
    return z_BHTE


def check(shape: AttentionShape, device: torch.device) -> None:
    """Raise UnavailableError for a call that compiled flex attention does not support."""
    if device.type not in ("cpu", "cuda"):
        raise UnavailableError(f"attention 'flex' compiles for cpu and cuda; got {device.type}; take 'sdpa'")
    if shape.dtype not in ("bf16", "fp16", "fp32"):
        raise UnavailableError(f"attention 'flex' computes in bf16, fp16 or fp32; got {shape.dtype}; take 'naive'")
    if shape.head_dim < MIN_HEAD_DIM:
        raise UnavailableError(
            f"attention 'flex' takes head dims of at least {MIN_HEAD_DIM}; got {shape.head_dim}; take 'sdpa'"
        )


@functools.lru_cache(maxsize=64)  # a decode step has a new length every time: keep the last few
def causal_block_mask(
    new_tokens: int, context: int, query_offset: int, device: torch.device, window: int | None = None
) -> BlockMask:
    """Which tiles to visit: those that some query sees, with a mask where another does not see all of them.

    >>> causal_block_mask(256, 256, 0, torch.device("cpu")).kv_num_blocks.tolist()
    [[[1, 1]]]
    """
    partial, full = zip(*_tiles(new_tokens, query_offset, window or context), strict=True)
    offset, length = torch.tensor(query_offset, device=device), torch.tensor(window, device=device) if window else None

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        earlier = key <= query + offset
        return earlier if length is None else earlier & (key > query + offset - length)

    return BlockMask.from_kv_blocks(
        *_listed(partial, context, device),
        *_listed(full, context, device),
        BLOCK_SIZE=TILE,
        mask_mod=visible,
        seq_lengths=(new_tokens, context),
    )


def _tiles(new_tokens: int, query_offset: int, window: int) -> list[tuple[list[int], range]]:
    """For each tile of queries: the tiles of keys that some query sees in part, and those that all see in full."""
    tiles = []
    for start in range(0, new_tokens, TILE):
        first, last = query_offset + start, query_offset + min(start + TILE, new_tokens) - 1
        by_any = range(max(first - window + 1, 0) // TILE, last // TILE + 1)
        by_all = range(-(-max(last - window + 1, 0) // TILE), (first + 1) // TILE)
        tiles.append(([tile for tile in by_any if tile not in by_all], by_all))
    return tiles


def _listed(rows: tuple[Sequence[int], ...], context: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Counts (1, 1, query tiles) and, padded to the same width, indices of the tiles of keys."""
    width = -(-context // TILE)
    counts = torch.tensor([[[len(row) for row in rows]]], dtype=torch.int32, device=device)
    indices = [[*row, *(0 for _ in range(width - len(row)))] for row in rows]
    return counts, torch.tensor([[indices]], dtype=torch.int32, device=device)


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, fullgraph=True)
