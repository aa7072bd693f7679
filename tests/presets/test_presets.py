"""Every known model has the size it is known for."""

import json
from pathlib import Path

import pytest

from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.params import parameter_count
from llamalab.arch.files import read_arch
from llamalab.errors import MissingError, UnknownNameError
from llamalab.presets import PRESETS, resolve_model
from llamalab.presets.names import ALIASES, plain

# Parameters, and KV bytes per token in 2-byte storage.
KNOWN = {
    "7b": (6_738_415_616, 524_288),
    "13b": (13_015_864_320, 819_200),
    "34b": (33_743_970_304, 196_608),
    "70b": (68_976_648_192, 327_680),
    "llama1-7b": (6_738_415_616, 524_288),
    "llama1-13b": (13_015_864_320, 819_200),
    "llama1-33b": (32_528_943_616, 1_597_440),
    "llama1-65b": (65_285_660_672, 2_621_440),
    "tiny": (15_191_712, 6_912),
    "stories260k": (260_032, 640),
    "codellama-7b": (6_738_546_688, 524_288),
    "codellama-13b": (13_016_028_160, 819_200),
    "codellama-70b": (68_976_910_336, 327_680),
    "chinese-llama-2-1.3b": (1_262_522_368, 65_536),
    "chinese-llama-2-7b": (6_929_256_448, 524_288),
    "chinese-llama-2-13b": (13_254_415_360, 819_200),
    "longchat-7b-32k": (6_738_415_616, 524_288),
    "llama-3-8b": (8_030_261_248, 131_072),
    "llama-3-70b": (70_553_706_496, 327_680),
    "llama-3.1-8b": (8_030_261_248, 131_072),
    "llama-3.1-70b": (70_553_706_496, 327_680),
    "llama-3.1-405b": (405_853_388_800, 516_096),
    "llama-3.2-1b": (1_235_814_400, 32_768),
    "llama-3.2-3b": (3_212_749_824, 114_688),
    "llama-3.3-70b": (70_553_706_496, 327_680),
    "tinyllama-1.1b": (1_100_048_384, 22_528),
    "open-llama-3b": (3_426_473_600, 332_800),
    "yi-6b": (6_061_035_520, 65_536),
    "yi-34b": (34_388_917_248, 245_760),
    "yi-1.5-9b": (8_829_407_232, 98_304),
    "deepseek-llm-7b": (6_910_365_696, 491_520),
    "deepseek-llm-67b": (67_425_001_472, 389_120),
    "smollm2-135m": (134_515_008, 23_040),
    "smollm2-360m": (361_821_120, 40_960),
    "smollm2-1.7b": (1_711_376_384, 196_608),
    "mistral-7b-v0.1": (7_241_732_096, 131_072),
    "mistral-7b-v0.2": (7_241_732_096, 131_072),
    "mistral-7b-v0.3": (7_248_023_552, 131_072),
    "mistral-nemo-12b": (12_247_782_400, 163_840),
    "mistral-small-22b": (22_247_282_688, 229_376),
    "mistral-small-24b": (23_572_403_200, 163_840),
    "mistral-large-123b": (122_610_069_504, 360_448),
    "mixtral-8x7b": (46_702_792_704, 131_072),
    "mixtral-8x22b": (140_620_634_112, 229_376),
    "qwen2.5-0.5b": (494_032_768, 12_288),
    "qwen2.5-1.5b": (1_543_714_304, 28_672),
    "qwen2.5-3b": (3_085_938_688, 36_864),
    "qwen2.5-7b": (7_615_616_512, 57_344),
    "qwen2.5-14b": (14_770_033_664, 196_608),
    "qwen2.5-32b": (32_763_876_352, 262_144),
    "qwen2.5-72b": (72_706_203_648, 327_680),
    "qwen1.5-moe-a2.7b": (14_315_784_192, 196_608),
    "qwen3-0.6b": (596_049_920, 114_688),
    "qwen3-1.7b": (1_720_574_976, 114_688),
    "qwen3-4b": (4_022_468_096, 147_456),
    "qwen3-8b": (8_190_735_360, 147_456),
    "qwen3-14b": (14_768_307_200, 163_840),
    "qwen3-32b": (32_762_123_264, 262_144),
    "qwen3-30b-a3b": (30_532_122_624, 98_304),
    "qwen3-235b-a22b": (235_093_634_560, 192_512),
    "deepseek-moe-16b": (16_375_728_128, 229_376),
    "phi-3-mini-4k": (3_821_079_552, 393_216),
    "phi-3-medium-4k": (13_960_238_080, 204_800),
    "phi-4": (14_659_507_200, 204_800),
    "gemma-2b": (2_506_172_416, 18_432),
    "gemma-7b": (8_537_680_896, 458_752),
    "gemma-2-2b": (2_614_341_888, 106_496),
    "gemma-2-9b": (9_241_705_984, 344_064),
    "gemma-2-27b": (27_227_128_320, 376_832),
    "codellama-7b-python": (6_738_415_616, 524_288),
    "codellama-13b-python": (13_015_864_320, 819_200),
    "chinese-llama-7b": (6_885_486_592, 524_288),
    "chinese-alpaca-7b": (6_885_494_784, 524_288),
    "solar-10.7b": (10_731_524_096, 196_608),
    "falcon3-7b": (7_455_550_464, 114_688),
    "falcon3-10b": (10_305_653_760, 163_840),
    "mistral-small-3.1-24b": (23_572_403_200, 163_840),
    "ministral-8b": (8_019_808_256, 147_456),
    "deepseek-r1-distill-qwen-1.5b": (1_777_088_000, 28_672),
    "qwen3-4b-2507": (4_022_468_096, 147_456),
    "qwen3-30b-a3b-2507": (30_532_122_624, 98_304),
    "phi-3-mini-128k": (3_821_079_552, 393_216),
    "phi-3-medium-128k": (13_960_238_080, 204_800),
    "phi-3.5-mini": (3_821_079_552, 393_216),
    "phi-4-mini": (3_836_021_760, 131_072),
    "gemma-3-1b": (999_885_952, 26_624),
    "gemma-3-4b": (3_880_263_168, 139_264),
    "gemma-3-12b": (11_766_034_176, 393_216),
    "gemma-3-27b": (27_009_346_304, 507_904),
    "deepseek-coder-6.7b": (6_740_512_768, 524_288),
    "deepseek-coder-33b": (33_342_991_360, 253_952),
    "stories42m": (41_689_600, 16_384),
    "stories110m": (109_529_856, 36_864),
    "qwen1.5-7b": (7_721_324_544, 524_288),
    "olmo-2-1b": (1_484_916_736, 131_072),
    "olmo-2-7b": (7_298_617_344, 524_288),
    "olmo-2-13b": (13_716_198_400, 819_200),
    "olmo-2-32b": (32_234_279_936, 262_144),
    "smollm3-3b": (3_075_098_624, 73_728),
    "gpt-oss-20b": (20_914_757_184, 49_152),
    "gpt-oss-120b": (116_829_156_672, 73_728),
    "phi-2": (2_779_683_840, 327_680),
}
# What the files of four rows say; the classes of transformers answer for the readers (tests/families).
CONFIGS = {
    "olmo-2-7b": {
        "model_type": "olmo2", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 100_352, "rms_norm_eps": 1e-6,
        "rope_theta": 500_000, "max_position_embeddings": 4096, "tie_word_embeddings": False,
    },
    "smollm3-3b": {
        "model_type": "smollm3", "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 4, "intermediate_size": 11008, "vocab_size": 128_256, "rms_norm_eps": 1e-6,
        "rope_theta": 5e6, "max_position_embeddings": 65_536, "no_rope_layers": [1, 1, 1, 0] * 9,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201_088,
        "rms_norm_eps": 1e-5, "rope_theta": 150_000, "max_position_embeddings": 131_072, "num_local_experts": 32,
        "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": True, "tie_word_embeddings": False,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "rope_scaling": {
            "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": False,
        },
    },
    "phi-2": {
        "model_type": "phi", "hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "intermediate_size": 10_240, "vocab_size": 51_200, "layer_norm_eps": 1e-5,
        "rope_theta": 10_000.0, "partial_rotary_factor": 0.4, "max_position_embeddings": 2048,
        "hidden_act": "gelu_new", "tie_word_embeddings": False, "qk_layernorm": False,
    },
}  # fmt: skip


