"""Compiled flex attention against fp64; few shapes, because each is compiled."""

import pytest
import torch

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import get_backend
from llamalab.attention.flex import TILE, causal_block_mask
from llamalab.errors import UnavailableError
from tests.attention.grid import assert_close, tensors

CPU = torch.device("cpu")
# What torch itself says while its compiler is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 6, 3, 150, 150, 80), torch.float32),
        ((2, 6, 1, 70, 257, 64), torch.bfloat16),
        ((2, 6, 2, 1, 300, 128), torch.float16),
    ],
    ids=str,
)
def test_compiled_flex_attention(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype)
    z = get_backend("flex").attend(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(z, None, q, k, v)


@pytest.mark.parametrize(("new", "keys"), [(1, 1), (1, 300), (128, 128), (150, 150), (70, 257), (129, 640)])
def test_tiles_visited_are_those_with_a_visible_pair(new: int, keys: int) -> None:
    offset = keys - new
    mask = causal_block_mask(new, keys, offset, CPU)
    seen = torch.arange(keys) <= offset + torch.arange(new)[:, None]
    for row in range(-(-new // TILE)):
        queries = seen[row * TILE : (row + 1) * TILE]
        tiles = [queries[:, start : start + TILE] for start in range(0, keys, TILE)]
        whole = [i for i, tile in enumerate(tiles) if tile.all() and tile.shape[1] == TILE]
        partly = [i for i, tile in enumerate(tiles) if tile.any() and i not in whole]
        assert _row(mask.full_kv_num_blocks, mask.full_kv_indices, row) == whole
        assert _row(mask.kv_num_blocks, mask.kv_indices, row) == partly


def _row(counts: torch.Tensor, indices: torch.Tensor, row: int) -> list[int]:
    return indices[0, 0, row, : int(counts[0, 0, row])].tolist()


@pytest.mark.parametrize(
    ("dtype", "head_dim", "device", "what"),
    [("fp64", 64, "cpu", "fp64"), ("bf16", 8, "cpu", "head dims"), ("bf16", 64, "xpu", "xpu")],
)
def test_what_it_cannot_do_is_said_before_it_runs(dtype: str, head_dim: int, device: str, what: str) -> None:
    with pytest.raises(UnavailableError, match=what):
        get_backend("flex").check(AttentionShape(1, 5, 5, 2, 2, head_dim, dtype, dtype), torch.device(device))
    if device == "cpu" and head_dim == 8:
        with pytest.raises(UnavailableError, match="head dims"):
            get_backend("flex").attend(*tensors((1, 2, 2, 5, 5, 8)), query_offset=0)
