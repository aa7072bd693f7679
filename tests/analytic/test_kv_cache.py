"""The KV cache to the byte, and proportional to all that it should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, kv_variants
from llamalab.arch import LlamaArch
from llamalab.errors import UnknownNameError
from llamalab.presets import PRESETS
from tests.analytic.strategies import PLAIN_DTYPES, archs

GIB = 2**30


@pytest.mark.parametrize(("model", "gib"), [("7b", 32), ("13b", 50), ("34b", 12), ("70b", 20)])
def test_4096_tokens_of_16_sequences(model: str, gib: int) -> None:
    assert kv_bytes(PRESETS[model].arch, seq=4096, batch=16) == gib * GIB


@pytest.mark.parametrize(("batch", "gib"), [(1, 0.3125), (16, 5), (32, 10), (64, 20)])
def test_70b_at_1024_tokens(batch: int, gib: float) -> None:
    arch = PRESETS["70b"].arch
    assert kv_bytes(arch, seq=1024, batch=batch) == gib * GIB
    assert kv_bytes(arch, seq=1024, batch=batch, dtype="int8") == gib * GIB / 2


def test_variants_of_7b() -> None:
    variants = kv_variants(PRESETS["7b"].arch, seq=4096, batch=16)
    assert [(one.attention, one.n_kv_heads, one.kv_bytes // GIB) for one in variants] == [
        ("MHA", 32, 32),
        ("GQA-16", 16, 16),
        ("GQA-8", 8, 8),
        ("GQA-4", 4, 4),
        ("GQA-2", 2, 2),
        ("MQA", 1, 1),
    ]


@given(archs(), st.integers(1, 10**6), st.integers(1, 999), PLAIN_DTYPES)
def test_bytes_are_proportional_to_everything(arch: LlamaArch, seq: int, batch: int, dtype: str) -> None:
    one_layer = arch.replace(n_layers=1)
    assert kv_bytes(arch, seq=seq, batch=batch, dtype=dtype) == (
        arch.n_layers * seq * batch * kv_bytes_per_token(one_layer, dtype)
    )
    for variant in kv_variants(arch, seq=seq, batch=batch, dtype=dtype):
        mqa = kv_bytes(arch.replace(n_kv_heads=1), seq=seq, batch=batch, dtype=dtype)
        assert variant.kv_bytes == variant.n_kv_heads * mqa


@given(archs())
def test_the_models_own_cache_is_among_the_variants(arch: LlamaArch) -> None:
    own = [one for one in kv_variants(arch, seq=7) if one.n_kv_heads == arch.n_kv_heads]
    assert [one.kv_bytes for one in own] == [kv_bytes(arch, seq=7)]


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="dtype must be one of"):
        kv_bytes_per_token(PRESETS["7b"].arch, "q4")
