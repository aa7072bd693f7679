import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from llamalab.cli import main

RECIPE = "[INST] what is the recipe of mayonnaise? [/INST]"
RECIPE_IDS = "1 518 25580 29962 825 338 278 9522 412 310 1122 11586 895 29973 518 29914 25580 29962"


def printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["tokenizer", *argv]) == 0
    return str(capsys.readouterr().out)


@pytest.mark.shared
def test_encode_and_decode(
    shared_real: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(shared_real / "tokenizer.model")
    assert printed(["encode", model, RECIPE, "--bos"], capsys) == RECIPE_IDS + "\n"
    assert printed(["decode", model, *RECIPE_IDS.split()], capsys) == RECIPE + "\n"
    assert printed(["encode", model, "Hi", "", "é"], capsys).splitlines() == ["6324", "", "904"]
    monkeypatch.setattr("sys.stdin", io.StringIO(RECIPE))
    assert printed(["encode", model, "--bos"], capsys) == RECIPE_IDS + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(RECIPE_IDS))
    assert printed(["decode", model], capsys) == RECIPE + "\n"


@pytest.mark.shared
def test_pieces_beside_their_ids(shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["encode", str(shared_real / "tokenizer.model"), "Hi 😀", "--pieces"]
    lines = [line.split("\t") for line in printed(argv, capsys).splitlines()]
    assert [(int(token_id), json.loads(piece)) for token_id, piece in lines[:2]] == [(6324, " Hi"), (29871, " ")]
    assert [json.loads(piece) for _, piece in lines[2:]] == ["\ufffd"] * 4  # its bytes, no character each


def test_train_then_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("the cat and the hat and the dog\n" * 10, encoding="utf-8")
    out = str(tmp_path / "out.model")
    assert main(["tokenizer", "train", str(tmp_path / "in.txt"), out, "--vocab-size", "280"]) == 0
    assert "out.model has 280 pieces" in capsys.readouterr().err
    ids = printed(["encode", out, "the cat 7"], capsys).split()
    assert printed(["decode", out, *ids], capsys) == "the cat 7\n"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["shuffle", "x"], 2, "action must be one of train, encode, decode, show; got 'shuffle'"),
        (["train", "in.txt"], 2, "one OUT.model; got 0 outputs"),
        (["train", "in.txt", "a", "b"], 2, "one OUT.model; got 2 outputs"),
        (["train", "none.txt", "a"], 3, "no file none.txt"),
        (["train", "none.txt", "a", "--vocab-size", "9"], 2, "vocab_size must be at least 260"),
        (["encode", "none.model", "x"], 3, "no file none.model"),
        ([], 2, "must be given"),
    ],
)
def test_bad_input_is_one_sentence(
    argv: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["tokenizer", *argv]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.shared
def test_ids_that_are_none(shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(shared_real / "tok512.bin")
    for word, message in (("x1", "must be whole numbers; got 'x1'"), ("512", "from 0 to 511; got 512")):
        assert main(["tokenizer", "decode", model, word]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.shared
def test_it_starts_without_torch(shared_real: Path) -> None:
    code = f"""import sys; from llamalab.cli import main
main(["tokenizer", "encode", {str(shared_real / "tok512.bin")!r}, "Hi"]); assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_goes_with_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.text.samples import sentencepiece_model, write_json

    sentencepiece_model(tmp_path / "tokenizer.model")
    write_json(tmp_path / "generation_config.json", eos_token_id=[2, 330])
    write_json(tmp_path / "tokenizer_config.json", additional_special_tokens=["<|im_end|>"], chat_template="{{ x }}")
    assert main(["tokenizer", "show", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "pieces:            331",
        "BOS:               1 '<s>'",
        "EOS:               2 '</s>'",
        "unknown:           0 '<unk>'",
        "padding:           none",
        "end of a text:     2 '</s>', 330 '<|im_end|>'",
        "stop strings:      none",
        "around a prompt:   BOS",
        "cut out of a text: 0 '<unk>', 1 '<s>', 2 '</s>', 330 '<|im_end|>'",
        "infilling:         none",
        "chat template:     7 characters",
    ]
