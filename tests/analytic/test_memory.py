"""What fits fits to the byte, and one token more does not."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.memory import check_fits, room_free, room_in
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError, InputError
from llamalab.presets import PRESETS
from tests.analytic.strategies import PLAIN_DTYPES, archs

ARCH_7B = PRESETS["7b"].arch


def test_10_gb_hold_19073_tokens_of_7b() -> None:
    assert room_free(ARCH_7B, 10**10, kv_dtype="fp16").tokens == 19_073


def test_24_gib_beside_the_weights_of_7b() -> None:
    room = room_in(ARCH_7B, 24 * 2**30)
    assert room == (25_769_803_776 - 13_476_831_232, ARCH_7B, "bf16", 13_476_831_232)
    assert room.kv_bytes_per_token == 524_288
    assert (room.tokens, room.largest_batch(4096), room.largest_context(5)) == (23_446, 5, 4_689)


@given(archs(), st.integers(1, 10**9), st.integers(1, 500), PLAIN_DTYPES)
def test_the_largest_batch_fits_and_one_more_does_not(arch: LlamaArch, free: int, seq: int, dtype: str) -> None:
    room = room_free(arch, free, kv_dtype=dtype)
    batch = room.largest_batch(seq)
    assert kv_bytes(arch, seq=seq, batch=batch + 1, dtype=dtype) > free
    assume(batch)
    left = check_fits(room, seq=seq, batch=batch)
    assert left == free - kv_bytes(arch, seq=seq, batch=batch, dtype=dtype) >= 0
    with pytest.raises(DoesNotFitError):
        check_fits(room, seq=seq, batch=batch + 1)


@given(archs(), st.integers(1, 10**9), st.integers(1, 500))
def test_the_longest_context_fits_and_one_more_does_not(arch: LlamaArch, free: int, batch: int) -> None:
    context = room_free(arch, free).largest_context(batch)
    assert kv_bytes(arch, seq=context, batch=batch) <= free < kv_bytes(arch, seq=context + 1, batch=batch)


def test_weights_alone_too_large_are_refused_with_the_difference() -> None:
    weights = weight_bytes(ARCH_7B)
    assert room_in(ARCH_7B, weights).tokens == 0
    with pytest.raises(DoesNotFitError, match=r"12.55 GiB in bf16, the memory is 10.00 GiB, 2.55 GiB too little"):
        room_in(ARCH_7B, 10 * 2**30)
    with pytest.raises(DoesNotFitError):
        room_in(ARCH_7B, weights - 1)


def test_weights_and_cache_may_be_stored_differently() -> None:
    room = room_in(ARCH_7B, 24 * 2**30, dtype="int8", kv_dtype="fp32")
    assert (room.weight_bytes, room.kv_bytes_per_token) == (6_869_753_856, 1_048_576)


def test_an_empty_question_is_refused() -> None:
    with pytest.raises(InputError, match="seq must be at least 1; got 0"):
        check_fits(room_free(ARCH_7B, 10**10), seq=0, batch=3)
