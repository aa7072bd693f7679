"""llama2.c checkpoints: versions 0 (legacy), 1, and 2 (int8 groups).

v0: 7 int32 (dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_positions; a negative
vocab_size says that the output matrix is not the embedding), then fp32 weights, each kind for all
layers, with two unused RoPE tables after the last norm. v1: 256 bytes of header behind the magic
"24ka", then fp32 weights in another order, without tables. v2: v1's header with a group size, fp32
norms, then each matrix as int8 values followed by one fp32 scale per group.
Everything is little-endian. Source: karpathy/llama2.c 350e04f, export.py:75-262, run.c:111-160,
runq.c:182-239. The files hold neither norm_eps (1e-5) nor rope_theta (10,000).

The size of the file follows from its header to the byte, and nothing is built before both agree.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from itertools import groupby
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch

from llamalab.analytic.params import Weight
from llamalab.analytic.params import weights as weights_in
from llamalab.arch import ON_DISK, LlamaArch
from llamalab.checkpoints.checkpoint import StoredTensor, Survey, Weights, weights_of
from llamalab.checkpoints.pages import drop_pages, settled
from llamalab.errors import FormatError, InputError
from llamalab.files import map_file, replacing
from llamalab.model import Transformer
from llamalab.model.rope import rotations

NORM_EPS, ROPE_THETA = 1e-5, 10_000.0  # of every file: the format has no place for others
MAGIC = struct.pack("<I", 0x616B3432)
SIZES = struct.Struct("<7i")
PADDED_HEADER_BYTES = 256  # of v1 and v2
FLAGS = struct.Struct("<Bi")  # tied, group_size: behind magic, version and sizes, without alignment
FLAGS_OFFSET = 8 + SIZES.size
# Where the two RoPE tables lie in v0, which every reader skips and every writer must fill.
ROPE_TABLES = "rope"
KIND = "llama2.c v0, v1 or v2"

_REMARKS = ("norm_eps and rope_theta are not stored: those of Llama 2 are assumed",)

_NORMS = ("attention_norm", "ffn_norm", "norm")
_ATTENTION = ("attention.wq", "attention.wk", "attention.wv", "attention.wo")
_FEED_FORWARD = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
_ORDERS = {
    0: ("tok_embeddings", "attention_norm", *_ATTENTION, "ffn_norm", *_FEED_FORWARD, "norm", ROPE_TABLES, "output"),
    1: (*_NORMS, "tok_embeddings", *_ATTENTION, *_FEED_FORWARD, "output"),
    2: (*_NORMS, "tok_embeddings", *_ATTENTION, *_FEED_FORWARD, "output"),
}


class Llama2cHeader(NamedTuple):
    """What the first bytes say; `group_size` is 0 where weights are fp32."""

    version: int
    arch: LlamaArch
    group_size: int = 0


class Slot(NamedTuple):
    """One tensor's place: `offset` in bytes; `group_size` 0 means fp32, else int8 and then scales."""

    name: str
    shape: tuple[int, ...]
    offset: int
    group_size: int

    @property
    def elements(self) -> int:
        """How many weights lie here."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes taken: 4 per weight, or 1 per weight and 4 per group."""
        if self.group_size:
            return self.elements + 4 * (self.elements // self.group_size)
        return 4 * self.elements


def recognises(path: Path) -> bool:
    """Whether a file's first bytes can be a llama2.c header: v0 has no magic, only plausible sizes."""
    if not path.is_file() or not path.stat().st_size:
        return False
    data = map_file(path, "checkpoint")
    if data[: len(MAGIC)] == MAGIC:
        return True
    try:
        read_header(data)
    except InputError:
        return False
    return True


def survey(path: Path) -> Survey:
    """What the header says. Raises InputError where header and size disagree, before anything is allocated."""
    data = map_file(path, "checkpoint")
    header = read_header(data)
    _check_groups(header)
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

    Raises InputError for another version, or what the format cannot say of an architecture.
    """
    write_weights(path, weights_of(model), version=version)


def write_weights(path: str | os.PathLike[str], weights: Weights, *, version: int = 0) -> None:
    """As write_llama2c, from any weights: one is in memory at a time."""
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
        file.write(_header_bytes(header))
        for slot in slots(header):
            tables = slot.name == ROPE_TABLES
            tensor = _rope_tables(arch) if tables else weights.fetch(slot.name, dtype=torch.float32)
            file.write(tensor.detach().cpu().contiguous().numpy().data)


def read_header(data: mmap.mmap) -> Llama2cHeader:
    """The header of any version. Raises InputError for sizes that no Llama has."""
    if data[: len(MAGIC)] != MAGIC:
        if len(data) < SIZES.size:
            raise FormatError(f"a llama2.c file must begin with {SIZES.size} bytes of sizes; it has {len(data)}")
        sizes = SIZES.unpack_from(data)
        return Llama2cHeader(0, _arch(sizes, tied=sizes[5] > 0))
    if len(data) < PADDED_HEADER_BYTES:
        raise FormatError(f"a llama2.c file must begin with {PADDED_HEADER_BYTES} bytes of header; it has {len(data)}")
    (version,) = struct.unpack_from("<i", data, len(MAGIC))
    if version not in (1, 2):
        raise FormatError(f"the version of a llama2.c file must be 1 or 2 behind its magic; got {version}")
    tied, group_size = FLAGS.unpack_from(data, FLAGS_OFFSET)
    sizes = SIZES.unpack_from(data, 8)
    if tied not in (0, 1) or sizes[5] < 0:
        raise FormatError(
            f"a llama2.c v{version} header must have a flag of 0 or 1 for the shared classifier and a positive "
            f"vocabulary; got {tied} and {sizes[5]}"
        )
    return Llama2cHeader(version, _arch(sizes, tied=bool(tied)), _checked_group(group_size) if version == 2 else 0)


def slots(header: Llama2cHeader) -> Iterator[Slot]:
    """Every tensor in the order of the file, under the model's own names, end to end.

    >>> arch = LlamaArch(64, 5, 8, 4, 172, 512, tied_embeddings=True, max_positions=512)
    >>> [slot.offset for slot in slots(Llama2cHeader(0, arch))][:2], file_bytes(Llama2cHeader(0, arch))
    ([28, 131100], 1056540)
    """
    arch = header.arch
    tables = Weight(ROPE_TABLES, (2, arch.max_positions, arch.head_dim // 2), 1)
    by_kind = {_kind(weight.name): weight for weight in (*weights_in(arch), tables)}
    offset = PADDED_HEADER_BYTES if header.version else SIZES.size
    # A tied model has no "output" weight, nor has its file.
    for kind in filter(by_kind.__contains__, _ORDERS[header.version]):
        weight, group_size = by_kind[kind], 0 if kind in _NORMS else header.group_size
        for layer in range(weight.count):
            slot = Slot(weight.name.replace("*", str(layer)), weight.shape, offset, group_size)
            yield slot
            offset += slot.nbytes


def file_bytes(header: Llama2cHeader) -> int:
    """The exact size of a file with this header."""
    *_, last = slots(header)
    return last.offset + last.nbytes


def _arch(sizes: tuple[int, ...], *, tied: bool) -> LlamaArch:
    dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_positions = sizes
    return LlamaArch(
        dim,
        n_layers,
        n_heads,
        n_kv_heads,
        ffn_dim,
        abs(vocab_size),
        NORM_EPS,
        ROPE_THETA,
        tied_embeddings=tied,
        max_positions=max_positions,
    )


def _header_bytes(header: Llama2cHeader) -> bytes:
    arch = header.arch
    signed_vocab = arch.vocab_size if header.version or arch.tied_embeddings else -arch.vocab_size
    sizes = SIZES.pack(
        arch.dim, arch.ffn_dim, arch.n_layers, arch.n_heads, arch.n_kv_heads, signed_vocab, arch.max_positions
    )
    if not header.version:
        return sizes
    flags = FLAGS.pack(arch.tied_embeddings, header.group_size)
    return (MAGIC + struct.pack("<i", header.version) + sizes + flags).ljust(PADDED_HEADER_BYTES, b"\0")


def _rope_tables(arch: LlamaArch) -> torch.Tensor:
    """cos, then sin, of every position and pair."""
    turn_TP = rotations(0, arch.max_positions, arch, torch.device("cpu"))
    return torch.stack((turn_TP.real, turn_TP.imag))


def _checked_group(group_size: int) -> int:
    if group_size < 1:
        raise FormatError(f"the group size of a llama2.c v2 file must be at least 1; got {group_size}")
    return group_size


def _check_groups(header: Llama2cHeader) -> None:
    for _, same in groupby(slots(header), key=lambda slot: _kind(slot.name)):
        slot = next(same)
        if slot.group_size and slot.elements % slot.group_size:
            raise FormatError(
                f"the group size of a llama2.c v2 file must divide the {slot.elements:,} weights of {slot.name}; "
                f"got {slot.group_size}"
            )


def _kind(name: str) -> str:
    """`layers.3.attention.wq.weight` and `layers.*.attention.wq.weight` to `attention.wq`."""
    kind = name.removesuffix(".weight")
    return kind.split(".", 2)[2] if kind.startswith("layers.") else kind


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
