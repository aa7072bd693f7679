"""Which files of a folder are read: compared with the files that transformers reads from the same folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llamalab.checkpoints import load, survey
from llamalab.errors import FormatError
from tests.checkpoints.samples import ARCH, TIED, random_model, write_config
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.checkpoints.test_huggingface import hf_named

TOKENS_BT = torch.tensor([[1, 2, 37, 5, 9]])
RIGHT, WRONG = random_model(ARCH, seed=1), random_model(ARCH, seed=2)


def state(model: torch.nn.Module = RIGHT) -> dict[str, Tensor]:
    return hf_named(model, ARCH)


def sharded(folder: Path, tensors: dict[str, Tensor], index: str, names: str) -> None:
    """Two files and their index."""
    items, weight_map = list(tensors.items()), {}
    for number, part in ((1, dict(items[:9])), (2, dict(items[9:]))):
        name = names.format(number)
        weight_map |= dict.fromkeys(part, name)
        if name.endswith(".bin"):
            torch.save(part, folder / name)
        else:
            write_safetensors_sample(folder / name, part)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def whole(folder: Path, name: str, model: torch.nn.Module) -> None:
    if name.endswith(".bin"):
        torch.save(state(model), folder / name)
    else:
        write_safetensors_sample(folder / name, state(model))


def right(folder: Path) -> bool:
    with torch.no_grad():
        return torch.equal(load(folder)(TOKENS_BT), RIGHT(TOKENS_BT))


def transformers_reads_the_same(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    reference = LlamaForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(TOKENS_BT), reference(TOKENS_BT).logits, rtol=1e-4, atol=2e-5)


@pytest.mark.reference
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_order_of_the_four_names(tmp_path: Path, count: int) -> None:
    write_config(tmp_path, ARCH)
    makers = (
        lambda model: sharded(
            tmp_path, state(model), "pytorch_model.bin.index.json", "pytorch_model-{:05}-of-00002.bin"
        ),
        lambda model: whole(tmp_path, "pytorch_model.bin", model),
        lambda model: sharded(
            tmp_path, state(model), "model.safetensors.index.json", "model-{:05}-of-00002.safetensors"
        ),
        lambda model: whole(tmp_path, "model.safetensors", model),
    )
    for place, make in enumerate(makers[:count], 1):
        make(RIGHT if place == count else WRONG)
    assert right(tmp_path)
    transformers_reads_the_same(tmp_path)


@pytest.mark.reference
def test_files_beside_the_weights_do_not_confuse(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    whole(tmp_path, "pytorch_model.bin", RIGHT)
    for name in (
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "adapter_model.safetensors",
        "extra.safetensors",
    ):
        whole(tmp_path, name, WRONG)
    for name in ("training_args.bin", "optimizer.bin", "scheduler.bin"):
        (tmp_path / name).write_bytes(b"no tensors")
    assert right(tmp_path)
    transformers_reads_the_same(tmp_path)


@pytest.mark.reference
def test_a_file_named_by_the_config(tmp_path: Path) -> None:
    whole_name = "other.safetensors"
    write_config(tmp_path, ARCH, transformers_weights=whole_name)
    whole(tmp_path, "model.safetensors", WRONG)
    whole(tmp_path, whole_name, RIGHT)
    assert right(tmp_path)
    transformers_reads_the_same(tmp_path)
    write_config(tmp_path, ARCH, transformers_weights="../x.safetensors")
    with pytest.raises(FormatError, match="a file of its own folder"):
        load(tmp_path)


@pytest.mark.parametrize("parts", [False, True])
def test_one_variant_alone_is_taken(tmp_path: Path, parts: bool) -> None:
    write_config(tmp_path, ARCH)
    if parts:
        sharded(tmp_path, state(), "model.safetensors.index.fp16.json", "model.fp16-{:05}-of-00002.safetensors")
    else:
        whole(tmp_path, "model.fp16.safetensors", RIGHT)
    assert right(tmp_path)
    assert "variant fp16" in survey(tmp_path).remarks[0]
    whole(tmp_path, "model.bf16.safetensors", RIGHT)
    with pytest.raises(FormatError, match="one variant; it has bf16, fp16"):
        load(tmp_path)


def test_other_names_are_taken_with_a_remark(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    whole(tmp_path, "consolidated.safetensors", RIGHT)
    assert right(tmp_path)
    assert "consolidated.safetensors" in survey(tmp_path).remarks[0]
    whole(tmp_path, "consolidated.safetensors", WRONG)
    sharded(tmp_path, state(), "model.safetensors.index.json", "model-{:05}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert right(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match="must have all its shards; of 2 it has 1"):
        load(tmp_path)


def test_an_index_decides_between_two_files(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    sharded(tmp_path, state(), "model.safetensors.index.json", "model-{:05}-of-00002.safetensors")
    extra = {name: torch.zeros_like(tensor) for name, tensor in list(state().items())[:2]}
    second = tmp_path / "model-00002-of-00002.safetensors"
    write_safetensors_sample(second, dict(list(state().items())[9:]) | extra)
    assert right(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<html>", "a web page"),
        (b"rubbish" * 9, "begins with the bytes"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "other.safetensors"])
def test_the_real_cause_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_config(tmp_path, ARCH)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message if name != "other.safetensors" else "must hold weights"):
        load(tmp_path)


WRAPPED = {
    "distributed": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "fairscale": lambda name: f"_fsdp_wrapped_module._fpw_module.{name}",
    "checkpointed": lambda name: name.replace(".mlp.", ".mlp._checkpoint_wrapped_module."),
    "layers": lambda name: name.replace("model.layers.1.", "model.layers.1._fsdp_wrapped_module."),
    "peft": lambda name: f"base_model.model.{name}",
    "adapted": lambda name: f"base_model.model.{name.replace('q_proj.', 'q_proj.base_layer.')}",
    "bare": lambda name: name.removeprefix("model."),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_names_with_wrappers(tmp_path: Path, kind: str) -> None:
    write_config(tmp_path, ARCH)
    write_safetensors_sample(tmp_path / "model.safetensors", {WRAPPED[kind](n): t for n, t in state().items()})
    assert right(tmp_path)


def test_wrapped_and_plain_at_once(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    both = state() | {"module.lm_head.weight": torch.ones(38, 24)}
    write_safetensors_sample(tmp_path / "model.safetensors", both)
    with pytest.raises(FormatError, match="stored under one name"):
        load(tmp_path)


@pytest.mark.reference
def test_a_tied_model_with_its_head_alone(tmp_path: Path) -> None:
    write_config(tmp_path, TIED)
    tensors = state()
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    write_safetensors_sample(tmp_path / "model.safetensors", tensors)
    assert load(tmp_path).arch.tied_embeddings
    transformers_reads_the_same(tmp_path)


@pytest.mark.reference
def test_the_head_of_another_task_is_not_read(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    write_safetensors_sample(tmp_path / "model.safetensors", state() | {"v_head.summary.weight": torch.ones(1, 24)})
    assert right(tmp_path)
    assert "v_head.summary.weight" in survey(tmp_path).remarks[0]


def test_strided_tensors_of_an_old_pickle(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    turned = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in state().items()}
    for zipped in (True, False):
        torch.save(turned, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert right(tmp_path)
        shutil.rmtree(tmp_path)
        write_config(tmp_path, ARCH)


def test_double_precision_is_read_as_fp32(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    double = {name: tensor.double() for name, tensor in state().items()}
    write_safetensors_sample(tmp_path / "model.safetensors", double)
    assert right(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(double, tmp_path / "pytorch_model.bin")
    assert right(tmp_path)
    assert {weight.dtype for weight in load(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.bias", "lm_head.bias", "model.layers.0.extra.weight"]
)
def test_tensors_that_would_change_the_model_are_refused(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, ARCH)
    write_safetensors_sample(tmp_path / "model.safetensors", state() | {name: torch.ones(24)})
    with pytest.raises(FormatError, match="nothing else; 1 tensors"):
        load(tmp_path)
