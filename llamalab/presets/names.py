"""Spellings of the models in llamalab.presets, and words in a name that do not describe the shape.

An alias is a model of the same cost as its preset: same sizes, same windows; RoPE's base or the trained context may
be its own. A family's name alone is its usual size.
"""

ALIASES = {
    "llama-2": "7b", "llama-3": "llama-3-8b", "llama-3.1": "llama-3.1-8b", "llama-3.2": "llama-3.2-3b",
    "llama-3.3": "llama-3.3-70b", "codellama": "codellama-7b", "mistral": "mistral-7b-v0.3", "gemma-2": "gemma-2-9b",
    "gemma-3": "gemma-3-4b", "qwen2.5": "qwen2.5-7b", "qwen3": "qwen3-8b", "olmo-2": "olmo-2-7b",
    "olmo-2-0425-1b": "olmo-2-1b", "olmo-2-1124-7b": "olmo-2-7b", "olmo-2-1124-13b": "olmo-2-13b",
    "olmo-2-0325-32b": "olmo-2-32b", "smollm3": "smollm3-3b", "gpt-oss": "gpt-oss-20b",
    "codestral-22b-v0.1": "mistral-small-22b", "codestral": "mistral-small-22b", "vicuna-7b": "7b", "vicuna-13b": "13b",
    "deepseek-r1-8b": "llama-3.1-8b", "deepseek-r1-70b": "llama-3.3-70b", "llama-guard-3-8b": "llama-3.1-8b",
    "llamaguard-7b": "7b", "llama-3.1-nemotron-70b": "llama-3.1-70b", "llama-3.1-nemotron-nano-8b-v1": "llama-3.1-8b",
    "llama-3.1-tulu-3-8b": "llama-3.1-8b", "llama-3.1-tulu-3-70b": "llama-3.1-70b", "llama2.c-stories15m": "tiny",
    "hermes-3-llama-3.1-8b": "llama-3.1-8b", "hermes-3-llama-3.1-70b": "llama-3.1-70b", "llemma-7b": "codellama-7b",
    "sqlcoder-7b-2": "codellama-7b", "wizardcoder-python-34b-v1.0": "34b", "llama-2-7b-32k": "7b",
    "llama-2-7b": "7b", "llama-2-13b": "13b", "llama-2-34b": "34b", "llama-2-70b": "70b", "codellama-34b": "34b",
    "llama-7b": "llama1-7b", "llama-13b": "llama1-13b", "llama-30b": "llama1-33b",
    "llama-33b": "llama1-33b", "llama-65b": "llama1-65b",
    "stories15m": "tiny", "vicuna-7b-v1.5": "7b",
    "vicuna-13b-v1.5": "13b", "chinese-alpaca-2-1.3b": "chinese-llama-2-1.3b",
    "longchat-7b-v1.5-32k": "longchat-7b-32k",
    "chinese-alpaca-2-7b": "chinese-llama-2-7b", "chinese-alpaca-2-13b": "chinese-llama-2-13b",
    "tinyllama": "tinyllama-1.1b", "tinyllama-1.1b-v1.0": "tinyllama-1.1b", "tinyllama-v1.1": "tinyllama-1.1b",
    "open-llama-3b-v2": "open-llama-3b", "open-llama-7b-v2": "llama1-7b",
    "tinyllama-1.1b-intermediate-step-1431k-3t": "tinyllama-1.1b", "yi-1.5-6b": "yi-6b", "yi-1.5-34b": "yi-34b",
    "mistral-7b": "mistral-7b-v0.1", "mistral-nemo": "mistral-nemo-12b", "mistral-nemo-2407": "mistral-nemo-12b",
    "mistral-small-2409": "mistral-small-22b", "mistral-small": "mistral-small-24b",
    "mistral-small-24b-2501": "mistral-small-24b", "mistral-large-2407": "mistral-large-123b",
    "mistral-large": "mistral-large-123b", "mixtral-8x7b-v0.1": "mixtral-8x7b", "mixtral-8x22b-v0.1": "mixtral-8x22b",
    "phi-3-mini": "phi-3-mini-4k", "phi-3-medium": "phi-3-medium-4k",
    "phi-3": "phi-3-mini-4k", "phi-3.5": "phi-3.5-mini", "mixtral": "mixtral-8x7b", "smollm-135m": "smollm2-135m",
    "smollm-360m": "smollm2-360m", "smollm-1.7b": "smollm2-1.7b", "codellama-34b-python": "34b",
    "codellama-70b-python": "codellama-70b", "llama2-chinese-7b": "7b", "llama2-chinese-13b": "13b",
    "chinese-alpaca-plus-7b": "chinese-alpaca-7b", "chinese-alpaca-pro-7b": "chinese-alpaca-7b",
    "chinese-llama-plus-7b": "chinese-llama-7b", "yi-1.5-9b-16k": "yi-1.5-9b", "yi-1.5-9b-32k": "yi-1.5-9b",
    "yi-6b-200k": "yi-6b", "yi-34b-200k": "yi-34b", "yi-34b-16k": "yi-34b",
    "zephyr-7b-beta": "mistral-7b-v0.1", "zephyr-7b-alpha": "mistral-7b-v0.1",
    "wizardlm-70b-v1.0": "70b", "open-llama-7b": "llama1-7b", "open-llama-13b": "llama1-13b",
    "vicuna-7b-v1.3": "llama1-7b", "vicuna-13b-v1.3": "llama1-13b", "vicuna-33b-v1.3": "llama1-33b",
    "gemma-1.1-2b": "gemma-2b", "gemma-1.1-7b": "gemma-7b",
    "ministral-8b-2410": "ministral-8b", "mistral-small-24b-2503": "mistral-small-3.1-24b",
    "mistral-small-3.1-24b-2503": "mistral-small-3.1-24b", "mistral-small-3.2-24b-2506": "mistral-small-3.1-24b",
    "mistral-small-3.2-24b": "mistral-small-3.1-24b", "mistral-large-2411": "mistral-large-123b",
    "qwen3-4b-thinking-2507": "qwen3-4b-2507", "qwen3-30b-a3b-thinking-2507": "qwen3-30b-a3b-2507",
    "qwen3-coder-30b-a3b": "qwen3-30b-a3b-2507", "qwq-32b": "qwen2.5-32b", "solar-10.7b-v1.0": "solar-10.7b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b", "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
    **{f"deepseek-r1-distill-qwen-{size}": f"qwen2.5-{size}" for size in ("7b", "14b", "32b")},
    **{f"qwen2-{size}": f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "7b", "72b")},
    **{f"qwen2.5-coder-{size}": f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b")},
    **{f"qwen2.5-math-{size}": f"qwen2.5-{size}" for size in ("1.5b", "7b", "72b")},
}  # fmt: skip
_NO_SHAPE = (
    "hf",
    "instruct",
    "chat",
    "it",
    "pt",
    "base",
    "meta",
    "gguf",
    "gptq",
    "awq",
    "bf16",
    "fp16",
    "fp8",
    "bnb",
    "4bit",
    "8bit",
    "int4",
    "int8",
    "unsloth",
    "fp4",
    "nvfp4",
    "1m",
)
_AS_HYPHENS = str.maketrans("_ :", "---")


def plain(name: str) -> str:
    """A name without words that do not describe the shape.

    >>> plain("Qwen/Qwen2.5-7B-Instruct"), plain("Meta-Llama-3-8B"), plain("llama3:8b")
    ('qwen2.57b', 'llama38b', 'llama38b')
    """
    words = name.rpartition("/")[2].lower().translate(_AS_HYPHENS).split("-")
    return "".join(word for word in words if word not in _NO_SHAPE)