def test_every_preset_has_a_known_size() -> None:
    assert PRESETS.keys() == KNOWN.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_size(name: str) -> None:
    arch = PRESETS[name].arch
    assert (parameter_count(arch), kv_bytes_per_token(arch)) == KNOWN[name]


@pytest.mark.parametrize("name", KNOWN)
def test_every_row_has_a_title_and_a_source(name: str) -> None:
    assert PRESETS[name].title
    assert "/" in PRESETS[name].source or "arXiv" in PRESETS[name].source


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_is_what_its_config_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    assert PRESETS[name].arch == read_arch(tmp_path / "config.json")


def test_only_the_two_shapes_that_llama_2_has_use_grouped_queries() -> None:
    grouped = {name for name in ("7b", "13b", "34b", "70b") if PRESETS[name].arch.group_size > 1}
    assert grouped == {"34b", "70b"}


def test_a_preset_is_resolved_to_itself() -> None:
    for name, preset in PRESETS.items():
        assert resolve_model(name) == resolve_model(name.upper()) == (name, preset.arch)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("7B", "7b"), ("llama2-7b", "7b"), ("Llama-2-70b-chat-hf", "70b"), ("meta-llama/Llama-2-13b-hf", "13b"),
        ("huggyllama/llama-65b", "llama1-65b"), ("Llama-3.1-8B", "llama-3.1-8b"), ("llama3.1-8b", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3-70B-Instruct", "llama-3-70b"), ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b"),
        ("Llama-3.3-70B-Instruct", "llama-3.3-70b"), ("codellama/CodeLlama-7b-Instruct-hf", "codellama-7b"),
        ("codellama/CodeLlama-34b-hf", "34b"), ("mistral-7b-v0.1", "mistral-7b-v0.1"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"), ("Mistral-Nemo-Instruct-2407", "mistral-nemo-12b"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"), ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("Qwen3-8B-Base", "qwen3-8b"), ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini-4k"), ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("google/gemma-2b", "gemma-2b"), ("TinyLlama/TinyLlama_v1.1", "tinyllama-1.1b"),
        ("openlm-research/open_llama_3b_v2", "open-llama-3b"), ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b"),
        ("hfl/chinese-alpaca-2-13b", "chinese-llama-2-13b"), ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "smollm2-1.7b"),
        ("01-ai/Yi-34B-Chat", "yi-34b"), ("openlm-research/open_llama_3b", "open-llama-3b"),
        ("TheBloke/Llama-2-13B-GGUF", "13b"), ("llama3.1:8b", "llama-3.1-8b"), ("Qwen/Qwen2-7B-Instruct", "qwen2.5-7b"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b"), ("microsoft/Phi-3.5-mini-instruct", "phi-3.5-mini"),
        ("microsoft/Phi-3-mini-128k-instruct", "phi-3-mini-128k"), ("Phi-4-mini-instruct", "phi-4-mini"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama-3.1-8b"),
        ("HuggingFaceH4/zephyr-7b-beta", "mistral-7b-v0.1"),
        ("codellama/CodeLlama-7b-Python-hf", "codellama-7b-python"), ("codellama/CodeLlama-34b-Python-hf", "34b"),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "llama-3.2-1b"), ("google/gemma-3-1b-it", "gemma-3-1b"),
        ("allenai/OLMo-2-1124-7B-Instruct", "olmo-2-7b"), ("allenai/OLMo-2-0325-32B", "olmo-2-32b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"), ("HuggingFaceTB/SmolLM3-3B", "smollm3-3b"), ("phi-2", "phi-2"),
        ("llama3.2", "llama-3.2-3b"), ("mistral", "mistral-7b-v0.3"), ("gpt-oss:20b", "gpt-oss-20b"),
        ("mistralai/Codestral-22B-v0.1", "mistral-small-22b"), ("nvidia/Llama-3.3-70B-Instruct-FP4", "llama-3.3-70b"),
        ("deepseek-ai/deepseek-coder-6.7b-instruct", "deepseek-coder-6.7b"), ("Qwen/Qwen1.5-7B-Chat", "qwen1.5-7b"),
        ("google/gemma-1.1-7b-it", "gemma-7b"), ("FlagAlpha/Llama2-Chinese-7b-Chat", "7b"),
    ],
)  # fmt: skip
def test_a_preset_goes_by_the_names_that_people_write(written: str, name: str) -> None:
    assert resolve_model(written) == (name, PRESETS[name].arch)


def test_no_two_presets_or_aliases_are_the_same_name() -> None:
    names = [plain(name) for name in (*PRESETS, *ALIASES)]
    assert len(set(names)) == len(names)
    assert set(ALIASES.values()) <= PRESETS.keys()


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("llama-14b", "llama-3-70b|llama1-13b"), ("70bb", "70b"), ("OpenHermes-2.5-Mistral-7B", "mistral-7b-v0.1"),
        ("NousResearch/Hermes-2-Pro-Llama-3-8B", "llama-3-8b"), ("llama-2-7b-chat.Q4_K_M", "7b"),
    ],
)  # fmt: skip
def test_an_unknown_name_gets_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"got '{given}'; did you mean .*({nearest})"):
        resolve_model(given)


def test_a_path_is_read_and_not_looked_up() -> None:
    with pytest.raises(MissingError, match=r"there is no file nowhere/params\.json"):
        resolve_model("nowhere/params.json")
