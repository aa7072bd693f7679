"""Known models outside Llama's family, for the calculators alone: OLMo 2, SmolLM3, gpt-oss, Phi-2."""

import math

from llamalab.arch.parts import Experts, RopeScaling
from llamalab.presets.rows import TIED, PresetRow, on_hub

_OLMO2 = {
    "vocab_size": 100_352,
    "norm_eps": 1e-6,
    "rope_theta": 500_000.0,
    "qk_norm": True,
    "wide_qk_norm": True,
    "pre_norms": False,
    "post_norms": True,
    "max_positions": 4096,
}
_GPT_OSS = {
    "vocab_size": 201_088,
    "head_dim": 64,
    "rope_theta": 150_000.0,
    "rope_scaling": RopeScaling("yarn", 32.0, 4096, 0.1 * math.log(32) + 1, rounded=False),
    "max_positions": 131_072,
    "qkv_bias": True,
    "o_bias": True,
    "window": 128,
    "attention_sinks": True,
}


def _every(step: int, layers: int) -> tuple[int, ...]:
    return tuple(range(step - 1, layers, step))


BESIDE_ROWS: dict[str, PresetRow] = {
    "olmo-2-1b": on_hub("allenai/OLMo-2-0425-1B", "OLMo 2 1B", (2048, 16, 16, 16, 8192), **_OLMO2),
    "olmo-2-7b": on_hub("allenai/OLMo-2-1124-7B", "OLMo 2 7B", (4096, 32, 32, 32, 11008), **_OLMO2),
    "olmo-2-13b": on_hub("allenai/OLMo-2-1124-13B", "OLMo 2 13B", (5120, 40, 40, 40, 13824), **_OLMO2),
    "olmo-2-32b": on_hub("allenai/OLMo-2-0325-32B", "OLMo 2 32B", (5120, 64, 40, 8, 27648), **_OLMO2),
    "smollm3-3b": on_hub(
        "HuggingFaceTB/SmolLM3-3B", "SmolLM3 3B, every fourth layer without RoPE", (2048, 36, 16, 4, 11008), **TIED,
        vocab_size=128_256, norm_eps=1e-6, rope_theta=5e6, max_positions=65_536, unrotated_layers=_every(4, 36),
    ),
    "gpt-oss-20b": on_hub(
        "openai/gpt-oss-20b", "gpt-oss 20B, 3.6B active", (2880, 24, 64, 8, 2880), **_GPT_OSS,
        full_layers=_every(2, 24), experts=Experts(32, 4, 2880, biases=True),
    ),
    "gpt-oss-120b": on_hub(
        "openai/gpt-oss-120b", "gpt-oss 120B, 5.1B active", (2880, 36, 64, 8, 2880), **_GPT_OSS,
        full_layers=_every(2, 36), experts=Experts(128, 4, 2880, biases=True),
    ),
    "phi-2": on_hub(
        "microsoft/phi-2", "Phi-2 2.7B", (2560, 32, 32, 32, 10240), vocab_size=51_200, rotary_fraction=0.4,
        max_positions=2048, activation="gelu_tanh", gated=False, norm="layer", shared_norm=True, qkv_bias=True,
        o_bias=True, ffn_bias=True, head_bias=True,
    ),
}  # fmt: skip
