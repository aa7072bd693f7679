"""llama2.c checkpoints, read and written: fp32 weights, or int8 in groups.

llama2c_layout describes the bytes of a file. No tensor is made before header and size of the file agree.
"""

import mmap
import os
from pathlib import Path

import torch

from llamalab.arch import ON_DISK, LlamaArch
from llamalab.checkpoints.checkpoint import StoredTensor, Survey, Weights, weights_of
from llamalab.checkpoints.llama2c_layout import (
    LLAMA2C_MAGIC,
    NORM_EPS,
    ROPE_TABLES,
    ROPE_THETA,
    Llama2cHeader,
    Slot,
    check_group_sizes,
    file_bytes,
    llama2c_header_bytes,
    read_llama2c_header,
    slots,
)
from llamalab.checkpoints.pages import drop_pages, settled
from llamalab.errors import FormatError, InputError
from llamalab.files.mapped import map_file
from llamalab.files.outputs import replacing
from llamalab.model import Transformer
from llamalab.model.rope import rotations

KIND = "llama2.c v0, v1 or v2"

_REMARKS = ("norm_eps and rope_theta are not stored: those of Llama 2 are assumed",)


def recognises(path: Path) -> bool:
    """Whether a file's first bytes can be a llama2.c header: v0 has no magic, only plausible sizes."""
    if not path.is_file() or not path.stat().st_size:
        return False
    data = map_file(path, "checkpoint")
    if data[: len(LLAMA2C_MAGIC)] == LLAMA2C_MAGIC:
        return True
    try:
        read_llama2c_header(data)
    except InputError:
        return False
    return True


def survey(path: Path) -> Survey:
    """Architecture and tensors from the header. Raises InputError where header and size disagree, before allocation."""
    data = map_file(path, "checkpoint")
    header = read_llama2c_header(data)
    check_group_sizes(header)
    expected = file_bytes(header)
    if len(data) != expected:
        what = "is cut short" if len(data) < expected else "has bytes left over"
        raise FormatError(
            f"a llama2.c v{header.version} file with the sizes of this header must be {expected:,} bytes; "
            f"it has {len(data):,} and {what}"
        )
    places = {slot.name: slot for slot in slots(header) if slot.name != ROPE_TABLES}
    stored = tuple(
        StoredTensor(
            slot.name, slot.shape, f"int8 in groups of {slot.group_size}" if slot.group_size else "F32", slot.nbytes
        )
        for slot in places.values()
    )

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> torch.Tensor:
        return _fetched(data, places[name], dtype, device)

    weights = Weights(header.arch, fetch, lambda _: torch.float32, torch.float32)
    return Survey(f"llama2.c v{header.version}", stored, lambda: weights, _REMARKS)


def write_llama2c(path: str | os.PathLike[str], model: Transformer, *, version: int = 0) -> None:
    """Write a model as fp32 in version 0, which llama2.c's run reads, or version 1.

    Raises InputError for another version, or for an architecture that the format cannot express.
    """
    write_weights(path, weights_of(model), version=version)


def write_weights(path: str | os.PathLike[str], weights: Weights, *, version: int = 0) -> None:
    """write_llama2c for any source of weights, one in memory at a time."""
    arch = weights.arch
    if version not in (0, 1):
        raise InputError(f"the version of a llama2.c file to write must be 0 or 1; got {version}")
    if (arch.norm_eps, arch.rope_theta) != (NORM_EPS, ROPE_THETA):
        raise InputError(
            f"a model for a llama2.c file must have norm_eps {NORM_EPS} and rope_theta {ROPE_THETA:.0f}, which it "
            f"does not store; got {arch.norm_eps} and {arch.rope_theta}"
        )
    beyond = set(arch.beyond_llama_2) - set(ON_DISK)
    if beyond:
        raise InputError(f"a llama2.c file must be of a Llama 2 to be written; it has no {', '.join(sorted(beyond))}")
    header = Llama2cHeader(version, arch)
    with replacing(path) as file:
        file.write(llama2c_header_bytes(header))
        for slot in slots(header):
            tables = slot.name == ROPE_TABLES
            tensor = _rope_tables(arch) if tables else weights.fetch(slot.name, dtype=torch.float32)
            file.write(tensor.detach().cpu().contiguous().numpy().data)


def _rope_tables(arch: LlamaArch) -> torch.Tensor:
    """cos, then sin, of every position and pair, as v0 stores them."""
    turn_TP = rotations(0, arch.max_positions, arch, torch.device("cpu"))
    return torch.stack((turn_TP.real, turn_TP.imag))


def _fetched(data: mmap.mmap, slot: Slot, dtype: torch.dtype | None, device: torch.device | None) -> torch.Tensor:
    if not slot.group_size:
        raw = torch.frombuffer(data, dtype=torch.float32, count=slot.elements, offset=slot.offset).view(slot.shape)
        return settled(raw, dtype=dtype, device=device)
    values = torch.frombuffer(data, dtype=torch.int8, count=slot.elements, offset=slot.offset)
    groups = slot.elements // slot.group_size
    # Scales follow an odd number of bytes where a matrix has one: read them as bytes, then align by copying.
    raw = torch.frombuffer(data, dtype=torch.uint8, count=4 * groups, offset=slot.offset + slot.elements)
    scales = raw.clone().view(torch.float32)
    made = (values.view(groups, slot.group_size) * scales[:, None]).view(slot.shape).to(device=device, dtype=dtype)
    drop_pages(values)
    return made
