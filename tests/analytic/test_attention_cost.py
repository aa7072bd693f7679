"""Naive and flash attention do the same work; only one of them writes the scores to memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.attention_cost import AttentionShape, AttentionStep, causal_pairs, flash_step, naive_steps, total
from llamalab.errors import InputError
from tests.analytic.strategies import PLAIN_DTYPES

HEAD_7B = AttentionShape(1, 4096, 4096, 1, 1, 128, "fp16", "fp16")


@st.composite
def shapes(draw: st.DrawFn) -> AttentionShape:
    n_kv_heads, new_tokens = draw(st.integers(1, 8)), draw(st.integers(1, 700))
    dtype = draw(PLAIN_DTYPES)
    return AttentionShape(
        batch=draw(st.integers(1, 5)),
        new_tokens=new_tokens,
        context_tokens=new_tokens + draw(st.integers(0, 3000)),
        n_heads=n_kv_heads * draw(st.integers(1, 8)),
        n_kv_heads=n_kv_heads,
        head_dim=draw(st.integers(1, 128)),
        dtype=dtype,
        kv_dtype=dtype,
    )


@given(st.integers(1, 60), st.integers(0, 60))
def test_causal_pairs_are_those_that_a_mask_leaves(new_tokens: int, past: int) -> None:
    mask = [key <= past + query for query in range(new_tokens) for key in range(past + new_tokens)]
    assert causal_pairs(new_tokens, past + new_tokens) == sum(mask)


def test_a_context_without_its_new_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="context must count the new tokens too; got 5 new tokens in a context of 4"):
        causal_pairs(5, 4)


def test_the_steps_of_one_head_of_7b() -> None:
    side, head = 4096 * 4096, 4096 * 128
    scores, softmax, values = naive_steps(HEAD_7B)
    assert scores == AttentionStep("scores", 2 * 128 * side, 2 * 128 * 4096 * 4097 // 2, 0, 4 * head, 2 * side)
    assert softmax == AttentionStep("softmax", 0, 0, 3 * side, 2 * side, 2 * side)
    assert values == AttentionStep("values", scores.flops_full, scores.flops_causal, 0, 2 * side + 2 * head, 2 * head)
    assert total(naive_steps(HEAD_7B)).intensity == pytest.approx(62.42, abs=0.01)
    assert flash_step(HEAD_7B).intensity > 3 * total(naive_steps(HEAD_7B)).intensity


@given(shapes())
def test_flash_does_the_matrix_work_of_naive(shape: AttentionShape) -> None:
    naive, flash = total(naive_steps(shape)), flash_step(shape)
    assert (flash.flops_full, flash.flops_causal) == (naive.flops_full, naive.flops_causal)
    assert flash.vector_flops <= naive.vector_flops


@given(shapes())
def test_flash_moves_no_more_than_naive(shape: AttentionShape) -> None:
    naive, flash = total(naive_steps(shape)), flash_step(shape)
    assert flash.written_bytes == naive_steps(shape)[2].written_bytes
    assert flash.read_bytes + flash.written_bytes <= naive.read_bytes + naive.written_bytes


@given(st.integers(1, 4096), st.integers(1, 128))
def test_one_new_token_streams_keys_and_values_once(context: int, head_dim: int) -> None:
    shape = AttentionShape(1, 1, context, 6, 2, head_dim)
    assert flash_step(shape).read_bytes == 2 * (6 * head_dim + 2 * 2 * context * head_dim)


def test_flash_keeps_what_it_writes_linear_and_naive_squares_it() -> None:
    once, twice = HEAD_7B, HEAD_7B._replace(new_tokens=8192, context_tokens=8192)
    assert flash_step(twice).written_bytes == 2 * flash_step(once).written_bytes
    assert naive_steps(twice)[0].written_bytes == 4 * naive_steps(once)[0].written_bytes
    # A tile as tall as the sequence reads everything once: bytes are linear altogether.
    moved = [flash_step(s, query_tile=s.new_tokens).read_bytes for s in (once, twice)]
    assert moved[1] == 2 * moved[0]


def test_a_tile_reads_the_keys_that_its_last_query_sees() -> None:
    shape = AttentionShape(1, 5, 9, 1, 1, 1, "int8", "int8")  # past 4; tiles of 2 end at keys 6, 8, 9
    assert flash_step(shape, query_tile=2).read_bytes == 5 + 2 * (6 + 8 + 9)


@given(shapes())
def test_a_cache_of_half_the_size_halves_what_is_read_of_it(shape: AttentionShape) -> None:
    wide, narrow = shape._replace(dtype="bf16", kv_dtype="bf16"), shape._replace(dtype="bf16", kv_dtype="int8")
    query = 2 * shape.query_elements
    assert flash_step(wide).read_bytes - query == 2 * (flash_step(narrow).read_bytes - query)
