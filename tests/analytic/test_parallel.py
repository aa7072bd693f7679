import pytest

from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, is_one_shot, shard
from llamalab.arch import LlamaArch
from llamalab.errors import InputError

ARCH = LlamaArch(dim=96, n_layers=2, n_heads=12, n_kv_heads=4, ffn_dim=120, vocab_size=60)


@pytest.mark.parametrize(("ranks", "heads", "kv_heads"), [(1, 12, 4), (2, 6, 2), (4, 3, 1), (12, 1, 1)])
def test_heads_are_shared_out_and_kv_heads_never_vanish(ranks: int, heads: int, kv_heads: int) -> None:
    part = shard(ARCH, ranks)
    assert (part.n_heads, part.n_kv_heads, part.query_dim, part.kv_dim) == (heads, kv_heads, heads * 8, kv_heads * 8)


@pytest.mark.parametrize("ranks", [0, 5, 7, 8])
def test_ranks_must_divide_every_width(ranks: int) -> None:
    with pytest.raises(InputError, match="must divide"):
        shard(ARCH, ranks)


def test_kv_heads_must_divide_over_the_ranks_or_the_ranks_over_them() -> None:
    with pytest.raises(InputError, match="n_kv_heads=4"):
        shard(ARCH, 6)


def test_a_ring_of_one_sends_nothing() -> None:
    assert (all_reduce_bytes(100, 1), all_gather_bytes(100, 1)) == (0, 0)


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    assert all_reduce_bytes(1 << 20, 8) == 2 * all_gather_bytes(1 << 20, 8)


@pytest.mark.parametrize(("size", "ranks", "small"), [(2**19 - 1, 4, True), (2**19, 4, False), (2**18, 8, False)])
def test_only_small_buffers_go_in_one_shot(size: int, ranks: int, small: bool) -> None:
    assert is_one_shot(size, ranks) is small
