"""The verb `bench`: its forms, what a Ctrl-C leaves, and its refusals; times are not looked at."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from llamalab.cli import bench as verb
from llamalab.cli import main
from llamalab.cli.parser import Parser
from llamalab.measure.bench import one_case, reference_here
from llamalab.measure.bench import run as bench
from tests.cli.calls import Capture, loaded, printed, refused
from tests.report.sample import sample_record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bench.md"
SMALL = ["bench", "--model", "stories260k", "--device", "cpu", "-r", "2", "--threads", "1"]
TESTS = ["-p", "6,4", "-n", "3", "--pg", "5,2", "-d", "0,7", "-b", "1,2"]
NAMES = ["pp6", "pp4", "tg3", "pp5+tg2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_here, "measure_reference", lambda *a, **k: sample_record())


def test_json_has_a_row_for_every_combination_with_its_raw_times(capsys: Capture) -> None:
    rows = loaded(capsys, *SMALL, *TESTS)["rows"]
    assert [(row["test"], row["batch"]) for row in rows] == [
        (name + depth, batch) for depth in ("", " @ d7") for batch in (1, 2) for name in NAMES
    ]
    assert all(len(row["passes_s"]) == row["repetitions"] == 2 and row["tokens_per_s"] > 0 for row in rows)
    assert {(row["model"], row["threads"], row["dtype"], row["blocks"]) for row in rows} == {
        ("stories260k", 1, "bf16", "5 blocks")
    }


def test_json_lines_csv_and_markdown_have_a_line_per_row(capsys: Capture) -> None:
    lines = [json.loads(line) for line in printed(capsys, *SMALL, "-p", "6", "-n", "3", "-o", "jsonl").splitlines()]
    assert [line["test"] for line in lines] == ["pp6", "tg3"]
    table = list(csv.DictReader(io.StringIO(printed(capsys, *SMALL, "-p", "6", "-n", "3", "-o", "csv"))))
    assert [row["test"] for row in table] == ["pp6", "tg3"]
    assert set(table[0]) == set(lines[0]) - {"passes_s"}
    head, rule, *rows = printed(capsys, *SMALL, "-p", "6", "-n", "3", "-o", "md").splitlines()
    assert head.startswith("| model | size | params | backend | threads | ")
    assert set(rule) <= set("|-: ")
    assert [row.split(" | ")[10] for row in rows] == ["pp6", "tg3"]
    assert len({line.count(" | ") for line in (head, *rows)}) == 1


def test_table_says_once_what_all_rows_share(capsys: Capture) -> None:
    text = printed(capsys, *SMALL, "-p", "6", "-n", "3", "--tie-blocks", "2")
    assert text.startswith("stories260k: 507.88 KiB, 260.03 kparameters, bf16 on ")
    assert text.count("predicted from roofs alone") == 1
    assert text.count("tied 2 of 5 blocks") == 2


@pytest.mark.parametrize("form", ["jsonl", "csv", "md", "json", "table"])
@pytest.mark.parametrize("to_file", [False, True])
def test_ctrl_c_keeps_what_is_done_whole(
    form: str, to_file: bool, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, path = bench.measure_case, tmp_path / "rows"

    def interrupted(one: bench.BenchSettings, model: object, case: bench.BenchCase, tell: object) -> one_case.Timed:
        if case.generate:
            raise KeyboardInterrupt
        return measure(one, model, case, tell)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "measure_case", interrupted)
    out = ["--out", str(path)] if to_file else []
    assert main([*SMALL, "-p", "6,4", "-n", "3", "-o", form, *out]) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("llamalab: interrupted\n")
    text = path.read_text(encoding="utf-8") if to_file else captured.out
    assert text.endswith("\n")
    assert "pp6" in text
    assert "pp4" in text
    assert "tg3" not in text
    if form == "json":
        assert len(json.loads(text)["rows"]) == 2
    assert not to_file or (captured.out == "" and [one.name for one in tmp_path.iterdir()] == ["rows"])


def test_rows_are_printed_as_they_are_done(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, seen = bench.measure_case, []

    def looked(one: bench.BenchSettings, model: object, case: bench.BenchCase, tell: object) -> one_case.Timed:
        seen.append(capsys.readouterr().out.count("\n"))
        return measure(one, model, case, tell)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "measure_case", looked)
    assert main([*SMALL, "-p", "6,4", "-n", "3", "-o", "md"]) == 0
    assert seen == [0, 3, 1]


def test_what_cannot_run_is_a_row_and_nothing_that_ran_ends_with_3(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "available_bytes", lambda place: 1000)
    assert main([*SMALL, "-o", "jsonl"]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["tokens_per_s"] for row in rows] == [None, None]
    assert all("must fit into 90% of the free memory, 1000 B" in row["reason"] for row in rows)
    assert main(SMALL) == 3
    assert "must fit into 90%" in capsys.readouterr().out


def test_several_models_come_one_after_the_other(capsys: Capture) -> None:
    rows = loaded(capsys, *SMALL, "-m", "stories260k,tiny", "-p", "0", "-n", "2")["rows"]
    assert [(row["model"], row["test"]) for row in rows] == [("stories260k", "tg2"), ("tiny", "tg2")]


def test_without_a_terminal_every_step_is_a_line_on_stderr(capsys: Capture) -> None:
    assert main([*SMALL, "-p", "6", "-n", "0"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(
        re.search(r"^ *\d+% pp6, batch 1: repetition 2 of 2(, about \d+ s left|, nearly done)?$", line)
        for line in lines
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-p", "0", "-n", "0"], "a bench must have a test; -p and -n are 0 and there is no --pg"),
        (["-p", "many"], "-p must be a whole number of at least 1; got 'many'"),
        (["-b", "0"], "a test must have a prompt or tokens to generate, at depth 0 or more and batch 1 or more"),
        (["--pg", "512"], "--pg must be a prompt and a generation, as 512,128; got '512'"),
        (["--pg", "512,x"], "--pg must be a whole number of at least 1; got 'x'"),
        (["-r", "0"], "-r must be at least 1"),
        (["-o", "sql"], "-o must be one of table, csv, jsonl, md, json; got 'sql'"),
        (["--tie-blocks", "6"], "tie_blocks must be auto or 1 to the model's 5 blocks; got 6"),
        (["--tie-blocks", "on"], "--tie-blocks must be a whole number of at least 1; got 'on'"),
        (["--compile", "all"], "--compile must be one of none, block"),
        (["--attention", "flesh"], "did you mean flash"),
        (["--model", "stories260k,8b"], "model must be one of"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_work(options: list[str], said: str, capsys: Capture) -> None:
    assert said in refused(capsys, *SMALL, *options)


def test_a_file_that_cannot_be_written_is_said_before_any_work(capsys: Capture, tmp_path: Path) -> None:
    assert "the output must be a file" in refused(capsys, *SMALL, "--out", str(tmp_path))


def test_the_page_shows_a_command_that_can_be_given_and_the_columns_of_today(capsys: Capture) -> None:
    (command,) = re.findall(r"^\$ llamalab (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("model "))
    parser = Parser("llamalab bench", verb.SUMMARY, verb.EXAMPLES)
    verb.configure(parser)
    assert parser.parse_args(command.split()[1:]).tie_blocks == 3
    heads = [line for line in printed(capsys, *SMALL, "-p", "6").splitlines() if line.startswith("model ")]
    assert [line.split() for line in heads] == [shown.split()]


def test_rows_without_a_prediction_have_a_dash_and_the_reason(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object, **__: object) -> None:
        raise KeyError("gemm")

    monkeypatch.setattr(reference_here, "measure_reference", measure)
    text = printed(capsys, *SMALL, "-p", "6", "-n", "3", "-o", "md")
    for row in text.splitlines()[2:]:
        assert " | - | " in row
        assert "not predicted: 'gemm'" in row
    assert "not predicted: 'gemm'" in printed(capsys, *SMALL, "-p", "6", "-n", "3").splitlines()[0]


def test_a_disturbed_row_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([[1.0], [1.0], [2.0], [2.0], [2.0], [2.0], [2.0], [2.0], [2.0]])
    monkeypatch.setattr(one_case, "time_passes", lambda *_: next(times))
    monkeypatch.setattr(one_case, "fused_kernel", lambda work, place: None)
    text = printed(capsys, *SMALL, "-p", "6", "-n", "0", "-o", "md")
    assert "DISTURBED: repetitions up to 100 % apart after 6 more" in text


def test_repetitions_that_spread_carry_a_warning() -> None:
    from llamalab.cli.bench_output import bench_text
    from llamalab.measure.bench.rows import BenchRow

    def row(*seconds: float) -> BenchRow:
        return BenchRow(
            model="7b", size_bytes=1, parameters=1, backend="cpu", device="cpu", threads=2, dtype="bf16",
            attention="sdpa", kernel=None, compiled="none", blocks_distinct=1, blocks_total=1, blocks="all",
            test="pp512", prompt_tokens=512, generated_tokens=0, depth_tokens=0, batch=1, basis="measured",
            passes_s=[[second] for second in seconds],
        )  # fmt: skip

    assert "UNSTEADY: repetitions spread by 99% of their mean" in bench_text([row(1.0, 0.2, 1.0)], "table")
    assert "UNSTEADY" not in bench_text([row(1.0, 1.01, 0.99)], "table")
