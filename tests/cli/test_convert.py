from pathlib import Path

import pytest

import llamalab
from llamalab.cli import main
from llamalab.text import load_tokenizer
from tests.checkpoints.samples import ARCH
from tests.checkpoints.test_convert import make


def test_every_kind_that_the_verb_offers_has_a_quantiser() -> None:
    from llamalab.checkpoints.quantisers import OF_LLAMA_CPP, UNQUANTISED
    from llamalab.choices import QUANTISERS

    assert (*UNQUANTISED, *OF_LLAMA_CPP) == QUANTISERS


def test_a_checkpoint_goes_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, meta, back = make("hf", tmp_path / "source"), tmp_path / "meta", tmp_path / "back.gguf"
    assert main(["convert", str(source), str(meta), "--to", "meta", "--shards", "2"]) == 0
    assert f"{meta} is a checkpoint as Meta's, of 2 shards" in capsys.readouterr().out
    assert main(["convert", str(meta), str(back), "--to", "gguf", "--dtype", "fp16", "--vocab-size", "40"]) == 0
    assert "without a vocabulary" in capsys.readouterr().out
    assert llamalab.load(back).arch == ARCH.replace(vocab_size=40, max_positions=4096)


@pytest.mark.shared
def test_the_real_checkpoint_keeps_its_story(
    tmp_path: Path, shared_real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = (shared_real / "stories260K.story.txt").read_text(encoding="utf-8")
    path = str(shared_real / "stories260K.bin")
    for form, options in (("hf", []), ("meta", ["--shards", "4"]), ("gguf", [])):
        target = str(tmp_path / form)
        assert main(["convert", path, target, "--to", form, *options]) == 0
        path = target
    capsys.readouterr()
    argv = ["generate", "--model", path, "--tokenizer", str(shared_real / "tok512.bin"), "--temperature", "0"]
    assert main([*argv, "--generate", "60"]) == 0
    text = capsys.readouterr().out
    assert story.startswith(text.strip())
    assert len(text) > 100


@pytest.mark.shared
@pytest.mark.parametrize("named", [True, False], ids=["named", "beside"])
def test_a_gguf_file_takes_llama2cs_vocabulary_along(
    tmp_path: Path, shared_real: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    story = (shared_real / "stories260K.story.txt").read_text(encoding="utf-8")
    source, target = tmp_path / "stories.bin", tmp_path / "stories.gguf"
    source.symlink_to(shared_real / "stories260K.bin")
    words = tmp_path / ("words" if named else "tokenizer.bin")
    words.symlink_to(shared_real / "tok512.bin")
    options = ["--tokenizer", str(words)] if named else []
    assert main(["convert", str(source), str(target), "--to", "gguf", *options]) == 0
    assert "with a vocabulary" in capsys.readouterr().out
    theirs, ours = load_tokenizer(words), load_tokenizer(target)
    assert [ours.piece(index) for index in range(512)] == [theirs.piece(index) for index in range(512)]
    assert main(["generate", "--model", str(target), "--temperature", "0", "--generate", "60"]) == 0
    assert story.startswith(capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--to", "pickle"], 2, "--to must be one of hf, meta, llama2c, gguf, onnx; got 'pickle'"),
        ([], 2, "--to must be given"),
        (["--to", "hf", "--dtype", "fp12"], 2, "--dtype must be one of"),
        (["--to", "hf", "--dtype", "q8_0"], 2, "must be written as gguf"),
        (["--to", "meta", "--shards", "3"], 2, "shards must divide n_kv_heads=2; got 3"),
        (["--to", "hf", "--lora", "none"], 3, "the adapter must exist"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    source = make("hf", tmp_path / "source")
    assert main(["convert", str(source), str(tmp_path / "out"), *options]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_vocabulary_by_name(tmp_path: Path, shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = shared_real / "stories260K.bin", tmp_path / "out"
    assert main(["convert", str(source), str(target), "--to", "hf", "--vocab-size", "code-llama"]) == 0
    assert main(["inspect", str(target)]) == 0
    assert "the vocabulary has 32,016 entries, as code-llama has; Llama 2 has 32,000" in capsys.readouterr().out
    assert main(["convert", str(source), str(tmp_path / "b"), "--to", "hf", "--vocab-size", "klingon"]) == 2
