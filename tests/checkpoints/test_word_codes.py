"""GPTQ and AWQ folders: packed as their tools pack, read by value, and taken into the kernels by their codes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llamalab import build
from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.errors import FormatError
from llamalab.model.quantised.weights import quantised_layers

ARCH = LlamaArch(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=96, vocab_size=80)
TOKENS = torch.arange(12).view(2, 6)
GROUP = 32


def in_words(values_RC: Tensor, bits: int, order: tuple[int, ...]) -> Tensor:
    """Columns packed into words of 32 bits one code at a time; place i of a word has column order[i] of its own."""
    count = 32 // bits
    words = []
    for first in range(0, values_RC.shape[1], count):
        word_R = torch.zeros(len(values_RC), dtype=torch.int64)
        for place, column in enumerate(order):
            word_R |= values_RC[:, first + column].long() << (bits * place)
        words.append(torch.where(word_R >= 2**31, word_R - 2**32, word_R).int())
    return torch.stack(words, 1)


def pack(weight_OI: Tensor, method: str, bits: int, group_I: Tensor, version: str) -> tuple[dict[str, Tensor], Tensor]:
    """The parts of a matrix, and what they stand for."""
    noise, groups = torch.Generator().manual_seed(weight_OI.numel()), int(group_I.max()) + 1
    out, inner = weight_OI.shape
    scales_GO = (weight_OI.abs().amax() / 2 ** (bits - 1) * (0.5 + torch.rand(groups, out, generator=noise))).half()
    zeros_GO = torch.randint(1, 2**bits, (groups, out), generator=noise)
    codes_IO = torch.randint(0, 2**bits, (inner, out), generator=noise)
    meant_OI = (scales_GO.float()[group_I] * (codes_IO - zeros_GO[group_I])).T.contiguous()
    straight = tuple(range(32 // bits))
    if method == "awq":
        order = (0, 2, 4, 6, 1, 3, 5, 7)
        parts = {"qweight": in_words(codes_IO, bits, order), "qzeros": in_words(zeros_GO, bits, order)}
    else:
        stored_GO = zeros_GO if version == "gptq_v2" else zeros_GO - 1
        parts = {"qweight": in_words(codes_IO.T, bits, straight).T.contiguous(), "g_idx": group_I.int(),
                 "qzeros": in_words(stored_GO, bits, straight), "bias": torch.zeros(out).half()}  # fmt: skip
    return parts | {"scales": scales_GO}, meant_OI


def folder_of(path: Path, method: str, bits: int = 4, *, version: str = "", ordered: bool = True) -> dict[str, Tensor]:
    """A folder with all matrices but the head packed; the state dict that it means, in Hugging Face's names."""
    write_huggingface(path, weights_of(build(ARCH, dtype="fp32", seed=4)), dtype=None)
    state, meant = load_file(path / "model.safetensors"), {}
    for name in [name for name in state if "proj" in name]:
        inner = state[name].shape[1]
        group_I = torch.arange(inner) // GROUP
        if not ordered:
            group_I = group_I[torch.randperm(inner, generator=torch.Generator().manual_seed(1))]
        parts, meant[name] = pack(state.pop(name), method, bits, group_I, version)
        state |= {f"{name.removesuffix('weight')}{part}": tensor for part, tensor in parts.items()}
    save_file(state, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": bits, "group_size": GROUP}
    config["quantization_config"] |= {"checkpoint_format": version} if version else {}
    (path / "config.json").write_text(json.dumps(config))
    return meant | {name: tensor for name, tensor in state.items() if name.endswith("weight") and "qw" not in name}


def plain_of(path: Path, state: dict[str, Tensor]) -> Any:
    """The same values in a folder without codes."""
    write_huggingface(path, weights_of(build(ARCH, dtype="fp32", seed=4)), dtype=None)
    save_file(state, path / "model.safetensors")
    return load(path, dtype="fp32")


@pytest.mark.parametrize(
    ("method", "bits", "version"), [("gptq", 4, ""), ("gptq", 4, "gptq_v2"), ("gptq", 8, "gptq"), ("awq", 4, "gemm")]
)
def test_values_are_those_that_the_codes_mean(tmp_path: Path, method: str, bits: int, version: str) -> None:
    for name in ("packed", "plain"):
        (tmp_path / name).mkdir()
    meant = folder_of(tmp_path / "packed", method, bits, version=version)
    wide, expected = load(tmp_path / "packed", dtype="fp32"), plain_of(tmp_path / "plain", meant)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(wide.state_dict()[name], weight, rtol=1e-5, atol=1e-6)
    storage = "int4" if bits == 4 else "q8_0"
    kept = load(tmp_path / "packed", dtype="fp32", weight_dtype=storage)
    assert len(quantised_layers(kept)) == 7 * ARCH.n_layers + 1  # the head is coded anew
    assert {layer.group for layer in quantised_layers(kept)} <= {GROUP, 64}
    for name, weight in expected.state_dict().items():
        if "layers" in name:
            torch.testing.assert_close(kept.state_dict()[name], weight, rtol=1e-4, atol=1e-4)


def test_groups_of_inputs_in_another_order_are_widened_and_still_right(tmp_path: Path) -> None:
    for name in ("packed", "plain"):
        (tmp_path / name).mkdir()
    meant = folder_of(tmp_path / "packed", "gptq", ordered=False)
    wide, expected = load(tmp_path / "packed", dtype="fp32"), plain_of(tmp_path / "plain", meant)
    torch.testing.assert_close(wide(TOKENS), expected(TOKENS), rtol=1e-4, atol=1e-4)
    coded_anew = load(tmp_path / "packed", dtype="fp32", weight_dtype="int4")
    weight = coded_anew.state_dict()["layers.0.attention.wv.weight"]
    assert not torch.allclose(weight, expected.state_dict()["layers.0.attention.wv.weight"], atol=1e-3)


def test_what_is_not_known_or_not_whole_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, "gptq")
    state = load_file(tmp_path / "model.safetensors")
    cut = {name: tensor for name, tensor in state.items() if name != "model.layers.1.mlp.up_proj.scales"}
    save_file(cut, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"layers\.1\.mlp\.up_proj has no scales"):
        load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for said in ({"quant_method": "bitsandbytes"}, {"quant_method": "gptq", "bits": 3},
                 {"quant_method": "awq", "version": "gemv"}):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
        with pytest.raises(FormatError, match="must be of gptq in 4 or 8 bits, or of awq"):
            load(tmp_path)


def test_a_bias_that_adds_something_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, "gptq")
    state = load_file(tmp_path / "model.safetensors")
    state["model.layers.0.mlp.up_proj.bias"][3] = 1.0
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"up_proj\.bias"):
        load(tmp_path)
