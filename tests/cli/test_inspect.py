import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.cli import main
from llamalab.cli.inspect import matching_preset
from llamalab.presets import PRESETS
from tests.checkpoints.samples import ARCH, random_model, write_config, write_gguf_sample
from tests.checkpoints.test_convert import make
from tests.checkpoints.test_fuzz import write_safetensors_sample


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", str(path), "--format", "json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


@pytest.mark.parametrize("form", ["hf", "meta", "gguf", "llama2c"])
def test_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    data = inspected(make(form, tmp_path / "model"), capsys)
    assert data["llama2_shaped"]
    assert data["architecture"]["n_kv_heads"] == 2
    assert data["preset"] is None
    norms = 5 * 24  # which each of Meta's two shards holds
    parameters = sum(weight.numel() for weight in random_model(ARCH).parameters())
    assert data["parameters"] == parameters + (norms if form == "meta" else 0)
    assert data["weight_bytes"] == 4 * data["parameters"]
    assert [row["dtype"] for row in data["dtypes"]] == ["F32"]
    assert main(["inspect", str(tmp_path / "model")]) == 0
    text = capsys.readouterr().out
    assert "Llama-2-shaped, with another vocab_size: dim 24, 2 layers, 6 heads, 2 KV heads (GQA-2)" in text
    assert "preset: none has these sizes" in text


@pytest.mark.shared
def test_the_real_checkpoint(shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = inspected(shared_real / "stories260K.bin", capsys)
    assert (data["preset"], data["differs_from_preset_in"], data["parameters"]) == ("stories260k", [], 260_032)
    assert any("tied" in remark for remark in data["unusual"])


def test_weights_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A sparse file of the size of 13B: reading it would take longer than a test may.
    from llamalab.checkpoints.checkpoint import StoredTensor, model_shapes
    from llamalab.checkpoints.layout import hf_name
    from llamalab.checkpoints.safetensors_file import header_bytes, stored_tensor

    arch = PRESETS["13b"].arch
    write_config(tmp_path, arch)
    entries: list[StoredTensor] = [
        stored_tensor(hf_name(name), shape, torch.bfloat16) for name, shape in model_shapes(arch).items()
    ]
    with (tmp_path / "model.safetensors").open("wb") as file:
        head = header_bytes(entries)
        file.write(head)
        file.truncate(len(head) + sum(entry.nbytes for entry in entries))
    data = inspected(tmp_path, capsys)
    assert (data["preset"], data["differs_from_preset_in"]) == ("13b", [])
    assert data["parameters"] == 13_015_864_320
    assert data["weight_bytes"] == 2 * 13_015_864_320


def test_a_sound_file_that_is_no_llama(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path, ARCH, model_type="gpt2")
    write_safetensors_sample(tmp_path / "model.safetensors", {"wte\x1b[2J": torch.ones(3, 2)})
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "no model that llamalab loads: " in out
    assert "model_type of config.json must be of the Llama family; 'gpt2' has LayerNorms" in out
    assert "1 tensor," in out
    assert "wte?[2J" in out
    assert "\x1b" not in out


def test_another_family_is_named_by_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "whole").mkdir()
    write_huggingface(tmp_path / "whole", weights_of(random_model(ARCH.replace(qk_norm=True))), dtype=None)
    assert main(["inspect", str(tmp_path / "whole")]) == 0
    assert "of the Llama family, with qk_norm: dim 24" in capsys.readouterr().out
    data = inspected(tmp_path / "whole", capsys)
    assert (data["llama2_shaped"], data["loads"]) == (False, True)


def test_a_model_of_the_calculators_alone_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path, ARCH, model_type="gemma", head_dim=4)
    write_safetensors_sample(tmp_path / "model.safetensors", {"x": torch.ones(3, 2)})
    assert "it has no norms that multiply by 1 + w" in inspected(tmp_path, capsys)["problem"]


def test_what_is_unusual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = ARCH.replace(tied_embeddings=True, rope_theta=1e6, norm_eps=1e-6)
    write_gguf_sample(tmp_path / "m.gguf", random_model(arch), {"attention.wo": "F16"})
    unusual = " ".join(inspected(tmp_path / "m.gguf", capsys)["unusual"])
    for part in ("tied", "rope_theta is 1e+06", "norm_eps is 1e-06", "no vocabulary"):
        assert part in unusual


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [(None, 3, "must exist"), (b"hello, I am text", 2, "must be of a format"), (b"GGUF\3\0\0\0", 2, "lie in its file")],
)
def test_what_cannot_be_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, code: int, message: str
) -> None:
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    assert main(["inspect", str(path)]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_matches_itself(name: str) -> None:
    found, differing = matching_preset(PRESETS[name].arch)
    assert differing == ()
    assert found is not None
    assert PRESETS[found].arch == PRESETS[name].arch


def test_a_preset_with_other_settings() -> None:
    assert matching_preset(PRESETS["7b"].arch.replace(vocab_size=55_297)) == ("7b", ("vocab_size",))
    assert matching_preset(ARCH) == (None, ())
