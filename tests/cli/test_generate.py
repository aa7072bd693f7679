import os
import subprocess
import sys
from pathlib import Path

import pytest

import llamalab
from llamalab.checkpoints import write_llama2c
from llamalab.cli import main
from llamalab.text import decode, load_tokenizer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler

pytestmark = pytest.mark.shared


@pytest.fixture
def options(shared_real: Path) -> list[str]:
    files = ["--checkpoint", str(shared_real / "stories260K.bin"), "--tokenizer", str(shared_real / "tok512.bin")]
    return ["generate", *files]


@pytest.fixture
def story(shared_real: Path) -> str:
    return (shared_real / "stories260K.story.txt").read_text(encoding="utf-8")


def printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 0
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("attention", ["sdpa", "naive"])
def test_the_published_story_word_for_word(
    options: list[str], story: str, capsys: pytest.CaptureFixture[str], attention: str
) -> None:
    argv = [*options, "--temperature", "0", "--max-new-tokens", "256", "--attention", attention]
    assert printed(argv, capsys) == story


def test_the_story_from_its_own_beginning(options: list[str], story: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Four tokens of prompt: with 252 more the text is where 256 without a prompt end.
    argv = [*options, "--temperature", "0", "--max-new-tokens", "252", "--prompt", "Once upon a time"]
    assert printed(argv, capsys) == story


def test_the_story_from_python(shared_real: Path, story: str) -> None:
    model = llamalab.load(shared_real / "stories260K.bin")
    tokenizer = load_tokenizer(shared_real / "tok512.bin")
    ids = Generation(model, tokenizer.encode("", bos=True), max_new_tokens=256, sampler=Sampler(temperature=0.0))
    assert decode(tokenizer, ids) + "\n" == story


@pytest.mark.parametrize("prompt", ["  two spaces", "Zoë said “no” 😀", "a\tb\n"])
def test_the_prompt_is_printed_as_given(options: list[str], capsys: pytest.CaptureFixture[str], prompt: str) -> None:
    text = printed([*options, "--temperature", "0", "--max-new-tokens", "3", "--prompt", prompt], capsys)
    assert text.startswith(prompt)


def test_control_characters_stay_off_the_terminal(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = printed([*options, "--max-new-tokens", "1", "--prompt", "a\x1b[2Jb\x07\x9b"], capsys)
    assert text.startswith("a[2Jb")


def test_a_seed_gives_the_same_text(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*options, "--max-new-tokens", "60", "--temperature", "1", "--top-k", "50", "--top-p", "0.95", "--seed"]
    first = printed([*argv, "7"], capsys)
    assert printed([*argv, "7"], capsys) == first
    assert printed([*argv, "8"], capsys) != first


def test_stats_go_to_stderr(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--temperature", "0", "--max-new-tokens", "9", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Once upon a time")
    assert "TTFT" not in out
    assert "TTFT" in err
    assert "tokens/s (9 new tokens)" in err
    assert "finished by length" in err


def test_stats_of_one_token_make_up_no_rate(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--max-new-tokens", "1", "--stats"]) == 0
    assert "tokens/s of decode is not measured" in capsys.readouterr().err


def test_the_end_of_the_context_is_said(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # With its spaces " a" is one token of this vocabulary: BOS and 510 of them leave 2 to make.
    assert main([*options, "--temperature", "0", "--max-new-tokens", "4k", "--prompt", " a" * 509]) == 0
    assert "context of 512 tokens is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--temperature", "-0.5"], "temperature must be 0 (greedy) or a positive number; got -0.5"),
        (["--temperature", "nan"], "temperature must be"),
        (["--temperature", "hot"], "--temperature"),
        (["--top-p", "0"], "top_p must be above 0 and at most 1; got 0.0"),
        (["--top-p", "1.5"], "top_p must be"),
        (["--top-k", "0"], "--top-k must be"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be"),
        (["--seed", "-1"], "seed must be"),
        (["--prompt", "a " * 600], "at most 512 tokens, the model's context"),
        (["--prompt", "\udcff"], "a text must be Unicode"),
        (["--attention", "flush"], "attention must be one of"),
        (["--dtype", "fp12"], "dtype must be one of"),
        (["--device", "abacus"], "device must be"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert main([*options, *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_tokenizer_of_another_model_says_both_numbers(
    options: list[str], shared_real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--tokenizer", str(shared_real / "tokenizer.model")]) == 2
    err = capsys.readouterr().err
    assert "32,000" in err
    assert "512" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--checkpoint", "--tokenizer"])
def test_missing_files(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    assert main([*options, option, str(tmp_path / "none.bin")]) == 3
    assert "none.bin" in capsys.readouterr().err


def test_files_in_each_others_place(options: list[str], shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--tokenizer", str(shared_real / "stories260K.bin")]) == 2
    assert main([*options, "--checkpoint", str(shared_real / "tok512.bin")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_with_a_sentencepiece_model(shared_real: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arch = llamalab.LlamaArch(24, 2, 6, 2, 20, 32_000, tied_embeddings=True, max_positions=64)
    write_llama2c(tmp_path / "random.bin", llamalab.build(arch, dtype="fp32"), version=1)
    files = ["--checkpoint", str(tmp_path / "random.bin"), "--tokenizer", str(shared_real / "tokenizer.model")]
    text = printed(["generate", *files, "--prompt", "Grüße 😀", "--max-new-tokens", "20"], capsys)
    assert text.startswith("Grüße 😀")
    assert len(text) > len("Grüße 😀\n")


def test_a_reader_that_leaves_is_no_traceback(options: list[str]) -> None:
    command = [sys.executable, "-m", "llamalab", *options, "--temperature", "0", "--max-new-tokens", "400"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 4)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_terminal_that_is_not_utf8_gets_question_marks(options: list[str]) -> None:
    command = [sys.executable, "-m", "llamalab", *options, "--max-new-tokens", "1", "--prompt", "é"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert done.stdout.startswith(b"?")
    assert done.stderr == b""
