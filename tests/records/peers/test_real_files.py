"""Files that the tools themselves wrote, read whole: every figure is looked up in the file by another way."""

import gzip
import json
import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from llamalab.comparison.run_files import read_runs
from llamalab.records.peers import read_peer
from llamalab.records.run import Run

DATA = Path(__file__).parent / "data"


def the_run(name: str) -> Run:
    (run,) = read_peer(DATA / name)
    return run


def written(name: str) -> Any:
    return json.loads((DATA / name).read_text())


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "sql", "md"])
def test_llama_bench_in_all_its_forms(form: str) -> None:
    run = the_run(f"llama-bench.{form}")
    assert run.tool == "llama-bench"
    assert run.dtype == "int8"
    assert run.settings["build_commit"] == "0c1e570"
    assert [(one.name, one.kind, one.context_tokens) for one in run.phases] == [
        ("pp32", "prefill", 32), ("tg8", "decode", 8), ("pp32 @ d16", "prefill", 48), ("tg8 @ d16", "decode", 24),
    ]  # fmt: skip
    if form in ("json", "jsonl"):
        assert all(len(one.samples_s) == 3 for one in run.phases)


def test_times_of_llama_bench_are_those_in_the_file() -> None:
    rows = written("llama-bench.json")
    for row, phase in zip(rows, the_run("llama-bench.json").phases, strict=True):
        assert phase.total_s == pytest.approx(row["avg_ns"] * 1e-9 / (row["n_gen"] or 1))
    rates = re.findall(r"([\d.]+) ±", (DATA / "llama-bench.md").read_text())
    assert [one.tokens_per_s for one in the_run("llama-bench.md").phases] == pytest.approx(list(map(float, rates)))


def test_a_row_of_markdown_that_is_none_is_refused(tmp_path: Path) -> None:
    from llamalab.errors import FormatError

    bad = tmp_path / "bad.md"
    bad.write_text((DATA / "llama-bench.md").read_text().replace("pp32 @ d16", "warm-up"))
    with pytest.raises(FormatError, match="a test must be like pp512"):
        read_peer(bad)


def test_guidellm_tells_model_load_and_every_request() -> None:
    run, benchmark = the_run("guidellm.json"), written("guidellm.json")["benchmarks"][0]
    ttft, itl = run.phases
    assert ttft.new_tokens is not None
    assert (run.model, run.settings["streams"]) == ("meta-llama/Llama-2-7b-hf", 2)
    assert (ttft.kind, itl.kind, itl.batch) == ("prefill", "decode", 2)
    requests = benchmark["requests"]["successful"]
    assert ttft.samples_s == pytest.approx([one["time_to_first_token_ms"] / 1e3 for one in requests])
    assert ttft.total_s == pytest.approx(benchmark["metrics"]["time_to_first_token_ms"]["successful"]["median"] / 1e3)
    assert abs(ttft.new_tokens - median(one["prompt_tokens"] for one in requests)) <= 0.5


def test_aiperf_tells_model_and_concurrency() -> None:
    run, data = the_run("aiperf.json"), written("aiperf.json")
    assert run.model == "meta-llama/Llama-2-7b-hf"
    assert run.settings == {"concurrency": 2, "request_count": 6}
    assert {one.name: one.batch for one in run.phases} == {"TTFT": 1, "ITL": 2, "request": 1}
    assert run.phases[0].total_s == pytest.approx(data["time_to_first_token"]["p50"] / 1e3)
    assert run.phases[0].new_tokens == data["input_sequence_length"]["avg"]


def test_optimum_benchmark_tells_phases_and_settings() -> None:
    run = the_run("optimum-benchmark.json")
    assert run.device == "AMD EPYC"
    assert (run.model, run.dtype) == ("meta-llama/Llama-2-7b-hf", "fp16")
    assert [(one.name, one.kind, one.batch, one.total_s) for one in run.phases] == [
        ("prefill", "prefill", 2, pytest.approx(0.08)), ("per_token", "decode", 2, pytest.approx(0.02)),
    ]  # fmt: skip
    assert run.phases[0].new_tokens == 512


def test_a_trace_of_torch_adds_up_to_its_outermost_operators(tmp_path: Path) -> None:
    (phase,) = the_run("torch-trace.json").phases
    events = [event for event in written("torch-trace.json")["traceEvents"] if event.get("cat") == "cpu_op"]
    ends = [(event["ts"], event["ts"] + event["dur"]) for event in events]
    outer = [(a, b) for a, b in ends if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in ends)]
    assert sum(op.total_s for op in phase.ops) == pytest.approx(sum(b - a for a, b in outer) * 1e-6 / 2)  # of two steps
    marks = [one["dur"] for one in written("torch-trace.json")["traceEvents"] if one["name"].startswith("ProfilerStep")]
    assert phase.total_s == pytest.approx(sum(marks) * 1e-6 / 2)
    assert any(op.name == "aten::addmm" for op in phase.ops)
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress((DATA / "torch-trace.json").read_bytes()))
    assert read_runs(packed)[0].phases[0].total_s == phase.total_s
    packed.write_bytes(packed.read_bytes()[:-20])
    from llamalab.errors import FormatError

    with pytest.raises(FormatError, match="must be a whole gzip file"):
        read_runs(packed)
