"""One sentence and the right exit code, whatever happens."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

import llamalab
from llamalab.cli import VERBS, main
from tests.cli.calls import Capture, printed, refused


def test_without_a_verb_the_verbs_are_shown(capsys: Capture) -> None:
    greeting, overview = printed(capsys), printed(capsys, "-h")
    assert all(f"llamalab {verb} " in greeting for verb in ("report", "predict", "kv"))
    assert overview == printed(capsys, "--help") == printed(capsys, "help")
    assert all(f"  {verb} " in overview and summary in overview for verb, summary in VERBS.items())


def test_version(capsys: Capture) -> None:
    assert printed(capsys, "--version") == f"llamalab {llamalab.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_the_static_table_says_what_the_verb_says_and_help_ends_in_examples(capsys: Capture, verb: str) -> None:
    module = import_module(f"llamalab.cli.{verb.replace('-', '_')}")
    assert VERBS[verb] == module.SUMMARY
    assert 2 <= len(module.EXAMPLES) <= 3
    text = printed(capsys, verb, "--help")
    assert text.startswith(f"usage: llamalab {verb} ")
    assert text.endswith("examples:\n" + "".join(f"  {example}\n" for example in module.EXAMPLES))


CALCULATOR_EXAMPLES = [
    example
    for verb in ("kv", "params", "flops", "fit", "models", "hardware")
    for example in import_module(f"llamalab.cli.{verb}").EXAMPLES
    if "path/to/" not in example
]


@pytest.mark.parametrize("example", CALCULATOR_EXAMPLES)
def test_every_example_of_a_calculator_runs(capsys: Capture, example: str) -> None:
    assert printed(capsys, *example.split()[1:])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("kvs",), "got 'kvs'; did you mean kv?"),
        (("KV",), "did you mean kv?"),
        (("benchmark",), "did you mean bench?"),
        (("memory",), "did you mean fit?"),
        (("serve",), "did you mean chat?"),
        (("kv", "--tp", "0"), "--tp must be at least 1; got 0"),
        (
            (
                "kv",
                "--tensor-parallel=0",
            ),
            "--tensor-parallel must be at least 1; got 0",
        ),
        (("--model", "7b"), "options must follow a verb; got '--model'; see llamalab --help"),
        (("kv", "--contxt", "4096"), "llamalab kv has no option --contxt; did you mean --context?"),
        (("kv", "--bat", "3"), "llamalab kv has no option --bat; did you mean --batch?"),
        (("kv", "--zzz=1"), "llamalab kv has no option --zzz; see llamalab kv --help"),
        (
            ("kv", "7b"),
            "llamalab kv takes no argument '7b'; write --model 7b where it is a model, or see llamalab kv --help",
        ),
        (("kv", "--context"), "--context must be followed by a value; got none; see llamalab kv --help"),
        (("kv", "--context", "4q"), "--context must be a whole number of at least 1; got '4q'; try 4096, 4_096 or 4k"),
        (("kv", "--context", "0"), "--context must be at least 1; got 0"),
        (("kv", "--context", "-5"), "--context must be a whole number of at least 1; got '-5'; try 4096, 4_096 or 4k"),
        (("kv", "--batch", "1e99"), "--batch must be a whole number"),
        (("kv", "--batch", "99999999999999"), "--batch must be at most 1,000,000,000; got 99999999999999"),
        (
            ("kv", "--dtype", "bf17"),
            "--dtype must be one of bf16, fp16, fp32, int8, fp8; got 'bf17'; did you mean bf16",
        ),
        (("kv", "--format", "yaml"), "--format must be one of table, json, csv, md; got 'yaml'"),
        (("kv", "--model", "7bb"), "got '7bb'; did you mean 7b or 70b?"),
        (("kv", "--kv-heads", "5"), "must divide n_heads=32; got 5; try one of 32, 16, 8, 4, 2, 1"),
        (("fit",), "--free must be given; got none; see llamalab fit --help"),
        (("fit", "--memory", "1GB", "--free", "1GB"), "must not be given together; got both"),
        (
            ("fit", "--memory", "16G"),
            "--memory must name its unit in full; got '16G'; write 16GiB (powers of 2) or 16GB",
        ),
        (("fit", "--memory", "0GiB"), "--memory must be between 1 B and 1,000,000 TB; got '0GiB'"),
        (("fit", "--memory", "-1GB"), "--memory must be followed by a value; got none; see llamalab fit --help"),
        (("flops", "--phase", "prefil"), "--phase must be one of prefill, decode; got 'prefil'; did you mean prefill?"),
        (("hardware", "mi"), "hardware must be one of"),
        (("generate", "--temperature", "warm"), "--temperature must be a number; got 'warm'"),
        (("generate",), "--model must be given; see llamalab generate --help"),
    ],
)
def test_bad_input_gets_one_sentence_and_2(capsys: Capture, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("kv", "--model", "absent/config.json"), "there is no file absent/config.json"),
        (("fit", "--memory", "10GiB"), "too little; try weights in int8"),
        (("fit", "--memory", "24GiB", "--context", "1m"), "too little; try context"),
    ],
)
def test_what_is_missing_or_does_not_fit_gets_3(capsys: Capture, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(capsys, *argv, code=3)


def raising(error: BaseException) -> object:
    def run(_: object) -> int:
        raise error

    return run


def test_ctrl_c_ends_with_130_and_no_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamalab.cli.kv.answer", raising(KeyboardInterrupt()))
    assert main(["kv"]) == 130
    assert capsys.readouterr().err == "llamalab: interrupted\n"


def test_a_missing_package_ends_with_3_and_names_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ModuleNotFoundError("No module named 'torch'", name="torch")
    monkeypatch.setattr("llamalab.cli.kv.answer", raising(missing))
    sentence = refused(capsys, "kv", code=3)
    assert sentence == (
        "llamalab kv needs the Python package torch; it is not installed; "
        "run llamalab doctor for the command that mends it"
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamalab.cli.kv.answer", raising(ModuleNotFoundError("x", name="llamalab.lost")))
    with pytest.raises(ModuleNotFoundError):
        main(["kv"])


def test_an_error_of_several_lines_is_printed_as_one(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.errors import InputError

    monkeypatch.setattr("llamalab.cli.kv.answer", raising(InputError("x must be y;\n  got\tz")))
    assert refused(capsys, "kv") == "x must be y; got z"


COMMAND = [sys.executable, "-m", "llamalab"]


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    process = subprocess.Popen(
        [*COMMAND, "hardware", "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_a_terminal_without_the_signs_gets_question_marks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    finished = subprocess.run([*COMMAND, "kv"], capture_output=True, env=environment, timeout=60)
    assert finished.stderr == b""
    assert b"2 (K,V) ? 32 layers ? 32 KV heads" in finished.stdout


def test_kv_imports_nothing_heavy() -> None:
    code = (
        "import sys; from llamalab.cli import main; main(['kv', '--seq', '4096', '--batch', '16']);"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'dataclasses', 'inspect', 'pathlib', 'json', 'difflib'};"
        "sys.exit(' '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert "34,359,738,368" in finished.stdout
