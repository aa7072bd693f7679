"""Safetensors that lie, end early or lie askew; and our writer's files in the safetensors package."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llamalab.checkpoints.checkpoint import StoredTensor
from llamalab.checkpoints.safetensors_file import open_safetensors, stored_tensor, write_safetensors
from llamalab.errors import FormatError, MissingError

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"a": GOOD | {"data_offsets": [0, 2**62]}},
        {"a": GOOD | {"data_offsets": [8, 0]}},
        {"a": GOOD | {"data_offsets": [-8, 0]}},
        {"a": GOOD | {"shape": [3]}},
        {"a": GOOD | {"shape": [2**63, 2]}},
        {"a": GOOD | {"shape": [-2]}},
        {"a": GOOD | {"shape": [2.0]}},
        {"a": GOOD | {"dtype": "F31"}},
        {"a": GOOD | {"data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 3},
        {"a": GOOD, "b": GOOD},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        [1],
        b"{" * 100_000,
        b"{\xff}",
    ],
)
def test_a_header_that_contradicts_itself_or_the_file(tmp_path: Path, header: Any) -> None:
    with pytest.raises(FormatError, match="must be sound safetensors"):
        open_safetensors(write(tmp_path / "a.safetensors", header))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 9])
def test_a_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(FormatError, match="must be sound safetensors"):
        open_safetensors(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="must be readable"):
        open_safetensors(tmp_path / "none.safetensors")


def test_what_a_file_says_cannot_steer_a_terminal(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as raised:
        open_safetensors(write(tmp_path / "a.safetensors", {"a": GOOD | {"dtype": "\x1b[2J"}}))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_read_what_the_other_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.randn(3, 5).to(dtype), "odd": torch.randn(7).to(dtype)}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    entries = [stored_tensor(name, tuple(tensor.shape), dtype) for name, tensor in tensors.items()]
    save_file(tensors, theirs, {"made": "there"})
    stored, tensor = open_safetensors(theirs)
    assert stored == {entry.name: entry for entry in entries}
    torch.testing.assert_close({name: tensor(name) for name in stored}, tensors, rtol=0, atol=0)
    with ours.open("wb") as out:
        write_safetensors(out, entries, tensors.__getitem__)
    torch.testing.assert_close(load_file(ours), tensors, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [("BOOL", 6), ("U8", 6), ("I64", 48), ("F64", 48), ("C64", 48), ("F8_E4M3", 6), ("F8_E8M0", 6), ("BF16", 12)],
)
def test_kinds_that_are_no_weights_are_described_too(tmp_path: Path, dtype: str, nbytes: int) -> None:
    header = {"a": {"dtype": dtype, "shape": [3, 2], "data_offsets": [0, nbytes]}}
    stored, _ = open_safetensors(write(tmp_path / "a.safetensors", header, bytes(nbytes)))
    assert stored == {"a": StoredTensor("a", (3, 2), dtype, nbytes)}


def test_tensors_are_views_of_a_private_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4), "b": torch.ones(4)}, path)
    before = path.read_bytes()
    _, tensor = open_safetensors(path)
    assert tensor("b").data_ptr() - tensor("a").data_ptr() == 16
    tensor("a").fill_(7)
    assert tensor("a").tolist() == [7.0] * 4
    assert path.read_bytes() == before


def test_a_header_that_does_not_align_its_data(tmp_path: Path) -> None:
    header = json.dumps({"a": GOOD}).encode()
    for pad in range(8):
        path = write(tmp_path / f"{pad}.safetensors", header + b" " * pad, struct.pack("<2f", 1.5, -2))
        made = open_safetensors(path)[1]("a")
        assert made.tolist() == [1.5, -2.0]
        assert made.data_ptr() % 4 == 0


SCRIPT = """
import resource, sys
from pathlib import Path
from llamalab.checkpoints.safetensors_file import open_safetensors
from llamalab.errors import DoesNotFitError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30, -1))
stored, tensor = open_safetensors(Path(sys.argv[1]))
try:
    tensor("a")
except DoesNotFitError as error:
    print(stored["a"].nbytes, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is read and set as Linux does")
def test_a_file_that_cannot_be_mapped_is_still_described(tmp_path: Path) -> None:
    path, size = tmp_path / "a.safetensors", 2 * 2**30
    write(path, {"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}, b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{size} a file of weights must be mapped into memory; unable to mmap")
