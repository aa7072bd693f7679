"""From every format to every other and back: no bit changes where the format has room for it."""

from itertools import product
from pathlib import Path

import pytest
import torch

from llamalab.checkpoints import load, read
from llamalab.checkpoints.convert import Wishes, convert
from llamalab.errors import FormatError, InputError, LlamaLabError, MissingError, UnknownNameError
from llamalab.model import Transformer
from tests.checkpoints.samples import ARCH, random_model, write_config, write_gguf_sample, write_params, write_shards
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.checkpoints.test_huggingface import hf_named
from tests.checkpoints.test_llama2c import v0
from tests.text.samples import byte_level_folder

TOKENS_BT = torch.tensor([[1, 2, 37, 5, 9]])


def make(form: str, path: Path) -> Path:
    """A file or folder of each format that llamalab did not write."""
    model = random_model(ARCH)
    if form == "meta":
        write_params(path, ARCH)
        write_shards(path, model.state_dict(), 2)
    elif form == "hf":
        write_config(path, ARCH)
        write_safetensors_sample(path / "model.safetensors", hf_named(model, ARCH))
    elif form == "gguf":
        write_gguf_sample(path, model)
    else:
        path.write_bytes(v0(ARCH, dict(model.state_dict())))
    return path


@pytest.mark.parametrize(("source", "target"), list(product(["hf", "meta", "llama2c", "gguf"], repeat=2)))
def test_round_trips_keep_every_bit(tmp_path: Path, source: str, target: str) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    convert(make(source, tmp_path / "source"), there, target)
    convert(there, back, source)
    for path in (there, back):
        arch, state = read(path)
        assert arch.replace(max_positions=ARCH.max_positions) == ARCH
        torch.testing.assert_close(state, dict(random_model(ARCH).state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_bits_too(tmp_path: Path, dtype: torch.dtype) -> None:
    state = random_model(ARCH, dtype).state_dict()
    write_params(tmp_path / "meta", ARCH)
    write_shards(tmp_path / "meta", state, 1)
    convert(tmp_path / "meta", tmp_path / "hf", "hf")
    convert(tmp_path / "hf", tmp_path / "gguf", "gguf")
    convert(tmp_path / "gguf", tmp_path / "again", "meta", Wishes(shards=2))
    for name in ("hf", "gguf", "again"):
        loaded = load(tmp_path / name).state_dict()
        torch.testing.assert_close(dict(loaded), dict(state), rtol=0, atol=0)


@pytest.mark.parametrize("to", ["hf", "meta", "gguf"])
def test_a_dtype_is_a_cast(tmp_path: Path, to: str) -> None:
    convert(make("hf", tmp_path / "source"), tmp_path / "out", to, Wishes(dtype="bf16"))
    model = load(tmp_path / "out")
    expected = random_model(ARCH).bfloat16().state_dict()
    if to == "gguf":  # its norms are F32, so what is cast on loading is what was there
        expected = {name: weight for name, weight in expected.items() if weight.dim() == 2}
    loaded = {name: weight for name, weight in model.state_dict().items() if name in expected}
    torch.testing.assert_close(loaded, dict(expected), rtol=0, atol=0)


def test_quantised_to_llama2c_and_back_to_floats(tmp_path: Path) -> None:
    arch = ARCH.replace(dim=96, ffn_dim=64)
    write_gguf_sample(tmp_path / "q.gguf", random_model(arch), {"*": "Q8_0"})
    convert(tmp_path / "q.gguf", tmp_path / "m.bin", "llama2c")
    torch.testing.assert_close(read(tmp_path / "m.bin")[1], read(tmp_path / "q.gguf")[1], rtol=0, atol=0)


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    source = make("hf", tmp_path / "source")
    byte_level_folder(source)
    (source / "secret.txt").write_text("x")
    said = convert(source, tmp_path / "out", "meta")
    assert "no place for its tokenizer, which is no SentencePiece model" in said  # which Meta's code would look for
    names = {file.name for file in (tmp_path / "out").iterdir()}
    of_text = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert names == {"params.json", "consolidated.00.pth", *of_text}
    assert {file.name for file in tmp_path.iterdir()} == {"source", "out"}


def test_a_vocabulary_and_another_size(tmp_path: Path) -> None:
    convert(make("llama2c", tmp_path / "source"), tmp_path / "out", "hf", Wishes(vocab_size=55_296))
    assert load(tmp_path / "out").arch.vocab_size == 55_296


@pytest.mark.parametrize(
    ("to", "wishes", "error"),
    [
        ("pickle", Wishes(), UnknownNameError),
        ("hf", Wishes(dtype="q8_0"), InputError),
        ("hf", Wishes(dtype="int8"), InputError),
        ("llama2c", Wishes(dtype="bf16"), InputError),
        ("onnx", Wishes(dtype="fp16"), InputError),
        ("hf", Wishes(shards=2), InputError),
        ("meta", Wishes(shards=4), InputError),
        ("gguf", Wishes(tokenizer="none.model"), MissingError),
        ("hf", Wishes(lora="none"), MissingError),
        ("hf", Wishes(vocab_size=10**9), InputError),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    tmp_path: Path, to: str, wishes: Wishes, error: type[LlamaLabError]
) -> None:
    source = make("hf", tmp_path / "source")
    with pytest.raises(error):
        convert(source, tmp_path / "out", to, wishes)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("to", ["hf", "meta", "gguf", "llama2c"])
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.checkpoints import arrangement

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    source = make("hf", tmp_path / "source")
    monkeypatch.setattr(arrangement, "halves_to_pairs", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", to)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_an_existing_target_stays(tmp_path: Path) -> None:
    source, target = make("hf", tmp_path / "source"), tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(InputError, match="must be new"):
        convert(source, target, "gguf")
    assert target.read_text() == "mine"


def test_a_broken_source(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        convert(tmp_path / "source", tmp_path / "out", "hf")


def test_onnx_gets_the_model_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    module = import_module("llamalab.checkpoints.convert")
    given = []

    def write(path: Path, model: Transformer) -> float:
        given.append(model)
        return 2e-6

    monkeypatch.setattr(module, "write_onnx", write)
    assert "differ from the model's by 2e-06" in convert(make("gguf", tmp_path / "source"), tmp_path / "out", "onnx")
    torch.testing.assert_close(dict(given[0].state_dict()), dict(random_model(ARCH).state_dict()), rtol=0, atol=0)
