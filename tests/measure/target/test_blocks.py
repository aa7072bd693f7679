import pytest

from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.measure.target.blocks import (
    BLOCK_LIMITS_BYTES,
    TIED_ERROR,
    Depth,
    bytes_of_block,
    check_share_fits,
    choose_share,
    choose_tied,
)
from llamalab.model import StaticKVCache, build
from llamalab.presets import PRESETS

ARCH = LlamaArch(48, 7, 6, 2, 80, 96)


@pytest.mark.parametrize(("name", "layers"), [("tiny", 6), ("7b", 2), ("13b", 1), ("34b", 1), ("70b", 1)])
def test_as_many_blocks_as_the_cpu_limit_lets_in(name, layers):
    share = choose_share(PRESETS[name].arch, "bf16", limit_bytes=BLOCK_LIMITS_BYTES["host"])
    assert (share.layers, share.layers_total) == (layers, PRESETS[name].arch.n_layers)
    assert share.arch == PRESETS[name].arch.replace(n_layers=layers)


def test_the_limit_is_in_bytes_of_the_dtype():
    block_bytes = 2 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48 + 2 * 48)
    assert choose_share(ARCH, "bf16", limit_bytes=3 * block_bytes).layers == 3
    assert choose_share(ARCH, "bf16", limit_bytes=3 * block_bytes - 1).layers == 2
    assert choose_share(ARCH, "fp32", limit_bytes=3 * block_bytes).layers == 1


def test_full_is_all():
    assert choose_share(ARCH, "bf16", limit_bytes=1, full=True).layers == 7


def test_need_covers_what_is_allocated():
    share = choose_share(ARCH, "fp32", limit_bytes=2**30)
    need = share.need_bytes(batch=1, new_tokens=5, max_tokens=11, dtype="fp32")
    weights = sum(weight.nbytes for weight in build(share.arch, dtype="fp32", device="meta").parameters())
    cache = StaticKVCache(share.arch, batch=1, max_tokens=11, dtype="fp32", device="meta").nbytes
    assert weights + cache < need < weights + cache + 5 * 4 * 48 * 100


def test_what_fits_passes_and_what_does_not_says_what_helps():
    share = choose_share(ARCH, "bf16", limit_bytes=2**30, full=True)
    check_share_fits(share, "toy", 900, 1000)
    with pytest.raises(DoesNotFitError, match=r"the whole of toy .* 1000 B; it needs 901 B; leave full out"):
        check_share_fits(share, "toy", 901, 1000)
    one = choose_share(ARCH, "bf16", limit_bytes=1)
    with pytest.raises(DoesNotFitError, match=r"1 of 7 blocks of toy .* smaller model"):
        check_share_fits(one, "toy", 901, 1000)


def test_blocks_are_tied_only_where_not_all_of_them_fit():
    weights = sum(weight.nbytes for weight in build(ARCH, device="meta").parameters())
    assert not choose_tied(ARCH, "bf16", room_bytes=weights, cache_bytes=2**30).tied
    assert choose_tied(ARCH, "bf16", room_bytes=weights - 1, cache_bytes=0) == Depth(ARCH, 2)


def test_a_cache_holds_no_more_than_its_share_of_tied_blocks():
    block_bytes = sum(weight.nbytes for weight in build(ARCH, device="meta").layers[0].parameters())
    assert bytes_of_block(ARCH, "bf16") == block_bytes
    weights = sum(weight.nbytes for weight in build(ARCH, device="meta").parameters())
    for cache_bytes in range(0, 6 * int(TIED_ERROR * block_bytes), 97):
        distinct = choose_tied(ARCH, "bf16", room_bytes=weights - 1, cache_bytes=cache_bytes).distinct
        assert cache_bytes <= TIED_ERROR * distinct * block_bytes
        assert distinct == 2 or cache_bytes > TIED_ERROR * (distinct - 1) * block_bytes


def test_no_more_blocks_are_tied_than_fit_but_two():
    block_bytes, weights = bytes_of_block(ARCH, "bf16"), sum(w.nbytes for w in build(ARCH, device="meta").parameters())
    around = weights - 7 * block_bytes
    for blocks, distinct in ((4, 4), (2, 2), (1, 2), (-3, 2)):
        assert (
            choose_tied(ARCH, "bf16", room_bytes=around + blocks * block_bytes, cache_bytes=2**30).distinct == distinct
        )
    assert choose_tied(ARCH.replace(n_layers=1), "bf16", room_bytes=0, cache_bytes=0).distinct == 1


def test_a_tied_model_needs_the_weights_of_its_blocks_and_the_cache_of_all_layers():
    depth = Depth(ARCH, 2)
    need = depth.need_bytes(batch=3, new_tokens=5, max_tokens=11, dtype="fp32", attention="flash")
    weights = sum(weight.nbytes for weight in build(ARCH, dtype="fp32", device="meta", tie_blocks=2).parameters())
    cache = StaticKVCache(ARCH, batch=3, max_tokens=11, dtype="fp32", device="meta").nbytes
    assert depth.held_weight_bytes("fp32") == weights
    assert weights + cache < need < weights + cache + 3 * 5 * 4 * 48 * 100
    assert depth.label == "tied 2 of 7 blocks"
