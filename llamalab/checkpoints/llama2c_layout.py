"""The bytes of a llama2.c file: versions 0 (legacy), 1, and 2 (int8 groups).

v0: 7 int32 (dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_positions; a negative
vocab_size means that the output matrix is not the embedding), then fp32 weights, each kind for all
layers, with two unused RoPE tables after the last norm. v1: 256 bytes of header behind the magic
"24ka", then fp32 weights in another order, without tables. v2: v1's header with a group size, fp32
norms, then each matrix as int8 values followed by one fp32 scale per group.
Everything is little-endian. Source: karpathy/llama2.c 350e04f, export.py:75-262, run.c:111-160,
runq.c:182-239. The files hold neither norm_eps (1e-5) nor rope_theta (10,000).

The header determines the size of the file exactly.
"""

import mmap
import struct
from collections.abc import Iterator
from itertools import groupby
from math import prod
from typing import NamedTuple

from llamalab.analytic.params import Weight
from llamalab.analytic.params import weights as weights_in
from llamalab.arch import LlamaArch
from llamalab.errors import FormatError

NORM_EPS, ROPE_THETA = 1e-5, 10_000.0  # of every file: the format stores neither
LLAMA2C_MAGIC = struct.pack("<I", 0x616B3432)
SIZES = struct.Struct("<7i")
PADDED_HEADER_BYTES = 256  # of v1 and v2
FLAGS = struct.Struct("<Bi")  # tied, group_size: after magic, version and sizes, without alignment
FLAGS_OFFSET = 8 + SIZES.size
# The place of the two RoPE tables in v0, which readers skip and writers must fill.
ROPE_TABLES = "rope"
_NORMS = ("attention_norm", "ffn_norm", "norm")
_ATTENTION = ("attention.wq", "attention.wk", "attention.wv", "attention.wo")
_FEED_FORWARD = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
_ORDERS = {
    0: ("tok_embeddings", "attention_norm", *_ATTENTION, "ffn_norm", *_FEED_FORWARD, "norm", ROPE_TABLES, "output"),
    1: (*_NORMS, "tok_embeddings", *_ATTENTION, *_FEED_FORWARD, "output"),
    2: (*_NORMS, "tok_embeddings", *_ATTENTION, *_FEED_FORWARD, "output"),
}


class Llama2cHeader(NamedTuple):
    """The fields of a header; `group_size` is 0 where weights are fp32."""

    version: int
    arch: LlamaArch
    group_size: int = 0


class Slot(NamedTuple):
    """The place of one tensor: `offset` in bytes; `group_size` 0 means fp32, else int8 values followed by scales."""

    name: str
    shape: tuple[int, ...]
    offset: int
    group_size: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes: 4 per weight, or 1 per weight and 4 per group."""
        if self.group_size:
            return self.elements + 4 * (self.elements // self.group_size)
        return 4 * self.elements


def read_llama2c_header(data: mmap.mmap) -> Llama2cHeader:
    """The header of any version. Raises InputError for sizes that no Llama has."""
    if data[: len(LLAMA2C_MAGIC)] != LLAMA2C_MAGIC:
        if len(data) < SIZES.size:
            raise FormatError(f"a llama2.c file must begin with {SIZES.size} bytes of sizes; it has {len(data)}")
        sizes = SIZES.unpack_from(data)
        return Llama2cHeader(0, _arch(sizes, tied=sizes[5] > 0))
    if len(data) < PADDED_HEADER_BYTES:
        raise FormatError(f"a llama2.c file must begin with {PADDED_HEADER_BYTES} bytes of header; it has {len(data)}")
    (version,) = struct.unpack_from("<i", data, len(LLAMA2C_MAGIC))
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
    # A tied model has no "output" weight, and neither has its file.
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
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        ffn_dim=ffn_dim,
        vocab_size=abs(vocab_size),
        norm_eps=NORM_EPS,
        rope_theta=ROPE_THETA,
        tied_embeddings=tied,
        max_positions=max_positions,
    )


def llama2c_header_bytes(header: Llama2cHeader) -> bytes:
    """The header as a file begins with it."""
    arch = header.arch
    signed_vocab = arch.vocab_size if header.version or arch.tied_embeddings else -arch.vocab_size
    sizes = SIZES.pack(
        arch.dim, arch.ffn_dim, arch.n_layers, arch.n_heads, arch.n_kv_heads, signed_vocab, arch.max_positions
    )
    if not header.version:
        return sizes
    flags = FLAGS.pack(arch.tied_embeddings, header.group_size)
    return (LLAMA2C_MAGIC + struct.pack("<i", header.version) + sizes + flags).ljust(PADDED_HEADER_BYTES, b"\0")


def _checked_group(group_size: int) -> int:
    if group_size < 1:
        raise FormatError(f"the group size of a llama2.c v2 file must be at least 1; got {group_size}")
    return group_size


def check_group_sizes(header: Llama2cHeader) -> None:
    """Raise FormatError where the groups of a quantised file do not divide its matrices."""
    for _, same in groupby(slots(header), key=lambda slot: _kind(slot.name)):
        slot = next(same)
        if slot.group_size and slot.elements % slot.group_size:
            raise FormatError(
                f"the group size of a llama2.c v2 file must divide the {slot.elements:,} weights of {slot.name}; "
                f"got {slot.group_size}"
            )


def _kind(name: str) -> str:
    """The kind of a weight: `layers.3.attention.wq.weight` and `layers.*.attention.wq.weight` give `attention.wq`."""
    kind = name.removesuffix(".weight")
    return kind.split(".", 2)[2] if kind.startswith("layers.") else kind
