"""Models of other blocks than a Llama's: published counts to the last parameter, and one sentence of the model each."""

import pytest

from llamalab.analytic.experts import active_parameters
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.arch.hf_configs.config import from_hf_config
from llamalab.arch.runnable import model_refusal
from llamalab.errors import FormatError, InputError

# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, vocab_size.
# Counts are those of the safetensors of each repository as its page on huggingface.co shows them.
PUBLISHED = {
    "HuggingFaceTB/SmolLM3-3B": ("smollm3", (2048, 11008, 36, 16, 4, 128256), {}, 3_075_098_624),
    "allenai/OLMo-2-1124-7B": ("olmo2", (4096, 11008, 32, 32, 32, 100352), {}, 7_298_617_344),
    "allenai/OLMo-2-0325-32B": ("olmo2", (5120, 27648, 64, 40, 8, 100352), {}, 32_234_279_936),
    "openai/gpt-oss-20b": ("gpt_oss", (2880, 2880, 24, 64, 8, 201088), {"num_local_experts": 32}, 20_914_757_184),
    "openai/gpt-oss-120b": ("gpt_oss", (2880, 2880, 36, 64, 8, 201088), {}, 116_829_156_672),
    "zai-org/GLM-4-9B-0414": ("glm4", (4096, 13696, 40, 32, 2, 151552), {}, 9_400_279_040),
    "CohereLabs/c4ai-command-r-v01": ("cohere", (8192, 22528, 40, 64, 64, 256000), {}, 34_980_831_232),
    "CohereLabs/c4ai-command-r-plus": (
        "cohere", (12288, 33792, 64, 96, 8, 256000), {"use_qk_norm": True}, 103_810_674_688,
    ),
    "stabilityai/stablelm-3b-4e1t": ("stablelm", (2560, 6912, 32, 32, 32, 50304), {}, 2_795_443_200),
    "stabilityai/stablelm-2-1_6b": (
        "stablelm", (2048, 5632, 24, 32, 32, 100352), {"use_qkv_bias": True}, 1_644_515_328,
    ),
    "ibm-granite/granite-3.1-8b-base": (
        "granite", (4096, 12800, 40, 32, 8, 49155), {"tie_word_embeddings": True}, 8_170_848_256,
    ),
    "internlm/internlm2-7b": ("internlm2", (4096, 14336, 32, 32, 8, 92544), {}, 7_737_708_544),
    "internlm/internlm2-20b": ("internlm2", (6144, 16384, 48, 48, 8, 92544), {}, 19_861_149_696),
    "internlm/internlm3-8b-instruct": ("internlm3", (4096, 10240, 48, 32, 2, 128512), {}, 8_804_241_408),
    "baichuan-inc/Baichuan-7B": (
        "baichuan", (4096, 11008, 32, 32, None, 64000), {"max_position_embeddings": 4096}, 7_000_559_616,
    ),
    "baichuan-inc/Baichuan2-7B-Base": (
        "baichuan", (4096, 11008, 32, 32, None, 125696), {"max_position_embeddings": 4096}, 7_505_973_248,
    ),
    "baichuan-inc/Baichuan2-13B-Base": (
        "baichuan", (5120, 13696, 40, 40, None, 125696), {"model_max_length": 4096}, 13_896_668_160,
    ),
    "Qwen/Qwen-7B": ("qwen", (4096, 22016, 32, 32, None, 151936), {"seq_length": 8192}, 7_721_324_544),
    "microsoft/phi-2": ("phi", (2560, 10240, 32, 32, None, 51200), {"partial_rotary_factor": 0.4}, 2_779_683_840),
    "bigcode/starcoder2-3b": ("starcoder2", (3072, 12288, 30, 24, 2, 49152), {}, 3_030_371_328),
    "openbmb/MiniCPM-2B-sft-bf16": (
        "minicpm", (2304, 5760, 40, 36, 36, 122753), {"tie_word_embeddings": True}, 2_724_880_896,
    ),
    "allenai/OLMoE-1B-7B-0924": ("olmoe", (2048, 1024, 16, 16, 16, 50304), {}, 6_919_161_856),
    "microsoft/Phi-3.5-MoE-instruct": (
        "phimoe", (4096, 6400, 32, 32, 8, 32064), {"attention_bias": True, "lm_head_bias": True}, 41_873_153_344,
    ),
    "baidu/ERNIE-4.5-0.3B-PT": ("ernie4_5", (1024, 3072, 18, 16, 2, 103424), {}, 360_748_032),
}  # fmt: skip
_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
)  # fmt: skip


