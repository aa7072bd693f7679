"""Records as DataFrames: a row an operation, a sample or a pass, and nothing lost on the way."""

import io
import json
from pathlib import Path
from statistics import median

import pandas
import pytest

import llamalab
from llamalab.comparison.comparison import Comparison
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.records.peers import read_peer
from llamalab.records.profile import profile_in
from llamalab.records.record_json import record_from_json
from llamalab.records.tables import csv_of_rows
from llamalab.report.page import report_tables
from tests.records.peers import files

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example-7b-cpu.json"


def test_a_record_is_passes_parts_ops_samples_and_roofs() -> None:
    record, made = record_from_json(EXAMPLE.read_text()), llamalab.frames(EXAMPLE)
    assert len(made["passes"]) == len(record.passes)
    assert list(made["passes"].time_s) == [one.total_s for one in record.passes]
    assert len(made["ops"]) == sum(len(one.ops) for one in record.passes)
    assert len(made["samples"]) == sum(len(row.samples_s) for one in record.passes for row in (*one.parts, *one.ops))
    grouped = made["samples"].query("of == 'ops' and phase == 'decode'").groupby("name").time_s.median()
    for op in record.phase("decode").ops:
        assert grouped[op.name] == pytest.approx(median(op.samples_s))
    assert {"basis"} <= set(made["ops"].columns) & set(made["roofs"].columns) & set(made["passes"].columns)


def test_a_record_in_memory_and_its_file_give_the_same() -> None:
    ours, theirs = llamalab.frames(record_from_json(EXAMPLE.read_text())), llamalab.frames(str(EXAMPLE))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equals(theirs[name]) for name in ours)


def test_a_profile_is_phases_ops_and_memory() -> None:
    profile = profile_in(record_from_json(EXAMPLE.read_text()))
    if profile is None:
        pytest.skip("the example was made before reports had profiles")
    made = llamalab.frames(profile)
    assert len(made["ops"]) == sum(len(phase.ops) for phase in profile.phases)
    assert all({*frame.basis} <= {"measured", "extrapolated"} for frame in made.values())


def test_a_bench_is_tests_and_samples(tmp_path: Path) -> None:
    row = {"model": "7b", "test": "tg2", "depth_tokens": 0, "batch": 1, "passes_s": [[0.1, 0.2], [0.3, 0.4]],
           "basis": "measured"}  # fmt: skip
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps(row) + "\n")
    made = llamalab.frames(path)
    assert list(made["tests"].test) == ["tg2"]
    assert {*made["tests"].basis, *made["samples"].basis} == {"measured"}
    assert list(made["samples"].time_s) == [0.1, 0.2, 0.3, 0.4]
    assert list(made["samples"].repetition) == [0, 0, 1, 1]


def test_a_comparison_is_phases_and_ops(tmp_path: Path) -> None:
    path, result = tmp_path / "comparison.json", llamalab.compare("7b@l4", "7b@h200")
    path.write_text(result.to_json())
    made = llamalab.frames(path)
    assert list(made["phases"].phase) == ["prefill", "decode"]
    assert {*made["phases"].basis, *made["ops"].basis} == {"predicted"}
    assert made["ops"].groupby("phase").delta_s.sum()["decode"] == pytest.approx(made["phases"].delta_s[1])
    path.write_text('{"comparisons": [{"phases": 3}]}')
    with pytest.raises(FormatError, match="what llamalab compare prints"):
        llamalab.frames(path)


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        llamalab.frames(tmp_path / "absent.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FormatError):
        llamalab.frames(tmp_path / "x.json")
    with pytest.raises(InputError, match="got int"):
        llamalab.frames(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [files.llama_bench_csv(), files.vllm_serve(), files.trace_of_kernels()])
def test_what_other_tools_write_is_phases_ops_and_samples(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "result").write_text(text)
    [run] = read_peer(path)
    made = llamalab.frames(path)
    assert list(made["phases"].total_s) == [one.total_s for one in run.phases]
    assert set(made["phases"].tool) == {run.tool}
    assert len(made["ops"]) == sum(len(one.ops) for one in run.phases)
    assert len(made["samples"]) == sum(len(row.samples_s) for one in run.phases for row in (one, *one.ops))


def test_the_csv_of_a_report_is_a_frame_of_raw_values() -> None:
    table = report_tables(Comparison(record_from_json(EXAMPLE.read_text())))["ops"]
    read = pandas.read_csv(io.StringIO(table.csv))
    assert list(read.columns) == [column.key for column in table.columns]
    assert list(read.measured_s.dropna()) == [row["measured_s"] for row in table.rows if row["measured_s"] is not None]
    assert csv_of_rows(["a", "b"], [{"a": 1}, {"a": None, "b": "x,\n"}]) == 'a,b\n1,\n,"x,\n"\n'
