"""GGUF files in parts, written by the gguf package's own writer."""

from pathlib import Path

import gguf
import pytest
import torch
from torch import Tensor

from llamalab.checkpoints import read, survey
from llamalab.checkpoints.layout import gguf_name
from llamalab.errors import FormatError
from llamalab.model.rope_scaling import frequencies
from tests.checkpoints.samples import ARCH, random_model

MODEL = random_model(ARCH)
NONE: dict[str, int] = {}
TENSORS = {gguf_name(name): weight for name, weight in MODEL.state_dict().items()}


def write_part(path: Path, tensors: dict[str, Tensor], number: int, count: int, changes: dict[str, int] = NONE) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    if number == 0:
        writer.add_context_length(ARCH.max_positions)
        writer.add_embedding_length(ARCH.dim)
        writer.add_block_count(ARCH.n_layers)
        writer.add_feed_forward_length(ARCH.ffn_dim)
        writer.add_head_count(ARCH.n_heads)
        writer.add_head_count_kv(ARCH.n_kv_heads)
        writer.add_layer_norm_rms_eps(ARCH.norm_eps)
    writer.add_uint16("split.no", changes.get("number", number))
    writer.add_uint16("split.count", changes.get("count", count))
    writer.add_int32("split.tensors.count", changes.get("total", len(TENSORS)))
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def parts(folder: Path, count: int = 3, changes: dict[str, int] = NONE) -> list[Path]:
    """The model in so many files; `changes` are of the header of the last."""
    names, made = list(TENSORS), []
    for number in range(count):
        path = folder / f"m-{number + 1:05}-of-{count:05}.gguf"
        mine = {name: TENSORS[name] for name in names[number::count]}
        write_part(path, mine, number, count, changes if number == count - 1 else NONE)
        made.append(path)
    return made


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_parts_are_read_by_the_first(tmp_path: Path, count: int) -> None:
    first = parts(tmp_path, count)[0]
    arch, state = read(first)
    assert arch == ARCH
    torch.testing.assert_close(state, dict(MODEL.state_dict()), rtol=0, atol=0)
    assert len(survey(first).stored) == len(TENSORS)


def test_parts_that_are_not_whole(tmp_path: Path) -> None:
    paths = parts(tmp_path)
    with pytest.raises(FormatError, match=r"by its first, m-00001-of-00003\.gguf; got m-00002"):
        survey(paths[1])
    paths[2].rename(tmp_path / "away")
    with pytest.raises(FormatError, match=r"there is no m-00003-of-00003\.gguf"):
        survey(paths[0])
    (tmp_path / "other.gguf").write_bytes(paths[0].read_bytes())
    with pytest.raises(FormatError, match=r"it is called other\.gguf"):
        survey(tmp_path / "other.gguf")


@pytest.mark.parametrize(("changes", "message"), [({"number": 1}, "part 2 of 3"), ({"count": 4}, "part 2 of 3")])
def test_parts_of_another_model(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        survey(parts(tmp_path, changes=changes)[0])


def test_tensors_twice_or_too_few(tmp_path: Path) -> None:
    first, second = parts(tmp_path, 2)
    write_part(second, TENSORS, 1, 2)
    with pytest.raises(FormatError, match="one is in two"):
        survey(first)
    write_part(second, {}, 1, 2)
    with pytest.raises(FormatError, match="must hold its 21 tensors; they hold 11"):
        survey(first)


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.0, 8.0)])
def test_factors_of_frequencies(tmp_path: Path, factors: tuple[float, float]) -> None:
    path = tmp_path / "m-00001-of-00001.gguf"
    write_part(path, TENSORS | {"rope_freqs.weight": torch.tensor(factors)}, 0, 1)
    arch, state = read(path)
    torch.testing.assert_close(state, dict(MODEL.state_dict()), rtol=0, atol=0)
    assert (arch.rope_scaling is None) == (factors == (1.0, 1.0))
    plain = frequencies(ARCH, torch.arange(1.0))
    torch.testing.assert_close(frequencies(arch, torch.arange(1.0)) * torch.tensor(factors), plain)


def test_factors_of_another_head(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00001.gguf"
    write_part(path, TENSORS | {"rope_freqs.weight": torch.tensor([1.0, 2.0, 8.0])}, 0, 1)
    with pytest.raises(FormatError, match="Llama"):
        read(path)