def arch_of(name: str) -> LlamaArch:
    kind, sizes, more, _ = PUBLISHED[name]
    return from_hf_config({"model_type": kind, **dict(zip(_KEYS, sizes, strict=True)), **more})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_are_met_exactly_and_calculators_answer(name: str) -> None:
    arch = arch_of(name)
    assert parameter_count(arch) - PUBLISHED[name][3] == 0
    assert memory_needed(arch, Workload(100, 5)).kv_bytes > 0
    assert LlamaArch.from_dict(arch.as_dict()) == arch
    for fused in (False, True):
        ops = forward_ops(arch, PassShape(new_tokens=3, context_tokens=40, fused=fused))
        turned = sum(op.count for op in ops if op.mode == "rope" or op.name.endswith("rope_append"))
        kept = sum(op.count for op in ops if op.name.endswith("append"))
        assert (turned, kept) == (arch.rotated_layers, arch.n_layers)


def test_counts_of_parts_are_the_models_own() -> None:
    smol, olmo, oss = map(arch_of, ("HuggingFaceTB/SmolLM3-3B", "allenai/OLMo-2-1124-7B", "openai/gpt-oss-20b"))
    assert smol.unrotated_layers == tuple(range(3, 36, 4))
    rows = {op.name for op in forward_ops(olmo, PassShape(new_tokens=3))}
    assert {"layers.*.attention_post_norm", "layers.*.ffn_post_norm", "layers.*.attention.q_norm"} <= rows
    assert not {"layers.*.attention_norm", "layers.*.ffn_norm"} & rows
    assert (
        3.60e9 < active_parameters(oss) - oss.vocab_size * oss.dim < 3.62e9
    )  # the card's 3.6B leave out the embedding
    assert oss.windows == ((None, 12), (128, 12))
    command = {op.name: op for op in forward_ops(arch_of("CohereLabs/c4ai-command-r-v01"), PassShape(new_tokens=3))}
    assert "layers.*.ffn_norm" not in command
    assert command["layers.*.attention_norm"].vector_flops == 6 * 3 * 8192
    alibi = {op.name: op for op in forward_ops(arch_of("baichuan-inc/Baichuan2-13B-Base"), PassShape(new_tokens=2))}
    assert "layers.*.attention.rope" not in alibi
    assert alibi["layers.*.attention.flash"].vector_flops == (3 + 2) * 40 * 3
    plain = {op.name: op for op in forward_ops(arch_of("bigcode/starcoder2-3b"), PassShape(new_tokens=2))}
    assert plain["layers.*.feed_forward.w1"].vector_flops == 2 * 12288
    assert not {"layers.*.feed_forward.w3", "layers.*.feed_forward.swiglu"} & plain.keys()


@pytest.mark.parametrize(
    ("name", "lack"),
    [
        ("HuggingFaceTB/SmolLM3-3B", "layers without RoPE"),
        ("allenai/OLMo-2-1124-7B", "blocks without norms before attention and feed-forward"),
        ("CohereLabs/c4ai-command-r-v01", "attention beside the feed-forward"),
        ("stabilityai/stablelm-3b-4e1t", "LayerNorms"),
        ("bigcode/starcoder2-3b", "feed-forward without a gate"),
        ("baichuan-inc/Baichuan2-7B-Base", "head of rows scaled to length 1"),
        ("baichuan-inc/Baichuan2-13B-Base", "ALiBi"),
        ("openai/gpt-oss-20b", "attention sinks"),
        ("microsoft/phi-2", "bias of its head"),
    ],
)
def test_the_model_refuses_them_in_one_sentence(name: str, lack: str) -> None:
    refusal = model_refusal(arch_of(name))
    assert refusal is not None
    assert f"it has no {lack}" in refusal or f" and no {lack}" in refusal
    assert refusal.endswith("; use the calculators")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"wide_qk_norm": True}, "wide_qk_norm of LlamaArch must go with qk_norm"),
        ({"norm": "batch"}, "norm of LlamaArch must be one of rms, .*; got 'batch'"),
        ({"pre_norms": False}, "pre_norms of LlamaArch must be true where post_norms is false"),
        ({"unrotated_layers": (4,)}, "unrotated_layers of LlamaArch must be layers from 0 to 1"),
        ({"gated": 1}, "gated of LlamaArch must be true or false; got 1"),
    ],
)
def test_fields_that_no_model_has_together_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LlamaArch(64, 2, 4, 4, 96, 100, **changes)  # type: ignore[arg-type]


def test_a_switch_that_is_described_nowhere_is_refused_by_name() -> None:
    config = {"model_type": "phi", **dict(zip(_KEYS, (64, 96, 2, 4, 4, 100), strict=True)), "qk_layernorm": True}
    with pytest.raises(FormatError, match="'phi' has LayerNorms of queries and keys with biases"):
        from_hf_config(config)
