"""Meta's folders: shards split here by hand, along fairscale's axes."""

import json
from pathlib import Path

import pytest
import torch

from llamalab.arch.meta_params import from_meta_params
from llamalab.checkpoints import load, read, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.meta import params_json, write_meta
from llamalab.errors import FormatError, InputError
from llamalab.presets import PRESETS
from tests.checkpoints.samples import ARCH, TIED, random_model, write_params, write_shards


@pytest.mark.parametrize("shards", [1, 2])
def test_shards_are_merged_along_their_axes(tmp_path: Path, shards: int) -> None:
    state = random_model(ARCH, torch.bfloat16).state_dict()
    write_params(tmp_path, ARCH)
    write_shards(tmp_path, state, shards)
    arch, loaded = read(tmp_path)
    assert arch == ARCH.replace(max_positions=4096)
    torch.testing.assert_close(loaded, dict(state), rtol=0, atol=0)


def test_eight_shards_as_the_largest_model_has(tmp_path: Path) -> None:
    arch = ARCH.replace(dim=96, n_heads=24, n_kv_heads=8, ffn_dim=40, vocab_size=56)
    state = random_model(arch).state_dict()
    write_params(tmp_path, arch)
    write_shards(tmp_path, state, 8)
    torch.testing.assert_close(read(tmp_path)[1], dict(state), rtol=0, atol=0)
    assert "8 shards" in survey(tmp_path).kind


def test_logits_of_a_merged_model(tmp_path: Path) -> None:
    model = random_model(ARCH)
    write_params(tmp_path, ARCH)
    write_shards(tmp_path, model.state_dict(), 2)
    tokens_BT = torch.tensor([[1, 2, 37, 5], [3, 3, 3, 3]])
    torch.testing.assert_close(load(tmp_path)(tokens_BT), model(tokens_BT), rtol=0, atol=0)


def test_a_given_vocabulary_must_agree(tmp_path: Path) -> None:
    write_params(tmp_path, ARCH, vocab_size=32_000)
    write_shards(tmp_path, random_model(ARCH).state_dict(), 1)
    with pytest.raises(FormatError, match=r"tok_embeddings\.weight must have the shape 32,000 × 24 .* got 38 × 24"):
        load(tmp_path)


@pytest.mark.parametrize("shards", [1, 2])
def test_what_is_written_is_what_the_description_says(tmp_path: Path, shards: int) -> None:
    model = random_model(ARCH, torch.bfloat16)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    write_meta(ours, weights_of(model), dtype=None, shards=shards)
    write_shards(theirs, model.state_dict(), shards)
    for rank in range(shards):
        name = f"consolidated.{rank:02d}.pth"
        expected = torch.load(theirs / name, weights_only=True)
        del expected["rope.freqs"]
        torch.testing.assert_close(torch.load(ours / name, weights_only=True), expected, rtol=0, atol=0)


def test_a_tied_model_gets_a_head(tmp_path: Path) -> None:
    model = random_model(TIED)
    write_meta(tmp_path, weights_of(model), dtype=None, shards=1)
    tokens_BT = torch.tensor([[4, 5, 6]])
    torch.testing.assert_close(load(tmp_path)(tokens_BT), model(tokens_BT))


_SAYABLE = {"rope_scaling", "fused_on_disk"}
_SAID = {
    name
    for name, preset in PRESETS.items()
    if set(preset.arch.beyond_llama_2) <= _SAYABLE
    and (preset.arch.rope_scaling is None or preset.arch.rope_scaling.kind == "llama3")
}


@pytest.mark.parametrize("name", sorted(_SAID))
def test_params_of_every_preset_come_back(name: str) -> None:
    arch = PRESETS[name].arch
    again = from_meta_params(json.loads(json.dumps(params_json(arch))))
    assert again == arch.replace(tied_embeddings=False, fused_on_disk=False, max_positions=again.max_positions)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - _SAID))
def test_params_say_all_or_nothing(name: str) -> None:
    with pytest.raises(InputError, match="it has no word for "):
        params_json(PRESETS[name].arch)


@pytest.mark.parametrize("ffn_dim", [1, 7, 63, 64, 65, 171, 172, 500])
def test_params_of_any_width_come_back(ffn_dim: int) -> None:
    assert from_meta_params(params_json(ARCH.replace(ffn_dim=ffn_dim))).ffn_dim == ffn_dim


@pytest.mark.parametrize(("shards", "message"), [(0, "1 to 64; got 0"), (4, "divide n_heads=6; got 4"), (6, "n_kv")])
def test_shards_that_divide_nothing(tmp_path: Path, shards: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_meta(tmp_path, weights_of(random_model(ARCH)), dtype=None, shards=shards)


def test_a_missing_shard(tmp_path: Path) -> None:
    write_params(tmp_path, ARCH)
    write_shards(tmp_path, random_model(ARCH).state_dict(), 2)
    (tmp_path / "consolidated.00.pth").unlink()
    with pytest.raises(FormatError, match=r"numbered from 00 on without a gap; got \[1\]"):
        load(tmp_path)
    (tmp_path / "consolidated.01.pth").rename(tmp_path / "consolidated.00.pth")
    with pytest.raises(FormatError, match="must have all its 2 shards; it has 1"):
        load(tmp_path)


def test_tensors_too_many_and_too_few(tmp_path: Path) -> None:
    state = dict(random_model(ARCH).state_dict())
    write_params(tmp_path, ARCH)
    write_shards(tmp_path, state | {"layers.0.attention.wq.bias": torch.ones(24)}, 1)
    with pytest.raises(FormatError, match=r"nothing else; 1 tensors .* layers\.0\.attention\.wq\.bias"):
        load(tmp_path)
    del state["layers.1.ffn_norm.weight"]
    write_shards(tmp_path, state, 1)
    with pytest.raises(FormatError, match=r"must hold layers\.1\.ffn_norm\.weight"):
        load(tmp_path)


def test_shards_that_differ(tmp_path: Path) -> None:
    state = dict(random_model(ARCH).state_dict())
    write_params(tmp_path, ARCH)
    write_shards(tmp_path, state, 2)
    path = tmp_path / "consolidated.01.pth"
    shard = torch.load(path, weights_only=True)
    torch.save(shard | {"norm.weight": shard["norm.weight"].half()}, path)
    with pytest.raises(FormatError, match=r"differ at norm\.weight"):
        load(tmp_path)


def test_one_shard_without_a_number_and_with_wrappers(tmp_path: Path) -> None:
    model = random_model(ARCH)
    write_params(tmp_path, ARCH)
    state = {f"_fsdp_wrapped_module._fpw_module.{name}": weight for name, weight in model.state_dict().items()}
    torch.save(state, tmp_path / "consolidated.pth", _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read(tmp_path)[1], dict(model.state_dict()), rtol=0, atol=0)
    torch.save(state | {"norm.weight": torch.ones(24)}, tmp_path / "consolidated.pth")
    with pytest.raises(FormatError, match="stored under one name"):
        read(tmp_path)
    (tmp_path / "consolidated.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(FormatError, match="Git LFS pointer"):
        read(tmp_path)
