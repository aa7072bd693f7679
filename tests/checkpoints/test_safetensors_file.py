"""Headers of safetensors that lie, and the same files in the safetensors package, which nobody here wrote."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from llamalab.checkpoints.safetensors_file import stored_as as described
from llamalab.errors import FormatError

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.reference
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": GOOD | {"data_offsets": [0, 2**62]}}, "must be sizes"),
        ({"a": GOOD | {"data_offsets": [8, 0]}}, "span of 'a'"),
        ({"a": GOOD | {"data_offsets": [-8, 0]}}, "must be sizes"),
        ({"a": GOOD | {"shape": [3]}}, "span of 'a' must be the 12 bytes"),
        ({"a": GOOD | {"shape": [2**63, 2]}}, "must be sizes"),
        ({"a": GOOD | {"shape": [-2]}}, "must be sizes"),
        ({"a": GOOD | {"shape": [2.0]}}, "must be sizes"),
        ({"a": GOOD | {"dtype": "F31"}}, "dtype, shape and data_offsets"),
        ({"a": GOOD | {"data_offsets": [0]}}, "dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "dtype, shape and data_offsets"),
        ({"a": 3}, "dtype, shape and data_offsets"),
        ({"a": GOOD, "b": GOOD}, "without gap or overlap"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "without gap or overlap"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "must end where its last tensor ends"),
        ([1], "JSON object; got list"),
        (b"{" * 100_000, "sound JSON"),
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b"{\xff}", "sound JSON"),
    ],
)
def test_what_the_package_refuses_is_refused(tmp_path: Path, header: Any, message: str) -> None:
    from safetensors import SafetensorError, safe_open

    path = write(tmp_path / "a.safetensors", header)
    with pytest.raises(FormatError, match=message):
        SafetensorsFile(path)
    with pytest.raises((SafetensorError, OSError)), safe_open(path, "pt") as file:
        file.keys()


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 9])
def test_a_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(FormatError, match="must lie in its file"):
        SafetensorsFile(path)


@pytest.mark.reference
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_read_what_the_other_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {"a": torch.randn(3, 5).to(dtype), "odd": torch.randn(7).to(dtype)}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    save_file(tensors, theirs, {"made": "there"})
    file = SafetensorsFile(theirs)
    torch.testing.assert_close({name: file.tensor(name) for name in tensors}, tensors, rtol=0, atol=0)
    assert file.metadata == {"made": "there"}
    entries = [described(name, tuple(tensor.shape), dtype) for name, tensor in tensors.items()]
    with ours.open("wb") as out:
        write_safetensors(out, entries, tensors.__getitem__)
    torch.testing.assert_close(load_file(ours), tensors, rtol=0, atol=0)


def test_a_header_that_does_not_align_its_data(tmp_path: Path) -> None:
    header = json.dumps({"a": GOOD}).encode()
    for pad in range(8):
        path = write(tmp_path / f"{pad}.safetensors", header + b" " * pad, struct.pack("<2f", 1.5, -2))
        assert SafetensorsFile(path).tensor("a").tolist() == [1.5, -2.0]
