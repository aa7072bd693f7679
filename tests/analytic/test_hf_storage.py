"""Storage of quantised Hugging Face configs, against transformers' own classes and what the layouts add up to."""

from typing import Any

import pytest

from llamalab.analytic.hf_storage import hf_storage
from llamalab.errors import UnavailableError
from llamalab.presets import PRESETS

ARCH = PRESETS["7b"].arch
KEPT = 2 * (2 * 32_000 * 4096 + 65 * 4096)  # embedding, head and norms in 16 bits
MATRICES = 32 * (4 * 4096**2 + 3 * 4096 * 11_008)
GROUP = {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}}}
FOUR = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}
EIGHT = {"num_bits": 8, "type": "float", "strategy": "tensor"}
BLOCKS = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
FLOATS = {"quant_method": "compressed-tensors", "format": "float-quantized"}
CHANNEL = {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}


def of(**said: Any) -> Any:
    return hf_storage({"quantization_config": said}, ARCH)


@pytest.mark.parametrize(
    ("said", "beside"),  # bytes beside the codes themselves, of all matrices
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, MATRICES // 128 * 2.5 + 32 * 4 * (6 * 4096 + 11_008)),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 32 * (3 * (4 * 4096 + 2 * 11_008 + 4096)
                                                                    + 4 * (6 * 4096 + 11_008))),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, MATRICES // 64 * 2.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 32 * 4 * (5 * 4096 + 2 * 11_008)),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": GROUP},
         MATRICES // 128 * 2 + 7 * 32 * 16),
        ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": CHANNEL},
         32 * 2 * (5 * 4096 + 2 * 11_008)),
        ({**FLOATS, "format": "nvfp4-pack-quantized", "config_groups": {"a": {"weights": FOUR}}},
         MATRICES // 16 + 7 * 32 * 4),
        ({**FLOATS, "format": "nvfp4-pack-quantized",
          "config_groups": {"a": {"weights": FOUR, "input_activations": {"dynamic": "local"}}}},
         MATRICES // 16 + 7 * 32 * 8),
        ({**FLOATS, "format": "mxfp4-pack-quantized",
          "config_groups": {"a": {"weights": {**FOUR, "group_size": 32, "strategy": "group"}}}}, MATRICES // 32),
        ({**FLOATS, "config_groups": {"a": {"weights": EIGHT, "input_activations": {"dynamic": True}}}}, 7 * 32 * 2),
        ({**FLOATS, "config_groups": {"a": {"weights": EIGHT, "input_activations": {"dynamic": False}}},
          "kv_cache_scheme": {"num_bits": 8}}, 7 * 32 * 4 + 32 * 4),
        ({**FLOATS, "config_groups": {"a": {"weights": BLOCKS}}}, MATRICES // 128**2 * 2),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, MATRICES // 128**2 * 4),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 7 * 32 * 4),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 7 * 32 * 8),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, 7 * 32 * 8 + 32 * 8),
    ],
)  # fmt: skip
def test_codes_scales_and_zeros(said: dict[str, Any], beside: float) -> None:
    group = next(iter(said["config_groups"].values()))["weights"] if "config_groups" in said else {}
    bits = said.get("bits") or group.get("num_bits") or 8
    assert of(**said).bytes == KEPT + MATRICES * bits // 8 + beside


def test_nf4_quantised_twice() -> None:
    """The QLoRA paper: constants cost 0.5 bits a value once, 0.127 bits quantised twice."""
    once, twice = (
        of(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double)
        for double in (False, True)
    )
    assert once.bits == pytest.approx(4.5, abs=1e-3)
    assert twice.bits == pytest.approx(4.127, abs=1e-3)


@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8"])
def test_fp8_as_transformers_allocates_it(method: str) -> None:
    import torch

    pytest.importorskip("transformers")
    from transformers.integrations.fbgemm_fp8 import FbgemmFp8Linear
    from transformers.integrations.finegrained_fp8 import FP8Linear

    def linear(out: int, inner: int) -> int:
        with torch.device("meta"):
            block = method == "fp8"
            made = FP8Linear(inner, out, block_size=(128, 128)) if block else FbgemmFp8Linear(inner, out, bias=False)
        return sum(one.numel() * one.element_size() for one in made.state_dict().values())

    layer = 4 * linear(4096, 4096) + 2 * linear(11_008, 4096) + linear(4096, 11_008)
    assert of(quant_method=method, **({"weight_block_size": [128, 128]} if method == "fp8" else {})).bytes == (
        KEPT + 32 * layer
    )


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["lm_head"], 0),
        (["model.layers.0"], 7),
        (["q_proj"], 32),
        (["re:.*mlp[.]gate_proj$"], 32),
        (["layers.3.mlp"], 3),
    ],
)
def test_what_is_left_out_stays_in_16_bits(names: list[str], kept: int) -> None:
    said = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": CHANNEL}
    more = of(**said, ignore=names).bytes - of(**said).bytes
    assert (more > 0) == (kept > 0)
    widest, narrowest = 4096 * 11_008, 4096 * 4096
    assert kept * (narrowest - 2 * 11_008) <= more <= kept * widest


@pytest.mark.parametrize(
    "said",
    [{"quant_method": "aqlm"}, {}, {"quant_method": "gptq", "bits": "4"}, {"quant_method": "gptq", "bits": 0},
     {"quant_method": "compressed-tensors"}, {"quant_method": "compressed-tensors", "config_groups": {"a": None}},
     {"quant_method": "modelopt", "quant_algo": "W4A8"}, {"quant_method": "fp8", "ignored_layers": ["layers"]},
     {"quant_method": "fp8", "weight_block_size": [0, "x"]}, {**FLOATS, "format": "marlin-24", "config_groups": GROUP},
     {**FLOATS, "sparsity_config": {"format": "sparse-24-bitmask"}, "config_groups": CHANNEL},
     {**FLOATS, "config_groups": {"a": {"weights": {**BLOCKS, "block_structure": "128x128"}}}}],
)  # fmt: skip
def test_what_is_not_known_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError):
        of(**said)


def test_nvfp4_of_modelopt_is_as_wide_as_that_of_compressed_tensors() -> None:
    ours, peer = {"weights": FOUR, "input_activations": {"dynamic": "local"}}, {"quant_algo": "NVFP4"}
    assert of(quant_method="modelopt", **peer).bytes == of(**FLOATS, config_groups={"a": ours}).bytes


@pytest.mark.parametrize("said", ["awq", [1], 4, True])
def test_what_is_no_object_is_refused(said: object) -> None:
    with pytest.raises(UnavailableError, match="must be an object"):
        hf_storage({"quantization_config": said}, ARCH)


def test_weights_that_are_kept_plain_have_no_storage_of_their_own() -> None:
    assert of(**FLOATS | {"format": "dense"}, config_groups=CHANNEL) is None


def test_a_plain_config_has_no_storage_of_its_own() -> None:
    assert hf_storage({"torch_dtype": "float16"}, ARCH) is None
