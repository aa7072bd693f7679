"""Flash attention's algorithm against fp64, and the IO formula against the bytes that it moved."""

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape, flash_step, tile_pairs
from llamalab.attention.limits import shape_of
from llamalab.attention.tiled import tiled_attention
from llamalab.errors import InputError
from tests.attention.grid import DTYPES, GRID, assert_close, reference, tensors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_output_and_log_sum_exp(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype)
    tiled = tiled_attention(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(tiled.z_BHTE, tiled.lse_BHT, q, k, v)


@pytest.mark.parametrize("shape", GRID, ids=str)
def test_fp64_stays_fp64(shape: tuple[int, ...]) -> None:
    q, k, v = (x.double() for x in tensors(shape))
    tiled = tiled_attention(q, k, v, query_offset=shape[4] - shape[3])
    z, lse = reference(q, k, v)
    torch.testing.assert_close(tiled.z_BHTE, z, rtol=0, atol=1e-14)
    torch.testing.assert_close(tiled.lse_BHT, lse, rtol=0, atol=1e-13)


@pytest.mark.parametrize("query_tile", [1, 7, 128])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_bytes_moved_are_those_of_the_formula(shape: tuple[int, ...], dtype: torch.dtype, query_tile: int) -> None:
    q, k, v = tensors(shape, dtype)
    offset = shape[4] - shape[3]
    moved = tiled_attention(q, k, v, query_offset=offset, query_tile=query_tile, key_tile=29).traffic
    step = flash_step(shape_of(q, k), query_tile=query_tile)
    assert moved.read.total() - step.read_bytes == 0
    assert moved.written["z"] - step.written_bytes == 0
    # What only a backward pass needs is counted apart: an fp32 number per query and head.
    assert moved.written["lse"] == 4 * shape[0] * shape[1] * shape[3]


@pytest.mark.parametrize("shape", GRID, ids=str)
def test_pairs_computed_lie_between_causal_and_dense(shape: tuple[int, ...]) -> None:
    q, k, v = tensors(shape)
    sizes = shape_of(q, k)
    pairs = {
        tile: tiled_attention(q, k, v, query_offset=shape[4] - shape[3], query_tile=tile).traffic.pairs
        for tile in (1, 16, 1024)
    }
    assert pairs[1] == sizes.pairs_causal  # tiles of one query skip all that is masked
    assert sizes.pairs_causal <= pairs[16] <= pairs[1024] == sizes.pairs_full
    assert pairs == {tile: tile_pairs(sizes, tile, 1) for tile in pairs}


def test_keys_and_values_are_read_once_per_group_and_not_once_per_head() -> None:
    read = {}
    for kv_heads in (6, 2, 1):
        q, k, v = tensors((2, 6, kv_heads, 1, 300, 64))
        read[kv_heads] = tiled_attention(q, k, v, query_offset=299).traffic.read["k"]
    assert read == {heads: 2 * heads * 300 * 64 * 4 for heads in (6, 2, 1)}


def test_naive_traffic_outgrows_what_flash_moves() -> None:
    # 2 bytes of scores per pair and pass against K and V once per 128 queries.
    one, four = (flash_step(AttentionShape(1, n, n, 8, 8, 64)).read_bytes for n in (1024, 4096))
    assert 12 < four / one < 16


def test_keys_after_the_last_query_are_neither_seen_nor_read() -> None:
    q, k, v = tensors((2, 6, 2, 5, 40, 16))
    k[:, :, 17:], v[:, :, 17:] = float("nan"), float("nan")
    tiled = tiled_attention(q, k, v, query_offset=12)
    z, _ = reference(q, k[:, :, :17], v[:, :, :17])
    torch.testing.assert_close(tiled.z_BHTE.double(), z, rtol=0, atol=3e-6)
    assert tiled.traffic.read["k"] == 2 * 2 * 17 * 16 * 4


def test_a_large_score_in_a_late_tile_does_not_overflow() -> None:
    q, k, v = tensors((1, 2, 1, 300, 300, 16))
    q, k[:, :, 200] = q * 30, k[:, :, 200] * 30
    tiled = tiled_attention(q, k, v, query_offset=0, key_tile=32)
    z, lse = reference(q, k, v)
    torch.testing.assert_close(tiled.z_BHTE.double(), z, rtol=0, atol=2e-5)
    torch.testing.assert_close(tiled.lse_BHT.double(), lse, rtol=1e-6, atol=1e-5)


def test_a_misfit_of_shapes_is_refused() -> None:
    q, k, v = tensors((2, 6, 2, 5, 17, 16))
    with pytest.raises(InputError, match="query_offset must"):
        tiled_attention(q, k, v, query_offset=13)
