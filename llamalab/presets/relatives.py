"""Families that differ from Llama in more than sizes: Mistral, Qwen, DeepSeek, Phi, Gemma; one row each."""

import math

from llamalab.arch.parts import Experts, RopeScaling
from llamalab.presets.rope_divisors import ONES_48, PHI_3_5_MINI_LONG, PHI_3_5_MINI_SHORT, PHI_4_MINI_LONG
from llamalab.presets.rows import TIED, PresetRow, on_hub

_QWEN = {"vocab_size": 151_936, "norm_eps": 1e-6, "rope_theta": 1_000_000.0}
_QWEN2 = {**_QWEN, "qkv_bias": True, "max_positions": 32_768}
_QWEN3 = {**_QWEN, "qk_norm": True, "head_dim": 128, "max_positions": 40_960}
_PHI = {"vocab_size": 32_064, "fused_on_disk": True}
_GEMMA = {
    "vocab_size": 256_000,
    "norm_eps": 1e-6,
    "tied_embeddings": True,
    "max_positions": 8192,
    "activation": "gelu_tanh",
    "norm_plus_one": True,
    "scaled_streams": True,
}
_GEMMA2 = {**_GEMMA, "post_norms": True, "window": 4096, "attention_softcap": 50.0, "logits_softcap": 30.0}
_GEMMA3 = {
    **_GEMMA,
    "vocab_size": 262_208,
    "post_norms": True,
    "qk_norm": True,
    "window": 1024,
    "rope_theta": 1_000_000.0,
    "rope_scaling": RopeScaling("linear", 8.0, 131_072),
    "max_positions": 131_072,
}


def _full_every(step: int, layers: int) -> dict[str, tuple[int, ...]]:
    return {"full_layers": tuple(range(step - 1, layers, step))}


def _long(short: tuple[float, ...], long: tuple[float, ...], window: int = 262_144) -> dict[str, object]:
    """A Phi of 128k tokens. Costs do not depend on the divisors; rows whose title says that they are unknown have 1."""
    attention = math.sqrt(1 + math.log(32) / math.log(4096))
    scaling = RopeScaling("longrope", 32.0, 4096, attention, short_factors=short, long_factors=long)
    return {"rope_scaling": scaling, "window": window, "max_positions": 131_072}


