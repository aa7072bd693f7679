"""llama2.c files, built here byte by byte from the format's description, not by llamalab's writer."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.arch import LlamaArch
from llamalab.checkpoints import load, read, write_llama2c
from llamalab.errors import FormatError, InputError, LlamaLabError, MissingError, UnknownNameError
from llamalab.model import Transformer

# n_heads, n_kv_heads, their ratio, head_dim, layers, ffn and vocabulary all differ.
ARCH = LlamaArch(24, 5, 6, 2, 20, 37, tied_embeddings=True, max_positions=11)
UNTIED = ARCH.replace(tied_embeddings=False)
# 37 x 6 int8 values are no multiple of 4: the scales behind them are not aligned.
NARROW = LlamaArch(6, 2, 3, 1, 9, 37, tied_embeddings=False, max_positions=4)
KINDS = {
    "attention_norm": "layers.{}.attention_norm.weight",
    "wq": "layers.{}.attention.wq.weight",
    "wk": "layers.{}.attention.wk.weight",
    "wv": "layers.{}.attention.wv.weight",
    "wo": "layers.{}.attention.wo.weight",
    "ffn_norm": "layers.{}.ffn_norm.weight",
    "w1": "layers.{}.feed_forward.w1.weight",
    "w2": "layers.{}.feed_forward.w2.weight",
    "w3": "layers.{}.feed_forward.w3.weight",
    "norm": "norm.weight",
    "tok": "tok_embeddings.weight",
    "output": "output.weight",
}
V0_ORDER = ["tok", "attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3", "norm", "ROPE", "output"]
V1_ORDER = ["attention_norm", "ffn_norm", "norm", "tok", "wq", "wk", "wv", "wo", "w1", "w2", "w3", "output"]


def random_state(arch: LlamaArch) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(11)
    shapes = Transformer(arch, device="meta").state_dict()
    return {name: torch.randn(like.shape, generator=draw) for name, like in shapes.items()}


def sizes(arch: LlamaArch, vocab: int | None = None) -> bytes:
    return struct.pack(
        "<7i", arch.dim, arch.ffn_dim, arch.n_layers, arch.n_heads, arch.n_kv_heads,
        arch.vocab_size if vocab is None else vocab, arch.max_positions,
    )  # fmt: skip


def tensors(arch: LlamaArch, state: dict[str, torch.Tensor], order: list[str]) -> list[torch.Tensor]:
    names = [name for name in order if name == "ROPE" or name != "output" or not arch.tied_embeddings]
    found = []
    for name in names:
        if name == "ROPE":
            found.append(torch.full((arch.max_positions * arch.head_dim,), 9.0))
        else:
            layers = range(arch.n_layers) if "{}" in KINDS[name] else range(1)
            found += [state[KINDS[name].format(layer)] for layer in layers]
    return found


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def v0(arch: LlamaArch, state: dict[str, torch.Tensor]) -> bytes:
    head = sizes(arch, arch.vocab_size if arch.tied_embeddings else -arch.vocab_size)
    return head + b"".join(map(raw, tensors(arch, state, V0_ORDER)))


def v1(arch: LlamaArch, state: dict[str, torch.Tensor]) -> bytes:
    head = b"24ka" + struct.pack("<i", 1) + sizes(arch) + struct.pack("<B", arch.tied_embeddings)
    return head.ljust(256, b"\0") + b"".join(map(raw, tensors(arch, state, V1_ORDER)))


def v2(arch: LlamaArch, state: dict[str, torch.Tensor], group: int = 3) -> bytes:
    """Also replaces the matrices of `state` by what int8 keeps of them."""
    head = b"24ka" + struct.pack("<i", 2) + sizes(arch) + struct.pack("<Bi", arch.tied_embeddings, group)
    body = b""
    for tensor in tensors(arch, state, V1_ORDER):
        if tensor.dim() == 1:
            body += raw(tensor)
            continue
        groups = tensor.reshape(-1, group)
        scales = groups.abs().amax(1, keepdim=True) / 127
        values = (groups / scales).round().to(torch.int8)
        body += raw(values) + raw(scales)
        tensor.copy_((values.float() * scales).view(tensor.shape))
    return head.ljust(256, b"\0") + body


Build = Callable[[LlamaArch, dict[str, torch.Tensor]], bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


@pytest.mark.parametrize("build", [v0, v1, v2])
@pytest.mark.parametrize("arch", [ARCH, UNTIED, NARROW], ids=["tied", "untied", "narrow"])
def test_every_weight_of_every_version(path: Path, build: Build, arch: LlamaArch) -> None:
    state = random_state(arch)
    path.write_bytes(build(arch, state))
    model = load(path)
    assert model.arch == arch
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def test_sizes_are_exact() -> None:
    # 28 + 4 * (parameters + max_positions * head_dim), facts of the stories260K file.
    arch = LlamaArch(64, 5, 8, 4, 172, 512, tied_embeddings=True, max_positions=512)
    assert len(v0(arch, random_state(arch))) == 28 + 4 * (260_032 + 512 * 8) == 1_056_540


@pytest.mark.parametrize(("version", "build"), [(0, v0), (1, v1)])
@pytest.mark.parametrize("arch", [ARCH, UNTIED], ids=["tied", "untied"])
def test_writing_gives_the_described_bytes(path: Path, version: int, build: Build, arch: LlamaArch) -> None:
    state = random_state(arch)
    model = Transformer(arch)
    model.load_state_dict(state)
    write_llama2c(path, model, version=version)
    written, expected = path.read_bytes(), build(arch, state)
    if version == 0:  # the RoPE tables hold angles, not the marker of this test
        marker = raw(torch.full((arch.max_positions * arch.head_dim,), 9.0))
        at = expected.index(marker)
        tables = torch.frombuffer(bytearray(written[at : at + len(marker)]), dtype=torch.float32).view(2, 11, 2)
        angle = torch.outer(torch.arange(11.0), torch.tensor([1.0, 0.01]))
        torch.testing.assert_close(tables, torch.stack((angle.cos(), angle.sin())))
        expected = expected.replace(marker, written[at : at + len(marker)])
    assert written == expected


def test_a_model_in_bf16_is_written_as_fp32(path: Path) -> None:
    model = llamalab.build(ARCH, dtype="bf16")
    write_llama2c(path, model)
    torch.testing.assert_close(load(path, dtype="bf16").state_dict(), model.state_dict(), rtol=0, atol=0)
    assert load(path).norm.weight.dtype is torch.float32


def test_what_the_format_cannot_say_is_not_written(path: Path) -> None:
    for arch in (ARCH.replace(norm_eps=1e-6), ARCH.replace(rope_theta=1e6)):
        with pytest.raises(InputError, match="does not store"):
            write_llama2c(path, Transformer(arch, device="meta"))
    with pytest.raises(InputError, match="0 or 1; got 2"):
        write_llama2c(path, Transformer(ARCH, device="meta"), version=2)
    assert not path.exists()


@pytest.mark.shared
def test_the_real_checkpoint_round_trips(shared_real: Path, path: Path) -> None:
    real = shared_real / "stories260K.bin"
    model = load(real)
    assert sum(weight.numel() for weight in model.parameters()) == 260_032
    write_llama2c(path, model)
    written, original = path.read_bytes(), real.read_bytes()
    tables = slice(len(original) - 4 * 512 * 8, None)
    assert written[: tables.start] == original[: tables.start]
    ours, theirs = (torch.frombuffer(bytearray(data[tables]), dtype=torch.float32) for data in (written, original))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_weights_are_views_of_the_mapped_file_and_the_file_stays_as_it_was(path: Path) -> None:
    data = v0(ARCH, random_state(ARCH))
    path.write_bytes(data)
    model = load(path)
    first, last = model.tok_embeddings.weight, model.norm.weight
    # All of tok, norms and matrices lie between them, as in the file: nothing was copied.
    between = 4 * (sum(weight.numel() for weight in model.parameters()) - last.numel())
    assert last.data_ptr() - first.data_ptr() == between
    with torch.no_grad():
        first.fill_(7.0)
    assert path.read_bytes() == data


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.float32), ("fp16", torch.float16)])
def test_dtype(path: Path, dtype: str | None, expected: torch.dtype) -> None:
    path.write_bytes(v1(UNTIED, random_state(UNTIED)))
    assert {weight.dtype for weight in llamalab.load(path, dtype=dtype).parameters()} == {expected}


def test_options_that_cannot_be_right(path: Path) -> None:
    path.write_bytes(v0(ARCH, random_state(ARCH)))
    with pytest.raises(UnknownNameError, match="attention must be one of"):
        load(path, attention="flush")
    with pytest.raises(UnknownNameError, match="dtype must be one of"):
        load(path, dtype="fp12")
    with pytest.raises(InputError, match="dtype of a model"):
        load(path, dtype="int8")
    with pytest.raises(InputError, match="device must be"):
        load(path, device="abacus")


FOREIGN = {
    "empty": b"",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(999),
    "text": b"Once upon a time, there was a little girl named Lily.",
    "zeros": bytes(4096),
    "short": b"\x40\0\0",
    "nan": struct.pack("<7f", *[float("nan")] * 7) + bytes(4096),
    "negative": struct.pack("<7i", -64, 172, 5, 8, 4, 512, 512) + bytes(4096),
    "huge": struct.pack("<7i", 2**31 - 2, 2**31 - 1, 2**31 - 1, 2, 1, 2**31 - 1, 2**31 - 1) + bytes(4096),
    "zero vocabulary": struct.pack("<7i", 64, 172, 5, 8, 4, 0, 512) + bytes(4096),
    "heads": struct.pack("<7i", 64, 172, 5, 8, 3, 512, 512) + bytes(4096),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"checkpoint must be of a format that llamalab reads .*model\.bin is"):
        load(path)


@pytest.mark.parametrize("build", [v0, v1, v2])
@pytest.mark.parametrize("change", [-1, 1])
def test_one_byte_too_few_or_too_many(path: Path, build: Build, change: int) -> None:
    data = build(UNTIED, random_state(UNTIED))
    path.write_bytes(data[:-1] if change < 0 else data + b"\0")
    with pytest.raises(FormatError, match=f"must be {len(data):,} bytes; it has {len(data) + change:,} and"):
        load(path)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_header_alone_allocates_nothing(path: Path, version: int) -> None:
    # The largest sizes an architecture may have: 10**17 bytes, which no machine would grant.
    claim = struct.pack("<7i", 10_000_000, 10_000_000, 1_000, 10, 5, 10_000_000, 10_000_000)
    head = (b"24ka" + struct.pack("<i", version) + claim + struct.pack("<Bi", 0, 1)).ljust(256, b"\0")
    path.write_bytes(head if version else claim)
    with pytest.raises(FormatError, match="cut short"):
        load(path)


@pytest.mark.parametrize(
    ("at", "field", "message"),
    [
        (4, struct.pack("<i", 3), "must be 1 or 2 behind its magic; got 3"),
        (4, struct.pack("<i", -1), "must be 1 or 2 behind its magic; got -1"),
        (28, struct.pack("<i", -37), "positive vocabulary; got 1 and -37"),
        (36, b"\x02", "flag of 0 or 1"),
        (37, struct.pack("<i", 0), "group size .* at least 1; got 0"),
        (37, struct.pack("<i", -8), "group size .* at least 1; got -8"),
        (37, struct.pack("<i", 7), "must divide .* got 7"),
        (8, struct.pack("<i", 25), "dim of LlamaArch"),
    ],
)
def test_a_header_that_contradicts_itself(path: Path, at: int, field: bytes, message: str) -> None:
    data = bytearray(v2(ARCH, random_state(ARCH)))
    data[at : at + len(field)] = field
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message):
        load(path)


def test_magic_without_a_header(path: Path) -> None:
    path.write_bytes(b"24ka\1\0\0\0")
    with pytest.raises(FormatError, match="256 bytes of header; it has 8"):
        load(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no"):
        load(tmp_path / "none.bin")
    with pytest.raises(FormatError, match="a folder"):
        load(tmp_path)


def test_mutated_files_load_or_are_refused(path: Path) -> None:
    originals = [build(arch, random_state(arch)) for build in (v0, v1, v2) for arch in (NARROW, ARCH)]
    draw, loaded = random.Random(23), 0
    for case in range(300):
        data = bytearray(originals[case % len(originals)])
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(draw.choice([4, 48, len(data)]))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data)] * 3 + [draw.randrange(len(data) + 1)])])
        try:
            arch, state = read(path)
        except LlamaLabError:
            continue
        loaded += 1
        assert state.keys() == Transformer(arch, device="meta").state_dict().keys()
    assert 0 < loaded < 300
