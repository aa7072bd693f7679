import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.analytic.roofline import Rates
from llamalab.attention import BACKENDS
from llamalab.checkpoints import resize_vocabulary, write_llama2c
from llamalab.cli import main
from llamalab.cli.text_options import ATTENTION_HELP
from llamalab.text import decode, load_tokenizer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from tests.checkpoints.test_lora import adapter

pytestmark = pytest.mark.shared


@pytest.fixture
def options(shared_real: Path) -> list[str]:
    files = ["--model", str(shared_real / "stories260K.bin"), "--tokenizer", str(shared_real / "tok512.bin")]
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
    argv = [*options, "--temperature", "0", "--generate", "256", "--attention", attention]
    assert printed(argv, capsys) == story


def test_the_story_from_its_own_beginning(options: list[str], story: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Four tokens of prompt: with 252 more the text is where 256 without a prompt end.
    argv = [*options, "--temperature", "0", "--generate", "252", "--text", "Once upon a time"]
    assert printed(argv, capsys) == story


def test_an_adapter_is_merged(
    options: list[str], story: str, shared_real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*options, "--temperature", "0", "--generate", "20", "--lora"]
    module = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    for scale in (0.0, 5.0):
        tensors = {f"{module}A.weight": torch.full((2, 64), scale), f"{module}B.weight": torch.ones(64, 2)}
        folder = adapter(tmp_path / str(scale), tensors)
        text = printed([*argv, str(folder)], capsys)
        assert story.startswith(text.strip()) == (scale == 0)
        model, tokenizer = llamalab.load(options[2], lora=folder), load_tokenizer(options[4])
        ids = Generation(model, [1], max_new_tokens=20, sampler=Sampler(temperature=0.0), stop_ids=(1, 2))
        assert text == decode(tokenizer, ids) + "\n"
    assert main([*argv, str(tmp_path / "none")]) == 3
    assert "the adapter must exist" in capsys.readouterr().err


def test_the_story_from_python(shared_real: Path, story: str) -> None:
    model = llamalab.load(shared_real / "stories260K.bin")
    tokenizer = load_tokenizer(shared_real / "tok512.bin")
    ids = Generation(model, tokenizer.encode("", bos=True), max_new_tokens=256, sampler=Sampler(temperature=0.0))
    assert decode(tokenizer, ids) + "\n" == story


@pytest.mark.parametrize("prompt", ["  two spaces", "Zoë said “no” 😀", "a\tb\n"])
def test_the_prompt_is_printed_as_given(options: list[str], capsys: pytest.CaptureFixture[str], prompt: str) -> None:
    text = printed([*options, "--temperature", "0", "--generate", "3", "--text", prompt], capsys)
    assert text.startswith(prompt)


def test_control_characters_stay_off_the_terminal(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = printed([*options, "--generate", "1", "--text", "a\x1b[2Jb\x07\x9b"], capsys)
    assert text.startswith("a[2Jb")


def test_a_seed_gives_the_same_text(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*options, "--generate", "60", "--temperature", "1", "--top-k", "50", "--top-p", "0.95", "--seed"]
    first = printed([*argv, "7"], capsys)
    assert printed([*argv, "7"], capsys) == first
    assert printed([*argv, "8"], capsys) != first


@pytest.fixture
def roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring them takes seconds; their measurement has its own tests."""
    monkeypatch.setattr("llamalab.cli.speed.measured_rates", lambda generation: Rates(1e11, 1e10))


def test_the_texts_in_one_answer(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = [*options, "--text", "Lily has", "--text", "One day", "--generate", "9", "--seed", "3"]
    streamed = printed(asked, capsys)
    data = json.loads(printed([*asked, "--format", "json", "--logprobs"], capsys))
    assert [row["text"] for row in data["texts"]] == re.split(r"\n?--- \d of 2 ---\n", streamed.rstrip("\n"))[1:]
    assert [row["generated_tokens"] for row in data["texts"]] == [9, 9]
    assert data["texts"][0]["kv_bytes"] == (data["texts"][0]["prompt_tokens"] + 9) * 2 * 5 * 4 * 8 * 4
    assert len(data["tokens"]) == sum(row["prompt_tokens"] - 1 + 9 for row in data["texts"])
    assert 0 < data["ttft_s"] <= data["total_s"]
    assert printed([*asked, "--out", str(tmp_path / "texts.txt")], capsys) == ""
    assert data["texts"][1]["text"] in (tmp_path / "texts.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("roofs")
def test_stats_go_to_stderr(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--temperature", "0", "--generate", "9", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Once upon a time")
    assert "TTFT" not in out
    assert re.search(r"TTFT [\d.]+ .?s, [\d.]+ % of the roof; decode [\d.,]+ tokens/s \(9 new tokens\), ", err)
    assert re.search(r", [\d.]+ [kMG]B/s, [\d.]+ % of the roof\n", err)
    assert "roofs measured here: 100.00 GFLOP/s, 10.00 GB/s" in err
    assert "finished by length" in err


@pytest.mark.usefixtures("roofs")
def test_stats_of_one_token_make_up_no_rate(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--generate", "1", "--stats"]) == 0
    assert "tokens/s of decode is not measured" in capsys.readouterr().err


def test_prompts_share_passes_and_give_what_each_gives_alone(
    options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = [*options, "--generate", "12", "--temperature", "0.9", "--seed", "4"]
    prompts = ["Lily has a", "", "Once upon a time, there was a big", "Tom"]
    alone = [printed([*argv, "--text", prompt], capsys) for prompt in prompts]
    (tmp_path / "prompts.txt").write_text("Once upon a time, there was a big\n\nTom\n", encoding="utf-8")
    given = ["--text", "Lily has a", "--text", "", "--text-file", str(tmp_path / "prompts.txt")]
    expected = "".join(f"--- {number} of 4 ---\n{text}" for number, text in enumerate(alone, start=1))
    assert printed([*argv, *given], capsys) == expected


def test_a_row_that_ends_early_makes_way(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*options, "--temperature", "0", "--generate", "40", "--stop", "."]
    given = [word for prompt in ("Lily", "Once upon a time", "Tom and") for word in ("--text", prompt)]
    alone = [printed([*argv, "--text", prompt], capsys) for prompt in given[1::2]]
    text = printed([*argv, *given], capsys)
    assert text == "".join(f"--- {number} of 3 ---\n{own}" for number, own in enumerate(alone, start=1))
    assert "." not in text


def test_a_stop_text_ends_before_it_and_does_not_leak(
    options: list[str], story: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*options, "--temperature", "0", "--stop", "girl named Li", "--stop", "zebra"]
    assert printed(argv, capsys) == story[: story.index("girl named Li")] + "\n"


def test_without_echo_only_what_is_new(options: list[str], story: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*options, "--temperature", "0", "--generate", "252", "--text", "Once upon a time", "--no-echo"]
    assert printed(argv, capsys) == story.removeprefix("Once upon a time")


def test_log_probabilities_of_every_token(
    options: list[str], shared_real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*options, "--temperature", "0", "--generate", "3", "--text", "Once upon", "--logprobs"]
    ids = load_tokenizer(shared_real / "tok512.bin").encode("Once upon a time,", bos=True)
    logprobs_TV = llamalab.load(shared_real / "stories260K.bin")(torch.tensor([ids]))[0].detach().log_softmax(-1)
    table = [line.split() for line in printed(argv, capsys).splitlines()[2:]]
    assert [int(row[1]) for row in table] == ids[1:]
    expected = [float(logprobs_TV[at, token_id]) for at, token_id in enumerate(ids[1:])]
    assert [float(row[2]) for row in table] == pytest.approx(expected, abs=1e-4)
    assert len(printed([*argv, "--no-echo"], capsys).splitlines()) == 1 + 1 + 3


def test_min_p_of_one_is_greedy_and_a_penalty_is_not(
    options: list[str], story: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*options, "--generate", "60", "--temperature", "1.5"]
    assert story.startswith(printed([*argv, "--min-p", "1"], capsys).rstrip("\n"))
    assert not story.startswith(printed([*argv, "--min-p", "1", "--repetition-penalty", "1.5"], capsys).rstrip("\n"))


@pytest.mark.parametrize("kv_dtype", ["bf16", "int8", "fp8"])
def test_a_narrow_cache(options: list[str], capsys: pytest.CaptureFixture[str], kv_dtype: str) -> None:
    argv = [*options, "--generate", "8", "--temperature", "0", "--kv-dtype", kv_dtype]
    assert printed(argv, capsys).startswith("Once upon a time")


def test_the_tokenizer_beside_the_checkpoint(
    options: list[str], shared_real: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "any.bin").symlink_to(shared_real / "stories260K.bin")
    argv = ["generate", "--model", str(tmp_path / "any.bin"), "--generate", "4", "--temperature", "0"]
    assert main(argv) == 3
    assert "give the path of one" in capsys.readouterr().err
    (tmp_path / "tokenizer.bin").symlink_to(shared_real / "tok512.bin")
    assert printed(argv, capsys) == "Once upon a time\n"


def test_the_end_of_the_context_is_said(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # With its spaces " a" is one token of this vocabulary: BOS and 510 of them leave 2 to make.
    assert main([*options, "--temperature", "0", "--generate", "4k", "--text", " a" * 509]) == 0
    assert "context of 512 tokens is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--temperature", "-0.5"], "--temperature must be 0 (greedy) or a positive number; got -0.5"),
        (["--temperature", "nan"], "--temperature must be"),
        (["--temperature", "hot"], "--temperature"),
        (["--top-p", "0"], "--top-p must be above 0 and at most 1; got 0.0"),
        (["--top-p", "1.5"], "--top-p must be"),
        (["--top-k", "0"], "--top-k must be"),
        (["--generate", "0"], "--generate must be"),
        (["--seed", "-1"], "seed must be"),
        (["--text", "a " * 600], "at most 512 tokens, the model's context"),
        (["--min-p", "2"], "--min-p must be from 0 to 1; got 2.0"),
        (["--repetition-penalty", "0"], "--repetition-penalty must be a positive number"),
        (["--stop", ""], "--stop must have at least one character"),
        (["--kv-dtype", "int4"], "--kv-dtype must be one of"),
        (["--text-file", os.devnull], "must be a regular file; /dev/null is a device"),
        (["--text-file", sys.executable], "must be UTF-8"),
        (["--text", "\udcff"], "a text must be Unicode"),
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


@pytest.mark.parametrize("option", ["--model", "--tokenizer", "--text-file"])
def test_missing_files(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    assert main([*options, option, str(tmp_path / "none.bin")]) == 3
    assert "none.bin" in capsys.readouterr().err


def test_files_in_each_others_place(options: list[str], shared_real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--tokenizer", str(shared_real / "stories260K.bin")]) == 2
    assert main([*options, "--model", str(shared_real / "tok512.bin")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_with_a_sentencepiece_model(shared_real: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arch = llamalab.LlamaArch(24, 2, 6, 2, 20, 32_000, tied_embeddings=True, max_positions=64)
    write_llama2c(tmp_path / "random.bin", llamalab.build(arch, dtype="fp32"), version=1)
    files = ["--model", str(tmp_path / "random.bin"), "--tokenizer", str(shared_real / "tokenizer.model")]
    text = printed(["generate", *files, "--text", "Grüße 😀", "--generate", "20"], capsys)
    assert text.startswith("Grüße 😀")
    assert len(text) > len("Grüße 😀\n")


def test_a_gguf_file_brings_its_tokenizer(
    shared_real: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arch = llamalab.LlamaArch(24, 2, 6, 2, 20, 32_000, max_positions=64)
    write_llama2c(tmp_path / "random.bin", llamalab.build(arch, dtype="fp32"), version=1)
    source, target = str(tmp_path / "random.bin"), str(tmp_path / "random.gguf")
    words = str(shared_real / "tokenizer.model")
    assert main(["convert", source, target, "--to", "gguf", "--tokenizer", words]) == 0
    capsys.readouterr()
    argv = ["--text", "Grüße 😀", "--generate", "9", "--temperature", "0"]
    expected = printed(["generate", "--model", source, "--tokenizer", words, *argv], capsys)
    assert printed(["generate", "--model", target, *argv], capsys) == expected


def test_an_embedding_that_was_padded(
    options: list[str], shared_real: Path, story: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    padded = resize_vocabulary(llamalab.load(shared_real / "stories260K.bin"), 515)
    with torch.no_grad():
        padded.tok_embeddings.weight[512:] = 3.0  # would be chosen at some point
    write_llama2c(tmp_path / "padded.bin", padded, version=1)
    argv = [*options, "--model", str(tmp_path / "padded.bin"), "--temperature", "0"]
    assert printed(argv, capsys) == story
    write_llama2c(tmp_path / "padded.bin", resize_vocabulary(padded, 800), version=1)
    assert main(argv) == 2
    assert "and at most 256 more" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_traceback(options: list[str]) -> None:
    command = [sys.executable, "-m", "llamalab", *options, "--temperature", "0", "--generate", "400"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 4)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_terminal_that_is_not_utf8_gets_question_marks(options: list[str]) -> None:
    command = [sys.executable, "-m", "llamalab", *options, "--generate", "1", "--text", "é"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert done.stdout.startswith(b"?")
    assert done.stderr == b""


def test_the_help_names_every_attention_backend() -> None:
    named = ATTENTION_HELP.partition(" (default")[0].replace("(as PyTorch picks)", "").replace(" or ", ", ")
    assert [name.strip() for name in named.split(",")] == list(BACKENDS)


def test_prompts_files_end_lines_where_editors_do(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes("\ufeffTom\u2028and\x0b\x85\r\n\r\nLily\nMia\r".encode())
    text = printed([*options, "--temperature", "0", "--max-new-tokens", "1", "--prompts-file", str(prompts)], capsys)
    assert re.findall(r"--- \d of (\d) ---", text) == ["3", "3", "3"]
    assert "--- 1 of 3 ---\nTom\u2028and" in text


@pytest.fixture
def folder(shared_real: Path, tmp_path: Path) -> Path:
    """stories260K as a Hugging Face folder, whose embedding has 16 rows more than its tokenizer has pieces."""
    from llamalab.checkpoints.convert import Wishes, convert

    wishes = Wishes(tokenizer=str(shared_real / "tok512.bin"), vocab_size=528)
    convert(shared_real / "stories260K.bin", tmp_path / "hf", "hf", wishes)
    return tmp_path / "hf"


def test_settings_beside_the_weights_are_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "generate",
        "--checkpoint",
        str(folder),
        "--temperature",
        "0",
        "--max-new-tokens",
        "9",
        "--prompt",
        "Lily has",
    ]
    assert printed(argv, capsys) == "Lily has a big box. She liked\n"
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 370]}')
    assert printed(argv, capsys) == "Lily has a\n"


def test_infilling(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from llamalab.text.model_proto import Pieces, read_pieces, write_proto

    argv = ["generate", "--checkpoint", str(folder), "--temperature", "0", "--max-new-tokens", "9"]
    assert main([*argv, "--infill", "Lily", " box"]) == 2
    assert "as Code Llama 7B and 13B have" in capsys.readouterr().err
    texts, scores, kinds = read_pieces((folder / "tokenizer.model").read_bytes())
    more = ["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"]
    pieces = Pieces(texts + more, scores + [-1e3] * 4, kinds + [3] * 4)
    (folder / "tokenizer.model").write_bytes(write_proto(pieces, bos_id=1, eos_id=2, space_first=True))
    (folder / "tokenizer.json").unlink()
    made = {printed([*argv, "--infill", "Lily has a", " box", "--infill-order", order], capsys)
            for order in ("prefix-first", "suffix-first")}  # fmt: skip
    assert len(made) == 2
    assert not any("Lily" in text for text in made)
    assert main([*argv, "--infill", "a", "b", "--prompt", "c"]) == 2
    assert "--infill must be given alone" in capsys.readouterr().err


def test_a_prompt_format_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["generate", "--checkpoint", str(folder), "--temperature", "0", "--max-new-tokens", "3", "--prompt", "Hi"]
    assert printed([*argv, "--prompt-format", "llama2"], capsys).startswith("[INST] Hi [/INST]")
    assert printed([*argv, "--prompt-format", "alpaca"], capsys).startswith("Below is an instruction that describes")
    assert main([*argv, "--prompt-format", "llama3"]) == 2
    assert "must have the piece <|start_header_id|>" in capsys.readouterr().err
