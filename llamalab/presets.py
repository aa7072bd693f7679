"""Known models by name, one row each with its source.

Sizes are those of the published `params.json` and `config.json` files. A row says what differs from Llama 2; what the
members of a family have in common is written once. Variants of the same shape (instruct, chat, quantised) are the
same row: `resolve_model` takes names as people write them (preset_names).
"""

import math

from llamalab.arch import LlamaArch
from llamalab.arch_files import read_arch
from llamalab.arch_parts import Experts, RopeScaling
from llamalab.errors import UnknownNameError
from llamalab.hints import NamedTuple
from llamalab.preset_names import ALIASES, plain
from llamalab.rope_divisors import ONES_48, PHI_3_5_MINI_LONG, PHI_3_5_MINI_SHORT, PHI_4_MINI_LONG


class Preset(NamedTuple):
    """A named architecture and where its numbers come from."""

    arch: LlamaArch
    title: str
    source: str


_META = "meta-llama/llama params.json"
_LLAMA1 = "Touvron et al. 2023, LLaMA, table 2 (arXiv 2302.13971)"
_LLAMA3 = {"vocab_size": 128_256, "rope_theta": 500_000.0}
_CODE = {"vocab_size": 32_016, "rope_theta": 1_000_000.0, "max_positions": 16_384}
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
_FALCON3 = {
    "vocab_size": 131_072,
    "norm_eps": 1e-6,
    "head_dim": 256,
    "rope_theta": 1_000_042.0,
    "max_positions": 32_768,
}
_TIED = {"tied_embeddings": True}


def _stretched(factor: float) -> dict[str, RopeScaling | int]:
    return {"rope_scaling": RopeScaling("llama3", factor, 8192), "max_positions": 131_072}


def _row(repository: str, title: str, sizes: tuple[int, ...], **differs: object) -> Preset:
    """A row of `dim, n_layers, n_heads, n_kv_heads, ffn_dim` and of what else differs from Llama 2."""
    return Preset(LlamaArch(*sizes, **{"vocab_size": 32_000, **differs}), title, f"{repository} config.json")  # type: ignore[arg-type]


def _full_every(step: int, layers: int) -> dict[str, tuple[int, ...]]:
    return {"full_layers": tuple(range(step - 1, layers, step))}


def _long(short: tuple[float, ...], long: tuple[float, ...], window: int = 262_144) -> dict[str, object]:
    """Of a Phi of 128k tokens. Costs do not depend on the divisors; where a title calls them unsaid, they are 1."""
    attention = math.sqrt(1 + math.log(32) / math.log(4096))
    scaling = RopeScaling("longrope", 32.0, 4096, attention, short_factors=short, long_factors=long)
    return {"rope_scaling": scaling, "window": window, "max_positions": 131_072}


