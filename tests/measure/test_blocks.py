import pytest

from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.measure.blocks import BLOCK_LIMITS_BYTES, check_fits, choose_share
from llamalab.model import StaticKVCache, build
from llamalab.presets import PRESETS

ARCH = LlamaArch(48, 7, 6, 2, 80, 96)


@pytest.mark.parametrize(("name", "layers"), [("tiny", 6), ("7b", 2), ("13b", 1), ("34b", 1), ("70b", 1)])
def test_as_many_blocks_as_the_cpu_limit_lets_in(name, layers):
    share = choose_share(PRESETS[name].arch, "bf16", limit_bytes=BLOCK_LIMITS_BYTES["cpu"])
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
    check_fits(share, "toy", 900, 1000)
    with pytest.raises(DoesNotFitError, match=r"the whole of toy .* 1000 B; it needs 901 B; leave out --full"):
        check_fits(share, "toy", 901, 1000)
    one = choose_share(ARCH, "bf16", limit_bytes=1)
    with pytest.raises(DoesNotFitError, match=r"1 of 7 blocks of toy .* smaller model"):
        check_fits(one, "toy", 901, 1000)
