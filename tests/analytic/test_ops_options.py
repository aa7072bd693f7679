"""Number formats, ragged batches, chunks, fused kernels and shards of the op table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.batches import chunks
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.presets import PRESETS
from llamalab.units import storage_bytes
from tests.analytic.strategies import archs

SMALL = LlamaArch(dim=48, n_layers=3, n_heads=6, n_kv_heads=2, ffn_dim=80, vocab_size=96)
MATRICES = 48 * 48 * 2 + 2 * 16 * 48 + 3 * 80 * 48


@given(archs(), st.integers(1, 40))
def test_prefill_computes_what_its_decode_steps_compute(arch: LlamaArch, tokens: int) -> None:
    prefill = add_up(forward_ops(arch, PassShape(new_tokens=tokens, logits="all")))
    steps = [add_up(forward_ops(arch, PassShape(new_tokens=1, context_tokens=seen))) for seen in range(1, tokens + 1)]
    assert prefill.flops_causal == sum(step.flops_causal for step in steps)


@given(archs(), st.integers(1, 60), st.integers(1, 60))
def test_chunks_compute_what_one_prefill_computes(arch: LlamaArch, prompt: int, chunk: int) -> None:
    whole = forward_ops(arch, PassShape(new_tokens=prompt, logits="all"))
    parts = [
        forward_ops(arch, PassShape(new_tokens=new, context_tokens=context, logits="all"))
        for new, context in chunks(prompt, chunk)
    ]
    assert add_up(whole).flops_causal == sum(add_up(part).flops_causal for part in parts)


@given(archs(), st.lists(st.integers(3, 50), min_size=1, max_size=6))
def test_a_ragged_batch_is_the_sum_of_its_sequences(arch: LlamaArch, contexts: list[int]) -> None:
    together = add_up(forward_ops(arch, PassShape(new_tokens=3, context_tokens=contexts)))
    alone = [add_up(forward_ops(arch, PassShape(new_tokens=3, context_tokens=context))) for context in contexts]
    for field in ("flops_full", "flops_causal", "vector_flops", "written_bytes", "read_bytes"):
        assert getattr(together, field) == sum(getattr(one, field) for one in alone), field
    # Weights are streamed once, whatever the batch; the embedding is read row by row.
    rows = storage_bytes(3 * arch.dim, "bf16")
    assert together.weight_bytes == alone[0].weight_bytes + (len(contexts) - 1) * rows


def test_equal_contexts_are_a_plain_batch() -> None:
    assert forward_ops(SMALL, PassShape(new_tokens=1, context_tokens=[9, 9, 9])) == forward_ops(
        SMALL, PassShape(new_tokens=1, context_tokens=9, batch=3)
    )


@pytest.mark.parametrize("contexts", [[], [5, 2], [4]])
def test_a_ragged_batch_must_name_every_sequence_and_its_new_tokens(contexts: list[int]) -> None:
    with pytest.raises(InputError):
        forward_ops(SMALL, PassShape(new_tokens=3, context_tokens=contexts, batch=2))


@pytest.mark.parametrize(
    ("weight_dtype", "expected"),
    [("bf16", 2 * MATRICES), ("int8", MATRICES), ("int4", MATRICES // 2 + 2 * (2 * 18 + 2 * 6 + 3 * 30))],
)
def test_weights_have_a_dtype_of_their_own(weight_dtype: str, expected: int) -> None:
    ops = forward_ops(SMALL, PassShape(new_tokens=5, weight_dtype=weight_dtype))
    block = [op for op in ops if op.kind == "gemm" and op.name != "output"]
    assert sum(op.weight_bytes for op in block) == expected
    plain = forward_ops(SMALL, PassShape(new_tokens=5))
    assert [op.written_bytes for op in ops] == [op.written_bytes for op in plain]


def test_fp8_products_read_fp8_inputs_that_an_operation_makes() -> None:
    ops = {op.name: op for op in forward_ops(SMALL, PassShape(new_tokens=5, dtype="bf16", weight_dtype="fp8"))}
    conversion = ops["layers.*.feed_forward.quantize_hidden"]
    assert (conversion.read_bytes, conversion.written_bytes) == (2 * 5 * 80, 5 * 80)
    assert ops["layers.*.feed_forward.w2"].read_bytes == 5 * 80
    names = {op.name for op in forward_ops(SMALL, PassShape(new_tokens=5, weight_dtype="int8"))}
    assert not any("quantize" in name for name in names)


def test_the_cache_has_a_dtype_of_its_own() -> None:
    narrow = {op.name: op for op in forward_ops(SMALL, PassShape(new_tokens=1, context_tokens=7, kv_dtype="int8"))}
    assert narrow["layers.*.attention.kv_append"].written_bytes == 2 * 16
    assert narrow["layers.*.attention.flash"].read_bytes == 2 * 48 + 2 * 7 * 16


@given(archs(), st.integers(1, 30), st.integers(1, 4))
def test_fusing_moves_less_and_computes_the_same(arch: LlamaArch, tokens: int, batch: int) -> None:
    plain = add_up(forward_ops(arch, PassShape(new_tokens=tokens, batch=batch)))
    fused = add_up(forward_ops(arch, PassShape(new_tokens=tokens, batch=batch, fused=True)))
    assert (fused.flops_causal, fused.flops_full) == (plain.flops_causal, plain.flops_full)
    assert fused.vector_flops == plain.vector_flops
    assert fused.weight_bytes == plain.weight_bytes
    assert fused.bytes < plain.bytes


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_ranks_share_the_products_and_send_two_all_reduces_a_layer(ranks: int) -> None:
    arch, rows = PRESETS["70b"].arch, 3 * 17
    alone = add_up(forward_ops(arch, PassShape(new_tokens=17, batch=3)))
    ops = forward_ops(arch, PassShape(new_tokens=17, batch=3, tensor_parallel=ranks))
    assert ranks * add_up(ops).flops_causal == alone.flops_causal
    reduces = [op for op in ops if op.name.endswith("all_reduce")]
    assert [(op.count, op.link_bytes) for op in reduces] == [
        (80, 2 * (ranks - 1) * rows * 8192 * 2 // ranks) for _ in range(2)
    ]
    gathers = {op.name: op.link_bytes for op in ops if op.name.endswith("all_gather")}
    assert gathers == {
        "tok_embeddings.all_gather": (ranks - 1) * rows * 8192 * 2 // ranks,
        "output.all_gather": (ranks - 1) * 3 * 32000 * 2 // ranks,
    }


def test_one_rank_sends_nothing() -> None:
    assert add_up(forward_ops(SMALL, PassShape(new_tokens=2))).link_bytes == 0


def test_kv_heads_are_replicated_where_there_are_fewer_than_ranks() -> None:
    arch = SMALL.replace(ffn_dim=84)
    ops = {op.name: op for op in forward_ops(arch, PassShape(new_tokens=1, context_tokens=9, tensor_parallel=6))}
    assert ops["layers.*.attention.wk"].weight_bytes == 2 * 8 * 48  # one whole head of 8


def test_flash_reads_again_only_beyond_its_first_tile_of_queries() -> None:
    one = [op for op in forward_ops(SMALL, PassShape(new_tokens=128)) if op.kind == "attention"]
    two = [op for op in forward_ops(SMALL, PassShape(new_tokens=256)) if op.kind == "attention"]
    assert (one[0].reread_bytes, two[0].reread_bytes) == (0, 2 * 128 * 16 * 2)
