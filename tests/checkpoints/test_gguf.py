"""GGUF files of the gguf package's own writer and quantiser, and ours read by its reader."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load, read, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.gguf import QUANTISED_CODES, READ
from llamalab.checkpoints.gguf_write import words_of, write_gguf
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.formats.gguf_header import map_gguf
from llamalab.text.gguf_text import vocabulary
from tests.checkpoints.samples import ARCH, GGUF_NAMES, TIED, random_model, write_gguf_sample

BLOCKS = LlamaArch(256, 1, 8, 2, 256, 9)  # rows of whole blocks, also of the K kinds


@pytest.mark.parametrize("arch", [ARCH, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize(("kind", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_floats_are_as_written(tmp_path: Path, arch: LlamaArch, kind: str, dtype: torch.dtype) -> None:
    path = tmp_path / "model.gguf"
    model = random_model(arch, dtype)
    write_gguf_sample(path, model, {"*": kind})
    found, state = read(path)
    assert found == arch
    torch.testing.assert_close({name: weight.to(dtype) for name, weight in state.items()}, dict(model.state_dict()),
                               rtol=0, atol=0)  # fmt: skip
    assert {weight.dtype for weight in load(path).parameters()} == {dtype}


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantised_by_the_package(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    kept = write_gguf_sample(path, random_model(BLOCKS), {"*": kind})
    torch.testing.assert_close(dict(load(path).state_dict()), kept, rtol=0, atol=0)


@pytest.mark.parametrize("kind", QUANTISED_CODES)
def test_every_kind_that_the_package_dequantises(tmp_path: Path, kind: str) -> None:
    import gguf

    path, ggml = tmp_path / "model.gguf", gguf.GGMLQuantizationType[kind]
    block, nbytes = gguf.GGML_QUANT_SIZES[ggml]
    draw = np.random.default_rng(3)
    original = gguf.quantize

    def random_blocks(data: Any, wanted: Any) -> Any:
        if wanted != ggml:
            return original(data, wanted)
        shape = (*data.shape[:-1], data.shape[-1] // block * nbytes)
        # Bytes below 60 make scales of half precision, wherever they lie in a block, that are small numbers.
        return draw.integers(0, 60, shape, dtype=np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "quantize", random_blocks)
        kept = write_gguf_sample(path, random_model(BLOCKS), {"attention.wo": kind, "*": "Q8_0"})
    assert kept["layers.0.attention.wo.weight"].unique().numel() > 2
    torch.testing.assert_close(read(path)[1], kept, rtol=0, atol=0)
    half = load(path, dtype="bf16").state_dict()
    torch.testing.assert_close(dict(half), {name: weight.bfloat16() for name, weight in kept.items()}, rtol=0, atol=0)


def test_no_kind_of_the_package_is_left_out() -> None:
    import gguf

    known = set()
    for kind, (_, nbytes) in gguf.GGML_QUANT_SIZES.items():
        try:
            gguf.dequantize(np.zeros((1, nbytes), np.uint8), kind)
        except NotImplementedError:
            continue
        known.add(kind.name)
    assert set(READ) == known


def test_a_q4_k_block_by_its_description(tmp_path: Path) -> None:
    # d = 2, dmin = 0.5; scale 3 and minimum 4 of the first sub-block; its quants are the low nibbles: 5.
    scales = bytes([3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0])
    raw = np.frombuffer(np.array([2, 0.5], np.float16).tobytes() + scales + bytes([5]) * 128, np.uint8)
    import gguf

    values = gguf.dequantize(raw, gguf.GGMLQuantizationType.Q4_K)
    assert values[:32].tolist() == [2 * 3 * 5 - 0.5 * 4] * 32


def test_logits_with_grouped_heads(tmp_path: Path) -> None:
    path, model = tmp_path / "model.gguf", random_model(ARCH)
    write_gguf_sample(path, model)
    tokens_BT = torch.tensor([[1, 2, 37, 5]])
    torch.testing.assert_close(load(path)(tokens_BT), model(tokens_BT), rtol=0, atol=0)


@pytest.mark.reference
def test_rows_of_llama_cpp_are_metas() -> None:
    # llama.cpp's converter, convert_hf_to_gguf.py, LlamaModel.permute: what it does to Hugging Face's rows.
    from tests.checkpoints.samples import pairs_to_halves_by_index

    for heads, name in ((6, "wq"), (2, "wk")):
        weight = random_model(ARCH).state_dict()[f"layers.0.attention.{name}.weight"]
        theirs = pairs_to_halves_by_index(weight, heads)
        permuted = theirs.reshape(heads, 2, len(theirs) // heads // 2, -1).swapaxes(1, 2).reshape(theirs.shape)
        torch.testing.assert_close(permuted, weight, rtol=0, atol=0)


@pytest.mark.shared
@pytest.mark.parametrize("words", [None, "tokenizer"])
def test_the_packages_reader_reads_what_is_written(tmp_path: Path, words: str | None, shared_real: Path) -> None:
    import gguf

    path, model = tmp_path / "model.gguf", random_model(ARCH.replace(vocab_size=32_016), torch.bfloat16)
    vocab = None if words is None else words_of(shared_real / "tokenizer.model")
    write_gguf(path, weights_of(model), dtype=None, quantised=None, words=vocab)
    reader = gguf.GGUFReader(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    assert len(stored) == 21
    assert reader.get_field("llama.attention.head_count_kv").contents() == 2
    for name, weight in model.state_dict().items():
        module = name.removesuffix(".weight")
        theirs = (
            f"blk.{module.split('.')[1]}.{GGUF_NAMES[module.split('.', 2)[2]]}"
            if "layers" in name
            else GGUF_NAMES[module]
        )
        tensor = stored[f"{theirs}.weight"]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        torch.testing.assert_close(torch.from_numpy(np.array(values)), weight.float(), rtol=0, atol=0)
    if vocab is not None:
        pieces = reader.get_field("tokenizer.ggml.tokens").contents()
        assert pieces[:5] == ["<unk>", "<s>", "</s>", "<0x00>", "<0x01>"]
        assert pieces[32_000:32_002] == ["<unused0>", "<unused1>"]
        ours = vocabulary(path)
        assert ours.pieces[:32_000] == vocab.pieces
        assert ours.scores[:32_000] == pytest.approx(vocab.scores)
        assert (ours.types[:4], ours.types[259], *ours.settings[:2], ours.settings.unknown_id) == (
            [2, 3, 3, 6],
            1,
            1,
            2,
            0,
        )
        assert (ours.model, ours.settings.add_bos, ours.add_space_prefix) == ("llama", True, True)


def test_q8_0_written_is_what_the_package_makes(tmp_path: Path) -> None:
    ours, theirs, model = tmp_path / "a.gguf", tmp_path / "b.gguf", random_model(BLOCKS.replace(ffn_dim=40))
    write_gguf(ours, weights_of(model), dtype=None, quantised="q8_0", words=None)
    # Rows of 40 values are no whole blocks: F16, as llama.cpp's converter has it.
    kept = write_gguf_sample(theirs, model, {"*": "Q8_0", "feed_forward.w2": "F16"})
    torch.testing.assert_close(dict(load(ours).state_dict()), kept, rtol=0, atol=0)


def test_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    words = [b"<unk>", b"<s>", b"</s>", "▁é".encode(), b"\xff"]
    write_gguf_sample(path, random_model(ARCH), words=words)
    found = vocabulary(path)
    assert (found.pieces, found.scores) == (words, [0.0, -1.0, -2.0, -3.0, -4.0])
    # EOS is not named: it is 2, as llama.cpp has it.
    assert (found.settings.bos_id, found.settings.eos_id, found.settings.stop_ids) == (1, 2, {2})
    write_gguf_sample(path, random_model(ARCH))
    with pytest.raises(FormatError, match="has none"):
        vocabulary(path)
    assert "no vocabulary" in survey(path).remarks[0]


@pytest.mark.shared
def test_a_vocabulary_larger_than_the_model(tmp_path: Path, shared_real: Path) -> None:
    words = words_of(shared_real / "tokenizer.model")
    with pytest.raises(InputError, match="must fit the model's 38 embeddings; it has 32,000"):
        write_gguf(tmp_path / "a", weights_of(random_model(ARCH)), dtype=None, quantised=None, words=words)
    with pytest.raises(MissingError, match="tokenizer must exist"):
        words_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"general__alignment": "x"}, "power of 2"),
        ({"llama__rope__scaling__type": "longrope"}, "scaling.type of longrope must go with"),
        ({"llama__expert_count": "x"}, "expert_count"),
        ({"llama__rope__dimension_count": "x"}, "dimension_count must be 4"),
    ],
)
def test_settings_of_no_llama_2(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    path = tmp_path / "model.gguf"
    write_gguf_sample(path, random_model(ARCH), **settings)
    with pytest.raises(FormatError, match=message):
        load(path)


def header(tensors: int, settings: int, body: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, settings) + body


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def setting(key: str, kind: int, value: bytes) -> bytes:
    return text(f"tokenizer.ggml.{key}".encode()) + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    "wrong",
    [
        setting("scores", 9, struct.pack("<IQ2?", 7, 2, True, True)),
        setting("token_type", 9, struct.pack("<IQ2f", 6, 2, 1.0, float("nan"))),
        setting("add_bos_token", 9, struct.pack("<IQ2?", 7, 2, True, True)),
        setting("add_space_prefix", 4, struct.pack("<I", 1)),
        setting("bos_token_id", 6, struct.pack("<f", 1.0)),
    ],
    ids=["scores", "types", "bos", "space", "id"],
)
def test_settings_of_no_vocabulary(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "model.gguf"
    tokens = setting("tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b"))
    path.write_bytes(header(0, 1, tokens))
    assert vocabulary(path).pieces == [b"a", b"b"]
    path.write_bytes(header(0, 2, tokens + wrong))
    with pytest.raises(FormatError, match=r"tokenizer\.ggml\."):
        vocabulary(path)


def test_an_id_outside_is_none_as_to_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    tokens = setting("tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b"))
    model = setting("model", 8, text(b"llama"))
    ids = setting("bos_token_id", 4, struct.pack("<I", 9)) + setting("padding_token_id", 4, b"\xff" * 4)
    path.write_bytes(header(0, 4, tokens + model + ids))
    found = vocabulary(path).settings
    assert (found.bos_id, found.pad_id, found.eos_id) == (1, None, None)  # EOS is 2 by default, which is outside too


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGUF", "lie in its file"),
        (header(0, 0, b"", version=1), "2 or 3"),
        (header(0, 0, b"", version=0x03000000), "little-endian"),
        (header(2**63, 0, bytes(99)), "9,223,372,036,854,775,808 tensors; it is cut short"),
        (header(0, 2**60, bytes(99)), "settings; it is cut short"),
        (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 0, 2**60) + bytes(64)), "elements; it is cut short"),
        (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 8, 2**40) + bytes(64)), "texts; it is cut short"),
        (header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64)), "got kind 9"),
        (header(0, 1, text(b"k") + struct.pack("<IQ", 8, 2**62) + bytes(64)), "lie in its file"),
        (header(0, 2, (text(b"k") + struct.pack("<II", 4, 1)) * 2 + bytes(64)), "there twice"),
        (header(0, 1, text(b"\xff") + struct.pack("<II", 4, 1)), "UTF-8"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 2**50, 0, 0) + bytes(64)), "size that a file can have"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0) + bytes(64)), "size that a file can have"),
        (header(1, 0, text(b"t") + struct.pack("<I", 9) + bytes(99)), "1 to 4 dimensions"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 8, 0, 2**60) + bytes(64)), "must hold its tensors"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 8, 77, 0) + bytes(64)), "ggml knows"),
        (header(1, 0, text(b"t") + struct.pack("<IQIQ", 1, 8, 8, 0) + bytes(64)), "whole blocks of 32 as Q8_0"),
        (header(2, 0, b"".join(text(name) + struct.pack("<IQIQ", 1, 8, 0, 0) for name in (b"s", b"t")) + bytes(99)),
         "overlap"),
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        survey(path)


def test_version_2_and_every_kind_of_setting(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    values = [(0, b"\xff"), (1, b"\xff"), (6, struct.pack("<f", 0.5)), (7, b"\1"), (11, b"\xff" * 8), (8, text(b"s"))]
    values.append((9, struct.pack("<IQ", 3, 2) + b"\xff\xff\1\0"))
    body = b"".join(text(b"k%d" % kind) + struct.pack("<I", kind) + value for kind, value in values)
    path.write_bytes(header(0, len(values), body, version=2))
    found = map_gguf(path)[1].settings
    assert [found[f"k{kind}"] for kind in (0, 1, 6, 7, 11, 8)] == [255, -1, 0.5, True, -1, b"s"]
    assert list(found["k9"]) == [-1, 1]  # type: ignore[arg-type]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    write_gguf_sample(path, random_model(ARCH), words=[b"a", b"b"])
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingError, match="needs the Python package gguf; it is not installed; run llamalab doctor"):
        load(path)
    assert vocabulary(path).pieces == [b"a", b"b"]  # a tokenizer needs no quantiser