PRESETS: dict[str, Preset] = {
    "7b": Preset(LlamaArch(4096, 32, 32, 32, 11008, 32000), "Llama 2 7B", _META),
    "13b": Preset(LlamaArch(5120, 40, 40, 40, 13824, 32000), "Llama 2 13B", _META),
    # Llama 2 34B was never released; Code Llama 34B has its shape.
    "34b": Preset(
        LlamaArch(8192, 48, 64, 8, 22016, 32000, 1e-5, 1_000_000.0, max_positions=16384),
        "CodeLlama-34B shape",
        "codellama/CodeLlama-34b-hf config.json",
    ),
    "70b": Preset(LlamaArch(8192, 80, 64, 8, 28672, 32000), "Llama 2 70B", _META),
    "llama1-7b": Preset(LlamaArch(4096, 32, 32, 32, 11008, 32000, 1e-6, max_positions=2048), "LLaMA 7B", _LLAMA1),
    "llama1-13b": Preset(LlamaArch(5120, 40, 40, 40, 13824, 32000, 1e-6, max_positions=2048), "LLaMA 13B", _LLAMA1),
    "llama1-33b": Preset(LlamaArch(6656, 60, 52, 52, 17920, 32000, 1e-6, max_positions=2048), "LLaMA 33B", _LLAMA1),
    "llama1-65b": Preset(LlamaArch(8192, 80, 64, 64, 22016, 32000, 1e-5, max_positions=2048), "LLaMA 65B", _LLAMA1),
    "tiny": Preset(
        LlamaArch(288, 6, 6, 6, 768, 32000, tied_embeddings=True, max_positions=256),
        "15M parameters, the shape of stories15M",
        "karpathy/llama2.c README, table of models",
    ),
    "stories260k": Preset(
        LlamaArch(64, 5, 8, 4, 172, 512, tied_embeddings=True, max_positions=512),
        "260K parameters, GQA 8/4",
        "karpathy/llama2.c doc/stories260K.md",
    ),
    "codellama-7b": _row("codellama/CodeLlama-7b-hf", "Code Llama 7B", (4096, 32, 32, 32, 11008), **_CODE),
    "codellama-13b": _row("codellama/CodeLlama-13b-hf", "Code Llama 13B", (5120, 40, 40, 40, 13824), **_CODE),
    "codellama-7b-python": _row(
        "codellama/CodeLlama-7b-Python-hf", "Code Llama 7B Python", (4096, 32, 32, 32, 11008),
        **{**_CODE, "vocab_size": 32_000},
    ),
    "codellama-13b-python": _row(
        "codellama/CodeLlama-13b-Python-hf", "Code Llama 13B Python", (5120, 40, 40, 40, 13824),
        **{**_CODE, "vocab_size": 32_000},
    ),
    "codellama-70b": _row("codellama/CodeLlama-70b-hf", "Code Llama 70B", (8192, 80, 64, 8, 28672), **_CODE),
    "chinese-llama-7b": _row(
        "ymcui/Chinese-LLaMA-Alpaca", "Chinese-LLaMA 7B, of LLaMA 1", (4096, 32, 32, 32, 11008), vocab_size=49_953,
        norm_eps=1e-6, max_positions=2048,
    ),
    "chinese-alpaca-7b": _row(
        "ymcui/Chinese-LLaMA-Alpaca", "Chinese-Alpaca 7B, of LLaMA 1", (4096, 32, 32, 32, 11008), vocab_size=49_954,
        norm_eps=1e-6, max_positions=2048,
    ),
    "chinese-llama-2-1.3b": _row(
        "hfl/chinese-llama-2-1.3b", "Chinese-LLaMA-2 1.3B", (4096, 4, 32, 32, 11008), vocab_size=55_296
    ),
    "chinese-llama-2-7b": _row(
        "hfl/chinese-llama-2-7b", "Chinese-LLaMA-2 7B", (4096, 32, 32, 32, 11008), vocab_size=55_296
    ),
    "chinese-llama-2-13b": _row(
        "hfl/chinese-llama-2-13b", "Chinese-LLaMA-2 13B", (5120, 40, 40, 40, 13824), vocab_size=55_296
    ),
    "longchat-7b-32k": _row(
        "lmsys/longchat-7b-v1.5-32k", "LongChat 7B, RoPE of Llama 2 divided by 8", (4096, 32, 32, 32, 11008),
        rope_scaling=RopeScaling("linear", 8.0, 4096), max_positions=32_768,
    ),
    "llama-3-8b": _row(
        "meta-llama/Meta-Llama-3-8B", "Llama 3 8B", (4096, 32, 32, 8, 14336), **_LLAMA3, max_positions=8192
    ),
    "llama-3-70b": _row(
        "meta-llama/Meta-Llama-3-70B", "Llama 3 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, max_positions=8192
    ),
    "llama-3.1-8b": _row(
        "meta-llama/Llama-3.1-8B", "Llama 3.1 8B", (4096, 32, 32, 8, 14336), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.1-70b": _row(
        "meta-llama/Llama-3.1-70B", "Llama 3.1 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.1-405b": _row(
        "meta-llama/Llama-3.1-405B", "Llama 3.1 405B", (16384, 126, 128, 8, 53248), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.2-1b": _row(
        "meta-llama/Llama-3.2-1B", "Llama 3.2 1B", (2048, 16, 32, 8, 8192), **_LLAMA3, **_stretched(32.0), **_TIED
    ),
    "llama-3.2-3b": _row(
        "meta-llama/Llama-3.2-3B", "Llama 3.2 3B", (3072, 28, 24, 8, 8192), **_LLAMA3, **_stretched(32.0), **_TIED
    ),
    "llama-3.3-70b": _row(
        "meta-llama/Llama-3.3-70B-Instruct", "Llama 3.3 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, **_stretched(8.0)
    ),
    "tinyllama-1.1b": _row(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama 1.1B", (2048, 22, 32, 4, 5632), max_positions=2048
    ),
    "open-llama-3b": _row(
        "openlm-research/open_llama_3b", "OpenLLaMA 3B", (3200, 26, 32, 32, 8640), norm_eps=1e-6, max_positions=2048
    ),
    "yi-6b": _row("01-ai/Yi-6B", "Yi 6B", (4096, 32, 32, 4, 11008), vocab_size=64_000, rope_theta=5e6),
    "yi-34b": _row("01-ai/Yi-34B", "Yi 34B", (7168, 60, 56, 8, 20480), vocab_size=64_000, rope_theta=5e6),
    "yi-1.5-9b": _row("01-ai/Yi-1.5-9B", "Yi 1.5 9B", (4096, 48, 32, 4, 11008), vocab_size=64_000, rope_theta=5e6),
    "deepseek-llm-7b": _row(
        "deepseek-ai/deepseek-llm-7b-base", "DeepSeek LLM 7B", (4096, 30, 32, 32, 11008), vocab_size=102_400,
        norm_eps=1e-6,
    ),
    "deepseek-llm-67b": _row(
        "deepseek-ai/deepseek-llm-67b-base", "DeepSeek LLM 67B", (8192, 95, 64, 8, 22016), vocab_size=102_400,
        norm_eps=1e-6,
    ),
    "solar-10.7b": _row("upstage/SOLAR-10.7B-v1.0", "SOLAR 10.7B", (4096, 48, 32, 8, 14336)),
    "falcon3-7b": _row("tiiuae/Falcon3-7B-Base", "Falcon3 7B", (3072, 28, 12, 4, 23040), **_FALCON3),
    "falcon3-10b": _row("tiiuae/Falcon3-10B-Base", "Falcon3 10B", (3072, 40, 12, 4, 23040), **_FALCON3),
    "smollm2-135m": _row(
        "HuggingFaceTB/SmolLM2-135M", "SmolLM2 135M", (576, 30, 9, 3, 1536), vocab_size=49_152, rope_theta=1e5,
        max_positions=8192, **_TIED,
    ),
    "smollm2-360m": _row(
        "HuggingFaceTB/SmolLM2-360M", "SmolLM2 360M", (960, 32, 15, 5, 2560), vocab_size=49_152, rope_theta=1e5,
        max_positions=8192, **_TIED,
    ),
    "smollm2-1.7b": _row(
        "HuggingFaceTB/SmolLM2-1.7B", "SmolLM2 1.7B", (2048, 24, 32, 32, 8192), vocab_size=49_152,
        rope_theta=130_000.0, max_positions=8192, **_TIED,
    ),
    "mistral-7b-v0.1": _row(
        "mistralai/Mistral-7B-v0.1", "Mistral 7B v0.1, a window of 4,096 tokens", (4096, 32, 32, 8, 14336),
        window=4096, max_positions=32_768,
    ),
    "mistral-7b-v0.2": _row(
        "mistralai/Mistral-7B-Instruct-v0.2", "Mistral 7B v0.2", (4096, 32, 32, 8, 14336), rope_theta=1e6,
        max_positions=32_768,
    ),
    "mistral-7b-v0.3": _row(
        "mistralai/Mistral-7B-v0.3", "Mistral 7B v0.3", (4096, 32, 32, 8, 14336), vocab_size=32_768, rope_theta=1e6,
        max_positions=32_768,
    ),
    "mistral-nemo-12b": _row(
        "mistralai/Mistral-Nemo-Base-2407", "Mistral Nemo 12B", (5120, 40, 32, 8, 14336), vocab_size=131_072,
        head_dim=128, rope_theta=1e6, max_positions=131_072,
    ),
    "mistral-small-22b": _row(
        "mistralai/Mistral-Small-Instruct-2409", "Mistral Small 22B", (6144, 56, 48, 8, 16384), vocab_size=32_768,
        rope_theta=1e6, max_positions=32_768,
    ),
    "mistral-small-24b": _row(
        "mistralai/Mistral-Small-24B-Base-2501", "Mistral Small 3 24B", (5120, 40, 32, 8, 32768), vocab_size=131_072,
        head_dim=128, rope_theta=1e8, max_positions=32_768,
    ),
    "mistral-small-3.1-24b": _row(
        "mistralai/Mistral-Small-3.1-24B-Base-2503", "Mistral Small 3.1 24B without its vision tower",
        (5120, 40, 32, 8, 32768), vocab_size=131_072, head_dim=128, rope_theta=1e9, max_positions=131_072,
    ),
    "ministral-8b": _row(
        "mistralai/Ministral-8B-Instruct-2410", "Ministral 8B, a window of 32,768 tokens", (4096, 36, 32, 8, 12288),
        vocab_size=131_072, rope_theta=1e8, window=32_768, max_positions=32_768,
    ),
    "mistral-large-123b": _row(
        "mistralai/Mistral-Large-Instruct-2407", "Mistral Large 2 123B", (12288, 88, 96, 8, 28672), vocab_size=32_768,
        rope_theta=1e6, max_positions=131_072,
    ),
    "mixtral-8x7b": _row(
        "mistralai/Mixtral-8x7B-v0.1", "Mixtral 8x7B", (4096, 32, 32, 8, 14336), rope_theta=1e6, max_positions=32_768,
        experts=Experts(8, 2, 14336),
    ),
    "mixtral-8x22b": _row(
        "mistralai/Mixtral-8x22B-v0.1", "Mixtral 8x22B", (6144, 56, 48, 8, 16384), rope_theta=1e6,
        max_positions=65_536, experts=Experts(8, 2, 16384),
    ),
    "qwen2.5-0.5b": _row("Qwen/Qwen2.5-0.5B", "Qwen2.5 0.5B", (896, 24, 14, 2, 4864), **_QWEN2, **_TIED),
    "qwen2.5-1.5b": _row("Qwen/Qwen2.5-1.5B", "Qwen2.5 1.5B", (1536, 28, 12, 2, 8960), **_QWEN2, **_TIED),
    "qwen2.5-3b": _row("Qwen/Qwen2.5-3B", "Qwen2.5 3B", (2048, 36, 16, 2, 11008), **_QWEN2, **_TIED),
    "qwen2.5-7b": _row(
        "Qwen/Qwen2.5-7B-Instruct", "Qwen2.5 7B", (3584, 28, 28, 4, 18944), **{**_QWEN2, "vocab_size": 152_064}
    ),
    "qwen2.5-14b": _row(
        "Qwen/Qwen2.5-14B-Instruct", "Qwen2.5 14B", (5120, 48, 40, 8, 13824),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "qwen2.5-32b": _row(
        "Qwen/Qwen2.5-32B-Instruct", "Qwen2.5 32B", (5120, 64, 40, 8, 27648),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "qwen2.5-72b": _row(
        "Qwen/Qwen2.5-72B-Instruct", "Qwen2.5 72B", (8192, 80, 64, 8, 29568),
        **{**_QWEN2, "vocab_size": 152_064, "norm_eps": 1e-5},
    ),
    "deepseek-r1-distill-qwen-1.5b": _row(
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "DeepSeek R1 in Qwen2.5 1.5B, its head untied",
        (1536, 28, 12, 2, 8960), **{**_QWEN2, "rope_theta": 10_000.0, "max_positions": 131_072},
    ),
    "qwen1.5-moe-a2.7b": _row(
        "Qwen/Qwen1.5-MoE-A2.7B", "Qwen1.5 MoE, 2.7B active", (2048, 24, 16, 16, 5632),
        **{**_QWEN2, "max_positions": 8192}, experts=Experts(60, 4, 1408, 5632, True),
    ),
    "qwen3-0.6b": _row("Qwen/Qwen3-0.6B", "Qwen3 0.6B", (1024, 28, 16, 8, 3072), **_QWEN3, **_TIED),
    "qwen3-1.7b": _row("Qwen/Qwen3-1.7B", "Qwen3 1.7B", (2048, 28, 16, 8, 6144), **_QWEN3, **_TIED),
    "qwen3-4b": _row("Qwen/Qwen3-4B", "Qwen3 4B", (2560, 36, 32, 8, 9728), **_QWEN3, **_TIED),
    "qwen3-4b-2507": _row(
        "Qwen/Qwen3-4B-Instruct-2507", "Qwen3 4B of July 2025", (2560, 36, 32, 8, 9728),
        **{**_QWEN3, "rope_theta": 5e6, "max_positions": 262_144}, **_TIED,
    ),
    "qwen3-8b": _row("Qwen/Qwen3-8B", "Qwen3 8B", (4096, 36, 32, 8, 12288), **_QWEN3),
    "qwen3-14b": _row("Qwen/Qwen3-14B", "Qwen3 14B", (5120, 40, 40, 8, 17408), **_QWEN3),
    "qwen3-32b": _row("Qwen/Qwen3-32B", "Qwen3 32B", (5120, 64, 64, 8, 25600), **_QWEN3),
    "qwen3-30b-a3b": _row(
        "Qwen/Qwen3-30B-A3B", "Qwen3 30B, 3B active", (2048, 48, 32, 4, 6144), **_QWEN3, experts=Experts(128, 8, 768)
    ),
    "qwen3-30b-a3b-2507": _row(
        "Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3 30B, 3B active, of July 2025", (2048, 48, 32, 4, 6144),
        **{**_QWEN3, "rope_theta": 1e7, "max_positions": 262_144}, experts=Experts(128, 8, 768),
    ),
    "qwen3-235b-a22b": _row(
        "Qwen/Qwen3-235B-A22B", "Qwen3 235B, 22B active", (4096, 94, 64, 4, 12288), **_QWEN3,
        experts=Experts(128, 8, 1536),
    ),
    "deepseek-moe-16b": _row(
        "deepseek-ai/deepseek-moe-16b-base", "DeepSeekMoE 16B", (2048, 28, 16, 16, 10944), vocab_size=102_400,
        norm_eps=1e-6, experts=Experts(64, 6, 1408, 2816, dense_layers=(0,)),
    ),
    "phi-3-mini-4k": _row(
        "microsoft/Phi-3-mini-4k-instruct", "Phi-3 mini 3.8B, a window of 2,047 tokens", (3072, 32, 32, 32, 8192),
        **_PHI, window=2047,
    ),
    "phi-3-medium-4k": _row(
        "microsoft/Phi-3-medium-4k-instruct", "Phi-3 medium 14B, a window of 2,047 tokens",
        (5120, 40, 40, 10, 17920), **_PHI, window=2047,
    ),
    "phi-3-mini-128k": _row(
        "microsoft/Phi-3-mini-128k-instruct", "Phi-3 mini 3.8B, divisors of RoPE unsaid", (3072, 32, 32, 32, 8192),
        **_PHI, **_long(ONES_48, ONES_48),
    ),
    "phi-3-medium-128k": _row(
        "microsoft/Phi-3-medium-128k-instruct", "Phi-3 medium 14B, divisors of RoPE unsaid",
        (5120, 40, 40, 10, 17920), **_PHI, **_long((1.0,) * 64, (1.0,) * 64, window=131_072),
    ),
    "phi-3.5-mini": _row(
        "microsoft/Phi-3.5-mini-instruct", "Phi-3.5 mini 3.8B", (3072, 32, 32, 32, 8192),
        **_PHI, **_long(PHI_3_5_MINI_SHORT, PHI_3_5_MINI_LONG),
    ),
    "phi-4": _row(
        "microsoft/phi-4", "Phi-4 14B, a shape of Phi-3", (5120, 40, 40, 10, 17920),
        **{**_PHI, "vocab_size": 100_352}, rope_theta=250_000.0, max_positions=16_384,
    ),
    "phi-4-mini": _row(
        "microsoft/Phi-4-mini-instruct", "Phi-4 mini 3.8B", (3072, 32, 24, 8, 8192),
        **{**_PHI, "vocab_size": 200_064}, **_long(ONES_48, PHI_4_MINI_LONG), rotary_fraction=0.75, **_TIED,
    ),
    "gemma-2b": _row("google/gemma-2b", "Gemma 2B", (2048, 18, 8, 1, 16384), **_GEMMA, head_dim=256),
    "gemma-7b": _row("google/gemma-7b", "Gemma 7B", (3072, 28, 16, 16, 24576), **_GEMMA, head_dim=256),
    "gemma-2-2b": _row(
        "google/gemma-2-2b", "Gemma 2 2B", (2304, 26, 8, 4, 9216), **_GEMMA2, **_full_every(2, 26), head_dim=256
    ),
    "gemma-2-9b": _row(
        "google/gemma-2-9b", "Gemma 2 9B", (3584, 42, 16, 8, 14336), **_GEMMA2, **_full_every(2, 42), head_dim=256
    ),
    "gemma-2-27b": _row(
        "google/gemma-2-27b", "Gemma 2 27B", (4608, 46, 32, 16, 36864), **_GEMMA2, **_full_every(2, 46), head_dim=128
    ),
    "gemma-3-1b": _row(
        "google/gemma-3-1b-pt", "Gemma 3 1B", (1152, 26, 4, 1, 6912), head_dim=256, **_full_every(6, 26),
        **{**_GEMMA3, "vocab_size": 262_144, "window": 512, "rope_scaling": None, "max_positions": 32_768},
    ),
    "gemma-3-4b": _row(
        "google/gemma-3-4b-pt", "Gemma 3 4B without its vision tower", (2560, 34, 8, 4, 10240), **_GEMMA3,
        **_full_every(6, 34), head_dim=256,
    ),
    "gemma-3-12b": _row(
        "google/gemma-3-12b-pt", "Gemma 3 12B without its vision tower", (3840, 48, 16, 8, 15360), **_GEMMA3,
        **_full_every(6, 48), head_dim=256,
    ),
    "gemma-3-27b": _row(
        "google/gemma-3-27b-pt", "Gemma 3 27B without its vision tower", (5376, 62, 32, 16, 21504), **_GEMMA3,
        **_full_every(6, 62), head_dim=128,
    ),
}  # fmt: skip


def resolve_model(name: str) -> tuple[str, LlamaArch]:
    """The name and architecture of a preset, or of a `params.json` or `config.json` path.

    A preset goes by any name that people write for it: case, owner, hyphens and words that say nothing of the shape
    do not count.

    >>> resolve_model("7b")[1].n_layers, resolve_model("meta-llama/Llama-2-7b-chat-hf")[0]
    (32, '7b')
    """
    if name in PRESETS:
        return name, PRESETS[name].arch
    if name.lower().endswith(".json"):
        return name, read_arch(name)
    known = {plain(one): one for one in PRESETS} | {plain(alias): one for alias, one in ALIASES.items()}
    found = known.get(plain(name))
    if found is not None:
        return found, PRESETS[found].arch
    raise UnknownNameError("model", name, PRESETS, hint=" or a path to params.json or config.json")