RELATIVE_ROWS: dict[str, PresetRow] = {
    "mistral-7b-v0.1": on_hub(
        "mistralai/Mistral-7B-v0.1", "Mistral 7B v0.1, a window of 4,096 tokens", (4096, 32, 32, 8, 14336),
        window=4096, max_positions=32_768,
    ),
    "mistral-7b-v0.2": on_hub(
        "mistralai/Mistral-7B-Instruct-v0.2", "Mistral 7B v0.2", (4096, 32, 32, 8, 14336), rope_theta=1e6,
        max_positions=32_768,
    ),
    "mistral-7b-v0.3": on_hub(
        "mistralai/Mistral-7B-v0.3", "Mistral 7B v0.3", (4096, 32, 32, 8, 14336), vocab_size=32_768, rope_theta=1e6,
        max_positions=32_768,
    ),
    "mistral-nemo-12b": on_hub(
        "mistralai/Mistral-Nemo-Base-2407", "Mistral Nemo 12B", (5120, 40, 32, 8, 14336), vocab_size=131_072,
        head_dim=128, rope_theta=1e6, max_positions=131_072,
    ),
    "mistral-small-22b": on_hub(
        "mistralai/Mistral-Small-Instruct-2409", "Mistral Small 22B", (6144, 56, 48, 8, 16384), vocab_size=32_768,
        rope_theta=1e6, max_positions=32_768,
    ),
    "mistral-small-24b": on_hub(
        "mistralai/Mistral-Small-24B-Base-2501", "Mistral Small 3 24B", (5120, 40, 32, 8, 32768), vocab_size=131_072,
        head_dim=128, rope_theta=1e8, max_positions=32_768,
    ),
    "mistral-small-3.1-24b": on_hub(
        "mistralai/Mistral-Small-3.1-24B-Base-2503", "Mistral Small 3.1 24B without its vision tower",
        (5120, 40, 32, 8, 32768), vocab_size=131_072, head_dim=128, rope_theta=1e9, max_positions=131_072,
    ),
    "ministral-8b": on_hub(
        "mistralai/Ministral-8B-Instruct-2410", "Ministral 8B, a window of 32,768 tokens", (4096, 36, 32, 8, 12288),
        vocab_size=131_072, rope_theta=1e8, window=32_768, max_positions=32_768,
    ),
    "mistral-large-123b": on_hub(
        "mistralai/Mistral-Large-Instruct-2407", "Mistral Large 2 123B", (12288, 88, 96, 8, 28672), vocab_size=32_768,
        rope_theta=1e6, max_positions=131_072,
    ),
    "mixtral-8x7b": on_hub(
        "mistralai/Mixtral-8x7B-v0.1", "Mixtral 8x7B", (4096, 32, 32, 8, 14336), rope_theta=1e6, max_positions=32_768,
        experts=Experts(8, 2, 14336),
    ),
    "mixtral-8x22b": on_hub(
        "mistralai/Mixtral-8x22B-v0.1", "Mixtral 8x22B", (6144, 56, 48, 8, 16384), rope_theta=1e6,
        max_positions=65_536, experts=Experts(8, 2, 16384),
    ),
    "qwen1.5-7b": on_hub("Qwen/Qwen1.5-7B", "Qwen1.5 7B", (4096, 32, 32, 32, 11008), **_QWEN2),
    "qwen2.5-0.5b": on_hub("Qwen/Qwen2.5-0.5B", "Qwen2.5 0.5B", (896, 24, 14, 2, 4864), **_QWEN2, **TIED),
    "qwen2.5-1.5b": on_hub("Qwen/Qwen2.5-1.5B", "Qwen2.5 1.5B", (1536, 28, 12, 2, 8960), **_QWEN2, **TIED),
    "qwen2.5-3b": on_hub("Qwen/Qwen2.5-3B", "Qwen2.5 3B", (2048, 36, 16, 2, 11008), **_QWEN2, **TIED),
    "qwen2.5-7b": on_hub(
        "Qwen/Qwen2.5-7B-Instruct", "Qwen2.5 7B", (3584, 28, 28, 4, 18944), **{**_QWEN2, "vocab_size": 152_064}
    ),
    "qwen2.5-14b": on_hub(
        "Qwen/Qwen2.5-14B-Instruct", "Qwen2.5 14B", (5120, 48, 40, 8, 13824),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "qwen2.5-32b": on_hub(
        "Qwen/Qwen2.5-32B-Instruct", "Qwen2.5 32B", (5120, 64, 40, 8, 27648),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "qwen2.5-72b": on_hub(
        "Qwen/Qwen2.5-72B-Instruct", "Qwen2.5 72B", (8192, 80, 64, 8, 29568),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "deepseek-r1-distill-qwen-1.5b": on_hub(
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek R1 in Qwen2.5 1.5B, its head untied",
        (1536, 28, 12, 2, 8960), **{**_QWEN2, "rope_theta": 10_000.0, "max_positions": 131_072},
    ),
    "qwen1.5-moe-a2.7b": on_hub(
        "Qwen/Qwen1.5-MoE-A2.7B", "Qwen1.5 MoE, 2.7B active", (2048, 24, 16, 16, 5632),
        **{**_QWEN2, "max_positions": 8192}, experts=Experts(60, 4, 1408, 5632, True),
    ),
    "qwen3-0.6b": on_hub("Qwen/Qwen3-0.6B", "Qwen3 0.6B", (1024, 28, 16, 8, 3072), **_QWEN3, **TIED),
    "qwen3-1.7b": on_hub("Qwen/Qwen3-1.7B", "Qwen3 1.7B", (2048, 28, 16, 8, 6144), **_QWEN3, **TIED),
    "qwen3-4b": on_hub("Qwen/Qwen3-4B", "Qwen3 4B", (2560, 36, 32, 8, 9728), **_QWEN3, **TIED),
    "qwen3-4b-2507": on_hub(
        "Qwen/Qwen3-4B-Instruct-2507", "Qwen3 4B of July 2025", (2560, 36, 32, 8, 9728),
        **{**_QWEN3, "rope_theta": 5e6, "max_positions": 262_144}, **TIED,
    ),
    "qwen3-8b": on_hub("Qwen/Qwen3-8B", "Qwen3 8B", (4096, 36, 32, 8, 12288), **_QWEN3),
    "qwen3-14b": on_hub("Qwen/Qwen3-14B", "Qwen3 14B", (5120, 40, 40, 8, 17408), **_QWEN3),
    "qwen3-32b": on_hub("Qwen/Qwen3-32B", "Qwen3 32B", (5120, 64, 64, 8, 25600), **_QWEN3),
    "qwen3-30b-a3b": on_hub(
        "Qwen/Qwen3-30B-A3B", "Qwen3 30B, 3B active", (2048, 48, 32, 4, 6144), **_QWEN3, experts=Experts(128, 8, 768)
    ),
    "qwen3-30b-a3b-2507": on_hub(
        "Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3 30B, 3B active, of July 2025", (2048, 48, 32, 4, 6144),
        **{**_QWEN3, "rope_theta": 1e7, "max_positions": 262_144}, experts=Experts(128, 8, 768),
    ),
    "qwen3-235b-a22b": on_hub(
        "Qwen/Qwen3-235B-A22B", "Qwen3 235B, 22B active", (4096, 94, 64, 4, 12288), **_QWEN3,
        experts=Experts(128, 8, 1536),
    ),
    "deepseek-moe-16b": on_hub(
        "deepseek-ai/deepseek-moe-16b-base", "DeepSeekMoE 16B", (2048, 28, 16, 16, 10944), vocab_size=102_400,
        norm_eps=1e-6, experts=Experts(64, 6, 1408, 2816, dense_layers=(0,)),
    ),
    "phi-3-mini-4k": on_hub(
        "microsoft/Phi-3-mini-4k-instruct", "Phi-3 mini 3.8B, a window of 2,047 tokens", (3072, 32, 32, 32, 8192),
        **_PHI, window=2047,
    ),
    "phi-3-medium-4k": on_hub(
        "microsoft/Phi-3-medium-4k-instruct", "Phi-3 medium 14B, a window of 2,047 tokens",
        (5120, 40, 40, 10, 17920), **_PHI, window=2047,
    ),
    "phi-3-mini-128k": on_hub(
        "microsoft/Phi-3-mini-128k-instruct", "Phi-3 mini 3.8B, divisors of RoPE unsaid", (3072, 32, 32, 32, 8192),
        **_PHI, **_long(ONES_48, ONES_48),
    ),
    "phi-3-medium-128k": on_hub(
        "microsoft/Phi-3-medium-128k-instruct", "Phi-3 medium 14B, divisors of RoPE unsaid",
        (5120, 40, 40, 10, 17920), **_PHI, **_long((1.0,) * 64, (1.0,) * 64, window=131_072),
    ),
    "phi-3.5-mini": on_hub(
        "microsoft/Phi-3.5-mini-instruct", "Phi-3.5 mini 3.8B", (3072, 32, 32, 32, 8192),
        **_PHI, **_long(PHI_3_5_MINI_SHORT, PHI_3_5_MINI_LONG),
    ),
    "phi-4": on_hub(
        "microsoft/phi-4", "Phi-4 14B, a shape of Phi-3", (5120, 40, 40, 10, 17920),
        **{**_PHI, "vocab_size": 100_352}, rope_theta=250_000.0, max_positions=16_384,
    ),
    "phi-4-mini": on_hub(
        "microsoft/Phi-4-mini-instruct", "Phi-4 mini 3.8B", (3072, 32, 24, 8, 8192),
        **{**_PHI, "vocab_size": 200_064}, **_long(ONES_48, PHI_4_MINI_LONG), rotary_fraction=0.75, **TIED,
    ),
    "gemma-2b": on_hub("google/gemma-2b", "Gemma 2B", (2048, 18, 8, 1, 16384), **_GEMMA, head_dim=256),
    "gemma-7b": on_hub("google/gemma-7b", "Gemma 7B", (3072, 28, 16, 16, 24576), **_GEMMA, head_dim=256),
    "gemma-2-2b": on_hub(
        "google/gemma-2-2b", "Gemma 2 2B", (2304, 26, 8, 4, 9216), **_GEMMA2, **_full_every(2, 26), head_dim=256
    ),
    "gemma-2-9b": on_hub(
        "google/gemma-2-9b", "Gemma 2 9B", (3584, 42, 16, 8, 14336), **_GEMMA2, **_full_every(2, 42), head_dim=256
    ),
    "gemma-2-27b": on_hub(
        "google/gemma-2-27b", "Gemma 2 27B", (4608, 46, 32, 16, 36864), **_GEMMA2, **_full_every(2, 46), head_dim=128
    ),
    "gemma-3-1b": on_hub(
        "google/gemma-3-1b-pt", "Gemma 3 1B", (1152, 26, 4, 1, 6912), head_dim=256, **_full_every(6, 26),
        **{**_GEMMA3, "vocab_size": 262_144, "window": 512, "rope_scaling": None, "max_positions": 32_768},
    ),
    "gemma-3-4b": on_hub(
        "google/gemma-3-4b-pt", "Gemma 3 4B without its vision tower", (2560, 34, 8, 4, 10240), **_GEMMA3,
        **_full_every(6, 34), head_dim=256,
    ),
    "gemma-3-12b": on_hub(
        "google/gemma-3-12b-pt", "Gemma 3 12B without its vision tower", (3840, 48, 16, 8, 15360), **_GEMMA3,
        **_full_every(6, 48), head_dim=256,
    ),
    "gemma-3-27b": on_hub(
        "google/gemma-3-27b-pt", "Gemma 3 27B without its vision tower", (5376, 62, 32, 16, 21504), **_GEMMA3,
        **_full_every(6, 62), head_dim=128,
    ),
}  # fmt: skip
