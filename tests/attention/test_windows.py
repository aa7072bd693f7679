"""Sliding windows in every backend against attention in fp64; what they move against what they are said to move."""

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape, flash_step
from llamalab.attention import get_backend, naive
from llamalab.attention.flex import causal_block_mask
from llamalab.attention.tiled import tiled_attention
from llamalab.errors import InputError, UnavailableError
from llamalab.instrument.scores import partial_scores
from llamalab.instrument.selection import TensorPart
from tests.attention.grid import WINDOWS, assert_close, tensors

NAMES = ("naive", "chunked", "tiled", "sdpa", "streamed", "mixed", "math", "flash")
HEADS = ((6, 6), (6, 2), (6, 1))


@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_attends_within_a_window(name: str, sizes: tuple[int, int, int]) -> None:
    new, keys, window = sizes
    for heads in HEADS:
        q, k, v = tensors((2, *heads, new, keys, 20))
        z = get_backend(name).attend(q, k, v, query_offset=keys - new, window=window)
        assert_close(z, None, q, k, v, window)


@pytest.mark.parametrize("name", NAMES)
def test_keys_after_the_last_query_and_before_its_window_are_not_looked_at(name: str) -> None:
    q, k, v = tensors((2, 6, 2, 3, 60, 20))
    outside = [torch.cat((x.new_full(x[:, :, :9].shape, float("nan")), x, x + float("nan")), dim=2) for x in (k, v)]
    z = get_backend(name).attend(q, *outside, query_offset=66, window=58)
    assert_close(z, None, q, k, v, 58)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize("sizes", [(150, 150, 37), (129, 300, 100)], ids=str)
def test_flex_attends_within_a_window(sizes: tuple[int, int, int]) -> None:
    new, keys, window = sizes
    q, k, v = tensors((1, 4, 2, new, keys, 64))
    try:
        z = get_backend("flex").attend(q, k, v, query_offset=keys - new, window=window)
    except UnavailableError as refusal:
        pytest.skip(str(refusal))
    assert_close(z, None, q, k, v, window)


@pytest.mark.parametrize("sizes", [*WINDOWS, (700, 900, 260), (600, 600, 300)], ids=str)
def test_flex_visits_the_tiles_that_a_window_leaves(sizes: tuple[int, int, int]) -> None:
    new, keys, window = sizes
    mask = causal_block_mask(new, keys, keys - new, torch.device("cpu"), window)
    key, own = torch.arange(keys), keys - new + torch.arange(new)[:, None]
    seen = (key <= own) & (key > own - window)
    padded = torch.zeros(-(-new // 128) * 128, -(-keys // 128) * 128)
    padded[:new, :keys] = seen
    real = torch.zeros_like(padded)
    real[:new, :keys] = 1
    tiles, whole = (x.unfold(0, 128, 128).unfold(1, 128, 128).sum((2, 3)) for x in (padded, real))
    for row, (some, all_) in enumerate(zip(tiles, whole, strict=True)):
        full = mask.full_kv_indices[0, 0, row, : mask.full_kv_num_blocks[0, 0, row]].tolist()
        partial = mask.kv_indices[0, 0, row, : mask.kv_num_blocks[0, 0, row]].tolist()
        assert sorted(full + partial) == [tile for tile in range(len(some)) if some[tile]]
        assert all(some[tile] == all_[tile] for tile in full)


@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
def test_tiles_move_what_the_formula_says(sizes: tuple[int, int, int]) -> None:
    new, keys, window = sizes
    q, k, v = tensors((1, 6, 2, new, keys, 20))
    moved = tiled_attention(q, k, v, query_offset=keys - new, window=window, query_tile=32, key_tile=16).traffic
    shape = AttentionShape(1, new, keys, 6, 2, 20, "fp32", "fp32", window)
    assert sum(moved.read.values()) == flash_step(shape, query_tile=32).read_bytes


@pytest.mark.parametrize("sizes", WINDOWS, ids=str)
def test_recomputed_scores_are_those_of_naive_attention(sizes: tuple[int, int, int]) -> None:
    new, keys, window = sizes
    q, k, _ = tensors((2, 6, 2, new, keys, 20))
    whole = naive.scores(q, k, query_offset=keys - new, window=window)
    torch.testing.assert_close(partial_scores(q, k, TensorPart(), window=window), whole, rtol=0, atol=1e-5)


def test_a_window_without_a_query_s_own_key_is_refused() -> None:
    q, k, v = tensors((1, 2, 2, 3, 5, 20))
    with pytest.raises(InputError, match="window of attention must be at least 1 key"):
        get_backend("naive").attend(q, k, v, query_offset=2, window=0)
