"""Llama 1 to 3.3, models trained from them, and models of their shape: one row each with its source."""

from llamalab.arch.parts import RopeScaling
from llamalab.presets.rows import TIED, PresetRow, on_hub, row

_META = "meta-llama/llama params.json"
_LLAMA1 = "Touvron et al. 2023, LLaMA, table 2 (arXiv 2302.13971)"
_LLAMA3 = {"vocab_size": 128_256, "rope_theta": 500_000.0}
_CODE = {"vocab_size": 32_016, "rope_theta": 1_000_000.0, "max_positions": 16_384}
_DEEPSEEK_CODER = {
    "vocab_size": 32_256,
    "norm_eps": 1e-6,
    "rope_theta": 100_000.0,
    "rope_scaling": RopeScaling("linear", 4.0, 4096),
    "max_positions": 16_384,
}
_FALCON3 = {
    "vocab_size": 131_072,
    "norm_eps": 1e-6,
    "head_dim": 256,
    "rope_theta": 1_000_042.0,
    "max_positions": 32_768,
}


def _stretched(factor: float) -> dict[str, RopeScaling | int]:
    return {"rope_scaling": RopeScaling("llama3", factor, 8192), "max_positions": 131_072}


LLAMA_ROWS: dict[str, PresetRow] = {
    "7b": row(_META, "Llama 2 7B", (4096, 32, 32, 32, 11008)),
    "13b": row(_META, "Llama 2 13B", (5120, 40, 40, 40, 13824)),
    # Llama 2 34B was never released; Code Llama 34B has its shape.
    "34b": on_hub(
        "codellama/CodeLlama-34b-hf", "CodeLlama-34B shape", (8192, 48, 64, 8, 22016),
        rope_theta=1_000_000.0, max_positions=16_384,
    ),
    "70b": row(_META, "Llama 2 70B", (8192, 80, 64, 8, 28672)),
    "llama1-7b": row(_LLAMA1, "LLaMA 7B", (4096, 32, 32, 32, 11008), norm_eps=1e-6, max_positions=2048),
    "llama1-13b": row(_LLAMA1, "LLaMA 13B", (5120, 40, 40, 40, 13824), norm_eps=1e-6, max_positions=2048),
    "llama1-33b": row(_LLAMA1, "LLaMA 33B", (6656, 60, 52, 52, 17920), norm_eps=1e-6, max_positions=2048),
    "llama1-65b": row(_LLAMA1, "LLaMA 65B", (8192, 80, 64, 64, 22016), max_positions=2048),
    "tiny": row(
        "karpathy/llama2.c README, table of models", "15M parameters, the shape of stories15M", (288, 6, 6, 6, 768),
        tied_embeddings=True, max_positions=256,
    ),
    "stories42m": row(
        "karpathy/llama2.c README, table of models", "42M parameters", (512, 8, 8, 8, 1376),
        tied_embeddings=True, max_positions=1024,
    ),
    "stories110m": row(
        "karpathy/llama2.c README, table of models", "110M parameters", (768, 12, 12, 12, 2048),
        tied_embeddings=True, max_positions=1024,
    ),
    "stories260k": row(
        "karpathy/llama2.c doc/stories260K.md", "260K parameters, GQA 8/4", (64, 5, 8, 4, 172),
        vocab_size=512, tied_embeddings=True, max_positions=512,
    ),
    "codellama-7b": on_hub("codellama/CodeLlama-7b-hf", "Code Llama 7B", (4096, 32, 32, 32, 11008), **_CODE),
    "codellama-13b": on_hub("codellama/CodeLlama-13b-hf", "Code Llama 13B", (5120, 40, 40, 40, 13824), **_CODE),
    "codellama-7b-python": on_hub(
        "codellama/CodeLlama-7b-Python-hf", "Code Llama 7B Python", (4096, 32, 32, 32, 11008),
        **{**_CODE, "vocab_size": 32_000},
    ),
    "codellama-13b-python": on_hub(
        "codellama/CodeLlama-13b-Python-hf", "Code Llama 13B Python", (5120, 40, 40, 40, 13824),
        **{**_CODE, "vocab_size": 32_000},
    ),
    "codellama-70b": on_hub("codellama/CodeLlama-70b-hf", "Code Llama 70B", (8192, 80, 64, 8, 28672), **_CODE),
    "chinese-llama-7b": on_hub(
        "ymcui/Chinese-LLaMA-Alpaca", "Chinese-LLaMA 7B, of LLaMA 1", (4096, 32, 32, 32, 11008), vocab_size=49_953,
        norm_eps=1e-6, max_positions=2048,
    ),
    "chinese-alpaca-7b": on_hub(
        "ymcui/Chinese-LLaMA-Alpaca", "Chinese-Alpaca 7B, of LLaMA 1", (4096, 32, 32, 32, 11008), vocab_size=49_954,
        norm_eps=1e-6, max_positions=2048,
    ),
    "chinese-llama-2-1.3b": on_hub(
        "hfl/chinese-llama-2-1.3b", "Chinese-LLaMA-2 1.3B", (4096, 4, 32, 32, 11008), vocab_size=55_296
    ),
    "chinese-llama-2-7b": on_hub(
        "hfl/chinese-llama-2-7b", "Chinese-LLaMA-2 7B", (4096, 32, 32, 32, 11008), vocab_size=55_296
    ),
    "chinese-llama-2-13b": on_hub(
        "hfl/chinese-llama-2-13b", "Chinese-LLaMA-2 13B", (5120, 40, 40, 40, 13824), vocab_size=55_296
    ),
    "longchat-7b-32k": on_hub(
        "lmsys/longchat-7b-v1.5-32k", "LongChat 7B, RoPE of Llama 2 divided by 8", (4096, 32, 32, 32, 11008),
        rope_scaling=RopeScaling("linear", 8.0, 4096), max_positions=32_768,
    ),
    "llama-3-8b": on_hub(
        "meta-llama/Meta-Llama-3-8B", "Llama 3 8B", (4096, 32, 32, 8, 14336), **_LLAMA3, max_positions=8192
    ),
    "llama-3-70b": on_hub(
        "meta-llama/Meta-Llama-3-70B", "Llama 3 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, max_positions=8192
    ),
    "llama-3.1-8b": on_hub(
        "meta-llama/Llama-3.1-8B", "Llama 3.1 8B", (4096, 32, 32, 8, 14336), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.1-70b": on_hub(
        "meta-llama/Llama-3.1-70B", "Llama 3.1 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.1-405b": on_hub(
        "meta-llama/Llama-3.1-405B", "Llama 3.1 405B", (16384, 126, 128, 8, 53248), **_LLAMA3, **_stretched(8.0)
    ),
    "llama-3.2-1b": on_hub(
        "meta-llama/Llama-3.2-1B", "Llama 3.2 1B", (2048, 16, 32, 8, 8192), **_LLAMA3, **_stretched(32.0), **TIED
    ),
    "llama-3.2-3b": on_hub(
        "meta-llama/Llama-3.2-3B", "Llama 3.2 3B", (3072, 28, 24, 8, 8192), **_LLAMA3, **_stretched(32.0), **TIED
    ),
    "llama-3.3-70b": on_hub(
        "meta-llama/Llama-3.3-70B-Instruct", "Llama 3.3 70B", (8192, 80, 64, 8, 28672), **_LLAMA3, **_stretched(8.0)
    ),
    "tinyllama-1.1b": on_hub(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "TinyLlama 1.1B", (2048, 22, 32, 4, 5632), max_positions=2048
    ),
    "open-llama-3b": on_hub(
        "openlm-research/open_llama_3b", "OpenLLaMA 3B", (3200, 26, 32, 32, 8640), norm_eps=1e-6, max_positions=2048
    ),
    "yi-6b": on_hub("01-ai/Yi-6B", "Yi 6B", (4096, 32, 32, 4, 11008), vocab_size=64_000, rope_theta=5e6),
    "yi-34b": on_hub("01-ai/Yi-34B", "Yi 34B", (7168, 60, 56, 8, 20480), vocab_size=64_000, rope_theta=5e6),
    "yi-1.5-9b": on_hub("01-ai/Yi-1.5-9B", "Yi 1.5 9B", (4096, 48, 32, 4, 11008), vocab_size=64_000, rope_theta=5e6),
    "deepseek-llm-7b": on_hub(
        "deepseek-ai/deepseek-llm-7b-base", "DeepSeek LLM 7B", (4096, 30, 32, 32, 11008), vocab_size=102_400,
        norm_eps=1e-6,
    ),
    "deepseek-llm-67b": on_hub(
        "deepseek-ai/deepseek-llm-67b-base", "DeepSeek LLM 67B", (8192, 95, 64, 8, 22016), vocab_size=102_400,
        norm_eps=1e-6,
    ),
    "deepseek-coder-6.7b": on_hub(
        "deepseek-ai/deepseek-coder-6.7b-base", "DeepSeek Coder 6.7B", (4096, 32, 32, 32, 11008), **_DEEPSEEK_CODER
    ),
    "deepseek-coder-33b": on_hub(
        "deepseek-ai/deepseek-coder-33b-base", "DeepSeek Coder 33B", (7168, 62, 56, 8, 19200), **_DEEPSEEK_CODER
    ),
    "solar-10.7b": on_hub("upstage/SOLAR-10.7B-v1.0", "SOLAR 10.7B", (4096, 48, 32, 8, 14336)),
    "falcon3-7b": on_hub("tiiuae/Falcon3-7B-Base", "Falcon3 7B", (3072, 28, 12, 4, 23040), **_FALCON3),
    "falcon3-10b": on_hub("tiiuae/Falcon3-10B-Base", "Falcon3 10B", (3072, 40, 12, 4, 23040), **_FALCON3),
    "smollm2-135m": on_hub(
        "HuggingFaceTB/SmolLM2-135M", "SmolLM2 135M", (576, 30, 9, 3, 1536), vocab_size=49_152, rope_theta=1e5,
        max_positions=8192, **TIED,
    ),
    "smollm2-360m": on_hub(
        "HuggingFaceTB/SmolLM2-360M", "SmolLM2 360M", (960, 32, 15, 5, 2560), vocab_size=49_152, rope_theta=1e5,
        max_positions=8192, **TIED,
    ),
    "smollm2-1.7b": on_hub(
        "HuggingFaceTB/SmolLM2-1.7B", "SmolLM2 1.7B", (2048, 24, 32, 32, 8192), vocab_size=49_152,
        rope_theta=130_000.0, max_positions=8192, **TIED,
    ),
}  # fmt: skip
