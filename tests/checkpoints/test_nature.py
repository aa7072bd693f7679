import pickle
from pathlib import Path

import pytest

from llamalab.checkpoints import load
from llamalab.errors import FormatError, MissingError
from llamalab.text import tokenizer_of
from tests.checkpoints.samples import ARCH, write_config, write_params

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1040128\n"


def test_what_is_not_there() -> None:
    for open_it in (load, tokenizer_of):
        with pytest.raises(
            MissingError, match=r"there is (no|none at) meta-llama/Llama-2-7b-hf; .*nothing is downloaded"
        ):
            open_it("meta-llama/Llama-2-7b-hf")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "m.gguf", "consolidated.00.pth"])
def test_pointers_of_git_lfs(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, ARCH)
    write_params(tmp_path, ARCH)
    (tmp_path / name).write_bytes(POINTER)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(FormatError, match="is a Git LFS pointer, which stands for a file that was not fetched"):
            load(place)
    with pytest.raises(FormatError, match="Git LFS pointer"):
        tokenizer_of(tmp_path / name)


def test_a_pointer_for_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(POINTER)
    with pytest.raises(FormatError, match="Git LFS pointer"):
        tokenizer_of(tmp_path)


def test_one_shard_of_an_index_is_a_pointer(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
    (tmp_path / "x.safetensors").write_bytes(POINTER)
    with pytest.raises(FormatError, match=r"x\.safetensors.*Git LFS pointer"):
        load(tmp_path)


def test_files_that_are_seen(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder without files"):
        load(tmp_path)
    for index in range(8):
        (tmp_path / f"{index}.txt").touch()
    with pytest.raises(FormatError, match=r"it has 0\.txt, 1\.txt, .* and 2 more"):
        load(tmp_path)
    with pytest.raises(MissingError, match=r"has none, only 0\.txt, 1\.txt, .* and 2 more"):
        tokenizer_of(tmp_path)


def test_a_web_page(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("<!DOCTYPE html><html>")
    with pytest.raises(FormatError, match="a web page"):
        load(tmp_path / "m.gguf")


@pytest.mark.parametrize("magic", [b"lmgg", b"tjgg"])
def test_a_file_from_before_gguf(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "m.bin").write_bytes(magic + bytes(64))
    with pytest.raises(FormatError, match="a file of GGML from before GGUF"):
        load(tmp_path / "m.bin")


def test_an_old_pickle(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(FormatError, match=r"a pickle that torch\.save did not write"):
        load(tmp_path / "weights.pt")
