"""Other families than Llama 2 in the calculators: exact against transformers, and against counts made one by one."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.attention_cost import AttentionShape, causal_pairs, flash_step, keys_in_view, tile_pairs
from llamalab.analytic.experts import active_parameters, experts_touched
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.memory import room_free
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import components, parameter_count, weight_bytes, weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import rank_parameters
from llamalab.analytic.weight_storage import stored_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts
from llamalab.presets import PRESETS
from tests.arch.hf_configs.samples import hf_config

# One of each way to differ; the rest are the same rows at other sizes.
IN_TRANSFORMERS = (
    "7b", "70b", "llama-3.1-8b", "llama-3.2-1b", "yi-6b", "mistral-7b-v0.1", "mistral-nemo-12b", "qwen2.5-0.5b",
    "qwen2.5-7b", "qwen3-0.6b", "qwen3-8b", "phi-3-mini-4k", "phi-3-medium-4k", "gemma-2b", "gemma-7b", "gemma-2-2b",
    "gemma-2-27b", "mixtral-8x7b", "qwen1.5-moe-a2.7b", "qwen3-30b-a3b",
)  # fmt: skip
BIASED = PRESETS["7b"].arch.replace(qkv_bias=True, o_bias=True, ffn_bias=True)
MIXED = LlamaArch(64, 5, 8, 4, 96, 100, window=8, full_layers=(1, 3))


def counted(arch: LlamaArch) -> int:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(hf_config(arch))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.reference
@pytest.mark.parametrize("name", [*IN_TRANSFORMERS, "biased"])
def test_parameters_are_those_of_transformers(name: str) -> None:
    """Two depths say all: every layer has as many, but for those that an architecture tells apart."""
    arch = BIASED if name == "biased" else PRESETS[name].arch
    one, two = (counted(arch.replace(n_layers=layers)) for layers in (1, 2))
    assert one == parameter_count(arch.replace(n_layers=1))
    assert parameter_count(arch) - (one + (arch.n_layers - 1) * (two - one)) == 0
    assert sum(components(arch).values()) == parameter_count(arch)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 50))
def test_a_window_counts_pairs_and_keys_one_by_one(new_tokens: int, past: int, window: int) -> None:
    seen = [range(max(0, past + t - window + 1), past + t + 1) for t in range(new_tokens)]
    assert causal_pairs(new_tokens, past + new_tokens, window) == sum(map(len, seen))
    assert keys_in_view(new_tokens, past + new_tokens, window) == past + new_tokens - seen[0].start
    shape = AttentionShape(1, new_tokens, past + new_tokens, 1, 1, 1, "int8", "int8", window)
    for tile in (1, 4, 16):
        tiles = [seen[start : start + tile] for start in range(0, new_tokens, tile)]
        keys = sum(rows[-1].stop - rows[0].start for rows in tiles)
        assert flash_step(shape, query_tile=tile).read_bytes == new_tokens + 2 * keys
    assert tile_pairs(shape, 1, 1) == shape.pairs_causal


@pytest.mark.parametrize("seq", [1, 7, 8, 9, 300])
def test_the_cache_of_a_window_stops_growing(seq: int) -> None:
    per_layer = [min(seq, window) if (window := MIXED.window_of(layer)) else seq for layer in range(5)]
    assert kv_bytes(MIXED, seq=seq, batch=3) == 3 * sum(2 * 2 * MIXED.kv_dim * keys for keys in per_layer)
    read = sum(
        op.count * op.read_bytes
        for op in forward_ops(MIXED, PassShape(new_tokens=1, context_tokens=seq))
        if ".flash" in op.name
    )
    assert read == 5 * 2 * MIXED.query_dim + kv_bytes(MIXED, seq=seq)


@given(st.integers(1, 3), st.integers(0, 10**6))
def test_the_longest_context_is_the_last_that_fits(batch: int, free: int) -> None:
    for arch in (MIXED, MIXED.replace(full_layers=())):
        context = room_free(arch, free).largest_context(batch)
        if context is None:
            assert kv_bytes(arch, seq=10**9, batch=batch) <= free
        else:
            assert kv_bytes(arch, seq=context, batch=batch) <= free < kv_bytes(arch, seq=context + 1, batch=batch)


def test_a_model_with_both_kinds_of_layers_has_rows_of_both() -> None:
    rows = {op.name: op for op in forward_ops(MIXED, PassShape(new_tokens=20)) if op.kind == "attention"}
    assert {name: op.count for name, op in rows.items()} == {
        "layers.*.attention.flash": 2, "layers.*.attention.flash_window": 3,
    }  # fmt: skip
    assert rows["layers.*.attention.flash_window"].flops_causal == 4 * 8 * 8 * causal_pairs(20, 20, 8)
    naive = [op.name for op in forward_ops(MIXED.replace(full_layers=()), PassShape(new_tokens=20, attention="naive"))]
    assert "layers.*.attention.scores" in naive


def test_biases_and_norms_of_heads_are_rows_and_no_products() -> None:
    plain, biased = (add_up(forward_ops(arch, PassShape(new_tokens=5))) for arch in (PRESETS["7b"].arch, BIASED))
    assert biased.flops_full == plain.flops_full
    extra = parameter_count(BIASED) - parameter_count(PRESETS["7b"].arch)
    assert biased.weight_bytes - plain.weight_bytes == 2 * extra
    assert biased.vector_flops - plain.vector_flops == 5 * extra
    normed = {op.name: op for op in forward_ops(PRESETS["qwen3-8b"].arch, PassShape(new_tokens=5))}
    assert normed["layers.*.attention.q_norm"].weight_bytes == 256
    assert normed["layers.*.attention.k_norm"].read_bytes == 5 * 1024 * 2


@pytest.mark.parametrize(("experts", "active", "tokens"), [(4, 1, 3), (4, 2, 2), (5, 3, 2)])
def test_expected_experts_are_those_of_all_choices(experts: int, active: int, tokens: int) -> None:
    choices = list(product(combinations(range(experts), active), repeat=tokens))
    mean = sum(len(set().union(*choice)) for choice in choices) / len(choices)
    assert experts_touched(Experts(experts, active, 8), tokens) == pytest.approx(mean, rel=1e-12)


def test_a_mixture_computes_for_its_picked_experts_and_reads_those_touched() -> None:
    arch = PRESETS["mixtral-8x7b"].arch
    one = {op.name: op for op in forward_ops(arch, PassShape(new_tokens=1))}
    w1 = one["layers.*.feed_forward.experts.w1"]
    assert (w1.flops_full, w1.weight_bytes) == (2 * 2 * 4096 * 14336, 2 * 2 * 4096 * 14336)
    assert one["layers.*.feed_forward.router"].flops_full == 2 * 4096 * 8
    many = {op.name: op for op in forward_ops(arch, PassShape(new_tokens=1, context_tokens=9, batch=256))}
    assert many["layers.*.feed_forward.experts.w1"].weight_bytes == 8 * 2 * 4096 * 14336
    assert add_up(one.values()).flops_full == pytest.approx(
        2 * (active_parameters(arch) - 32_000 * 4096 - 65 * 4096), rel=1e-3
    )


def test_shared_experts_and_dense_layers_have_rows_of_their_own() -> None:
    rows = {op.name: op for op in forward_ops(PRESETS["deepseek-moe-16b"].arch, PassShape(new_tokens=7))}
    assert rows["layers.*.feed_forward.w1"].count == 1
    assert rows["layers.*.feed_forward.experts.w1"].count == rows["layers.*.feed_forward.shared.w1"].count == 27
    assert rows["layers.*.feed_forward.shared.w2"].flops_full == 2 * 7 * 2816 * 2048
    assert "layers.*.feed_forward.shared_gate" in [
        op.name for op in forward_ops(PRESETS["qwen1.5-moe-a2.7b"].arch, PassShape(new_tokens=7))
    ]


@pytest.mark.parametrize("name", ["mixtral-8x7b", "qwen3-30b-a3b", "qwen2.5-7b", "70b"])
def test_ranks_hold_all_weights_between_them(name: str) -> None:
    arch = PRESETS[name].arch
    whole = ("norm.", "router.")
    replicated = sum(weight.parameters for weight in weights(arch) if any(part in weight.name for part in whole))
    assert 4 * rank_parameters(arch, 4) - 3 * replicated == parameter_count(arch)
    assert stored_weight_bytes(arch, "bf16", "bf16", shard(arch)) == weight_bytes(arch)


def test_parallel_experts_share_the_work_of_a_mixture() -> None:
    arch = PRESETS["mixtral-8x7b"].arch
    run = {"new_tokens": 64, "tensor_parallel": 4}
    cut, whole = (
        {op.name: op for op in forward_ops(arch, PassShape(**run, expert_parallel=parallel))}
        for parallel in (False, True)
    )
    name = "layers.*.feed_forward.experts.w1"
    assert cut[name].flops_full == whole[name].flops_full == 2 * 64 * 2 * 4096 * 14336 // 4
    assert whole[name].weight_bytes == pytest.approx(cut[name].weight_bytes, rel=1e-6)
    assert whole[name].read_bytes * 4 == cut[name].read_bytes
