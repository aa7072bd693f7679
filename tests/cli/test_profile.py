"""`llamalab profile`: the tables, the data, the files, and what is refused."""

import csv
import io
import json
from pathlib import Path

import pytest

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.presets import PRESETS
from llamalab.records.profile import profiles_from_json
from llamalab.records.record_json import record_to_json
from tests.cli.calls import Capture, printed, refused
from tests.report.sample import sample_record

ARCH = PRESETS["stories260k"].arch
PASS = ("profile", "--model", "stories260k", "--dtype", "fp32", "--device", "cpu", "--prompt", "9")


@pytest.fixture
def roofs(tmp_path: Path) -> str:
    path = tmp_path / "record.json"
    path.write_text(record_to_json(sample_record("stories260k", dtype="fp32")), encoding="utf-8")
    return str(path)


def test_csv_has_every_operation_of_every_phase(capsys: Capture, roofs: str) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, *PASS, "--roofs", roofs, "--format", "csv"))))
    expected = [
        (phase, op.name)
        for phase, new_tokens, context in (("prefill", 9, 9), ("decode", 1, 10))
        for op in forward_ops(ARCH, PassShape(new_tokens=new_tokens, context_tokens=context))
    ]
    assert [(row["phase"], row["name"]) for row in rows] == expected
    known = ("calls", "time_s", "device_s", "gap_s", "share", "flops_per_s", "bytes_per_s", "roof_fraction",
             "predicted_s", "error", "kernels")  # fmt: skip
    assert all(row[key] for row in rows for key in known)


def test_json_goes_to_a_file_with_memory_and_what_looking_costs(capsys: Capture, roofs: str, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    options = ("--phase", "decode", "--roofs", roofs, "--format", "json", "--out", str(out))
    assert printed(capsys, *PASS, *options) == ""
    (profile,) = json.loads(out.read_text(encoding="utf-8"))["profiles"]
    (kept,) = profiles_from_json(out.read_text(encoding="utf-8"))  # what llamalab report --from reads
    assert kept.phase("decode").fault is None
    (phase,) = profile["phases"]
    assert phase["phase"] == "decode"
    assert phase["memory"]["peak_bytes"] == sum(one["bytes"] for one in phase["memory"]["at_peak"])
    assert {tool["name"] for tool in phase["instruments"]} == {"op clock", "profiler", "memory"}
    assert profile["environment"]["command"].startswith("llamalab profile --model stories260k --phase decode")


def test_the_table_says_what_ran_and_whether_it_adds_up(capsys: Capture, roofs: str) -> None:
    text = printed(capsys, *PASS, "--phase", "prefill", "--roofs", roofs)
    assert "5 of 5 blocks took" in text
    assert "of the wall time" in text
    assert "attention kernel: in steps" in text
    fused = printed(capsys, *PASS, "--phase", "prefill", "--roofs", roofs, "--attention", "sdpa")
    assert "attention kernel: aten::_scaled_dot_product_flash_attention_for_cpu" in fused
    assert "not known: memory_clock_hz, power_w, temperature_c, throttle_reasons: not readable on a CPU" in text
    for caption in (
        "Time by operation",
        "Alive at the peak",
        "Cost of the instruments",
        "projections",
        "State of the dev",
    ):
        assert caption in text


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_stands_beside(capsys: Capture, roofs: str) -> None:
    options = ("--phase", "decode", "--roofs", roofs, "--beside", "transformers", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(printed(capsys, *PASS, *options))))
    assert {row["kind"] for row in rows} == {"llamalab", "transformers"}
    assert "layers.*.attention.rope+kv_append+flash" in {row["name"] for row in rows}


def test_traces_are_written(capsys: Capture, roofs: str, tmp_path: Path) -> None:
    printed(capsys, *PASS, "--phase", "decode", "--roofs", roofs, "--trace", str(tmp_path / "t"))
    assert (tmp_path / "t" / "stories260k-cpu" / "decode.pt.trace.json").is_file()


def test_mistakes_are_refused_before_any_work(capsys: Capture, tmp_path: Path) -> None:
    assert refused(capsys, *PASS, "--phase", "decode,train").startswith("--phase must be one of prefill, decode")
    message = refused(capsys, *PASS, "--roofs", str(tmp_path / "none.json"), code=3)
    assert message.startswith("the record of --roofs must exist; there is no file ")
    assert refused(capsys, *PASS, "--out", str(tmp_path)).startswith("the output must be a file")
