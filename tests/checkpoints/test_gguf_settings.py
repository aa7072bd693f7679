"""Every llama. key: used, without effect, or refused by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints.gguf_settings import Tensors, arch_of
from llamalab.errors import FormatError
from tests.checkpoints.samples import ARCH, random_model, write_gguf_sample

PLAIN: dict[str, Any] = {
    "general.architecture": b"llama", "llama.embedding_length": 24, "llama.block_count": 2,
    "llama.attention.head_count": 6, "llama.attention.head_count_kv": 2, "llama.feed_forward_length": 20,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.context_length": 11,
}  # fmt: skip
EQUAL = np.array([6, 6], np.uint32)


TENSORS = Tensors(38, {"output.weight"}, {})


def arch(**changes: Any) -> LlamaArch:
    return arch_of(PLAIN | {f"llama.{key.replace('__', '.')}": value for key, value in changes.items()}, TENSORS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vocab_size": 7},
        {"rope__scaling__type": b"none", "rope__scaling__factor": 4.0},
        {"rope__scaling__type": b"linear"},
        {"rope__scaling__type": b"linear", "rope__scaling__factor": 1.0},
        {"rope__scaling__factor": 1.0, "rope__scale_linear": 4.0},  # the older key is not looked at then
        {"rope__scaling__type": b"yarn", "rope__scaling__factor": 1.0, "rope__scaling__original_context_length": 11},
        {"rope__scaling__finetuned": True},
        {"rope__scaling__attn_factor": 1.0},
        {"rope__dimension_count": 4, "attention__key_length": 4, "attention__value_length": 4},
        {"attention__causal": True},
        {"attention__scale": 0.5},
        {"attention__sliding_window": 11},
        {
            "attention__head_count": EQUAL,
            "attention__head_count_kv": EQUAL // 3,
            "feed_forward_length": EQUAL // 6 * 20,
        },
        {"expert_count": 0, "expert_used_count": 0},
        {"tensor_data_layout": b"Meta AI original pth"},
        {"use_parallel_residual": False},
        {"logit_scale": 1.0, "final_logit_softcapping": 0.0},
    ],
)
def test_settings_that_change_nothing(changes: dict[str, Any]) -> None:
    assert arch(**changes) == ARCH


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope__scaling__type", b"longrope"),
        ("rope__scaling__attn_factor", 1.2),
        ("rope__scaling__yarn_attn_factor", 0.5),
        ("rope__scaling__yarn_ext_factor", 1.0),
        ("rope__dimension_count", 2),
        ("rope__dimension_sections", EQUAL),
        ("attention__causal", False),
        ("attention__causal", 1),
        ("attention__scale", 0.1),
        ("attention__key_length", 8),
        ("attention__value_length", 8),
        ("attention__sliding_window", 4),
        ("attention__clamp_kqv", 8.0),
        ("attention__max_alibi_bias", 8.0),
        ("attention__head_count", np.array([6, 3], np.uint32)),
        ("attention__head_count_kv", np.array([2, 2, 2], np.uint32)),
        ("feed_forward_length", np.array([20, 24], np.uint32)),
        ("expert_count", 8),
        ("use_parallel_residual", True),
        ("tensor_data_layout", b"another"),
        ("logit_scale", 0.5),
        ("residual_scale", 0.22),
        ("embedding_scale", 12.0),
        ("attn_logit_softcapping", 50.0),
        ("embedding_length_out", 48),
        ("a_setting_of_tomorrow", 1),
        ("attention__layer_norm_rms_epsilon", b"x"),
    ],
)
def test_settings_that_change_something_are_named(key: str, value: Any) -> None:
    with pytest.raises((FormatError, TypeError, ValueError)) as caught:
        arch(**{key: value})
    if key != "attention__layer_norm_rms_epsilon":
        assert f"llama.{key.replace('__', '.')}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("general.type", b"adapter"), ("general.type", b"mmproj"), ("general.architecture", b"mamba")]
)
def test_files_of_another_kind(key: str, value: bytes) -> None:
    with pytest.raises(FormatError, match=key):
        arch_of(PLAIN | {key: value}, TENSORS)


def test_a_file_with_settings_of_every_sort(tmp_path: Path) -> None:
    from llamalab.checkpoints import read

    path, model = tmp_path / "model.gguf", random_model(ARCH)
    lists: dict[str, Any] = {"llama__attention__causal": True, "llama__rope__scaling__factor": 1.0}
    write_gguf_sample(path, model, **lists)
    torch.testing.assert_close(read(path)[1], dict(model.state_dict()), rtol=0, atol=0)
    write_gguf_sample(path, model, llama__rope__scaling__attn_factor=4.0)
    with pytest.raises(FormatError, match=r"llama\.rope\.scaling\.attn_factor must be 1 .* got 4\.0"):
        read(path)
