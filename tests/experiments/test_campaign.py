"""The campaign on steps that measure nothing: what is run, kept, left out, reported and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import campaign
from experiments.common.campaign_makers import (
    Job,
    Made,
    cases,
    cuda_test_files,
    make_bench,
    make_cuda_tests,
    make_experiment,
)
from experiments.common.campaign_steps import Step, all_steps
from experiments.common.isolated import Outcome, run_isolated
from llamalab.errors import UnknownNameError
from llamalab.files.outputs import write_text
from llamalab.presets import PRESETS
from llamalab.report.experiment_results import recorded_results
from llamalab.report.recorded_runs import recorded_runs
from tests.report.sample import sample_record

STAMP = {"source": "1", "device": "a"}
CPU = torch.device("cpu")


def write(job: Job, name: str) -> Made:
    write_text(job.folder / f"{name}.json", json.dumps({"of": name}))
    return Made(f"{name} is 1.5 GB/s", (f"a row of {name}",))


def fail(job: Job) -> Made:
    raise RuntimeError("no such kernel")


def interrupt(job: Job) -> Made:
    raise KeyboardInterrupt


def hang(job: Job) -> Made:
    time.sleep(60)
    return Made("")


def exit_hard(job: Job) -> Made:
    signal.raise_signal(signal.SIGKILL)
    return Made("")


def step(name: str, estimate_s: float = 1.0, make: Callable[[Job], Made] | None = None) -> Step:
    return Step(name, f"{name}.json", estimate_s, f"about {name}", make or partial(write, name=name))


def in_process(work: Callable[[], object], limit_s: float) -> Outcome:
    try:
        return Outcome(work())
    except Exception as error:
        return Outcome(None, f"{type(error).__name__}: {error}", "trace")


def run(steps: list[Step], folder: Path, **options: Any) -> list[tuple[str, str]]:
    given = {"budget_s": 100.0, "run": in_process} | options
    found = campaign.run_steps(steps, Job(folder, "cpu", ("tiny",)), given.pop("stamp", STAMP), **given)
    return [(one.step.name, one.state) for one in found]


def test_steps_leave_files_and_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [step("one"), step("two")]
    assert run(steps, tmp_path) == [("one", "done"), ("two", "done")]
    assert json.loads((tmp_path / "one.json").read_text()) == {"of": "one"}
    assert capsys.readouterr().out.count("a row of") == 2
    assert run(steps, tmp_path) == [("one", "kept"), ("two", "kept")]
    (tmp_path / "two.json").unlink()
    assert run(steps, tmp_path) == [("one", "kept"), ("two", "done")]
    assert run(steps, tmp_path, stamp=STAMP | {"source": "2"}) == [("one", "done"), ("two", "done")]
    assert run(steps, tmp_path, stamp=STAMP | {"source": "2"}, again=True) == [("one", "done"), ("two", "done")]


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert campaign.read_kept(tmp_path).made == {}
    for spoilt in ("{", "[]", '{"campaign": []}'):
        (tmp_path / campaign.MANIFEST).write_text(spoilt)
        assert campaign.read_kept(tmp_path).made == {}


def test_what_does_not_fit_into_the_budget_is_left_out(tmp_path: Path) -> None:
    moments = iter(range(0, 10_000, 10))  # every look at the clock is 10 s later
    steps = [step("first", 20), step("large", 60), step("small", 5)]
    states = run(steps, tmp_path, budget_s=70, now=lambda: float(next(moments)))
    assert states == [("first", "done"), ("large", "left out"), ("small", "done")]
    assert not (tmp_path / "large.json").exists()


def test_a_step_may_not_outlast_the_budget_by_much(tmp_path: Path) -> None:
    limits: list[float] = []

    def note(work: Callable[[], object], limit_s: float) -> Outcome:
        limits.append(limit_s)
        return in_process(work, limit_s)

    run([step("short", 5), step("long", 50)], tmp_path, run=note, now=lambda: 0.0)
    assert limits == [50.0, 130.0]  # four times the estimate, or all that is left; and a grace


def test_a_step_that_fails_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = run([step("bad", make=fail), step("good")], tmp_path)
    assert states == [("bad", "failed"), ("good", "done")]
    assert "bad failed: RuntimeError: no such kernel" in capsys.readouterr().err
    assert run([step("bad"), step("good")], tmp_path) == [("bad", "done"), ("good", "kept")]


def test_ctrl_c_keeps_what_was_done(tmp_path: Path) -> None:
    steps = [step("one"), step("two", make=interrupt), step("three")]
    assert run(steps, tmp_path) == [("one", "done"), ("two", "interrupted")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [campaign.MANIFEST, "one.json"]
    assert list(json.loads((tmp_path / campaign.MANIFEST).read_text())["campaign"]) == ["one"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (fail, "RuntimeError: no such kernel"),
        (hang, "stopped after 3 s"),
        (exit_hard, "its process ended with code -9"),
        (interrupt, "its process ended with code 0"),
    ],
)
def test_a_step_in_its_own_process_may_end_in_any_way(make: Callable[[Job], Made], told: str, tmp_path: Path) -> None:
    limit_s = 3.0 if make is hang else 60.0
    outcome = run_isolated(partial(make, Job(tmp_path, "cpu", ())), limit_s)
    assert (outcome.value, outcome.error) == (None, told)
    assert ("no such kernel" in outcome.trace) == (make is fail)


def test_what_a_process_made_comes_back(tmp_path: Path) -> None:
    outcome = run_isolated(partial(write, Job(tmp_path, "cpu", ()), name="far"), 60.0)
    assert outcome == Outcome(Made("far is 1.5 GB/s", ("a row of far",)))
    assert (tmp_path / "far.json").exists()


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [step("one"), step("two", make=fail), step("three", 1000.0)]
    monkeypatch.setattr(campaign, "all_steps", lambda kind, models: steps)
    argv = ["--device", "cpu", "--out", str(tmp_path), "--budget", "50"]
    before = signal.getsignal(signal.SIGTERM)
    assert campaign.main(argv, run=in_process) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    last = capsys.readouterr().out.splitlines()[-4:]
    assert last[0].startswith(f"{campaign.machine_folder(CPU)}: 1 records made in ")
    assert [line.split()[0] for line in last[1:]] == ["done", "failed", "left"]
    assert "one is 1.5 GB/s" in last[1]
    assert campaign.main([*argv, "--only", "one"], run=in_process) == 0
    assert campaign.main([*argv, "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ["one", "two", "three"]
    assert campaign.main([*argv, "--only", "on"]) == 2
    assert "one" in capsys.readouterr().err
    steps[1:] = [step("two", make=interrupt)]
    assert campaign.main(argv, run=in_process) == 130


def test_steps_have_names_and_files_of_their_own() -> None:
    for kind, models in (("cuda", ["7b", "13b", "70b"]), ("cpu", ["tiny", "7b"])):
        steps = all_steps(kind, models)
        assert len({one.name for one in steps}) == len({one.file for one in steps}) == len(steps)
        assert {f"report-{name}" for name in models} < {one.name for one in steps}
    assert campaign.chosen(steps, "bench-7b, calibration") == [steps[0], next(s for s in steps if s.name == "bench-7b")]
    with pytest.raises(UnknownNameError, match="bench-7"):
        campaign.chosen(steps, "bench-7")


def test_most_of_a_gpus_steps_fit_into_the_budget() -> None:
    steps = all_steps("cuda", ["7b", "13b", "70b"])
    *first, compiled, versus = steps
    assert (compiled.name, versus.name) == ("bench-7b-compiled", "versus")
    assert sum(one.estimate_s for one in first if one.name != "decode_compiled") < 600
    sizes = {(case.batch, case.context) for case in cases("cuda", PRESETS["70b"].arch)}
    assert {batch for batch, _ in sizes} == {1, 4, 16, 64}
    assert max(context for _, context in sizes) == 4096


def test_the_folder_is_that_of_the_committed_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(campaign, "device_name", lambda device: "AMD EPYC")
    assert campaign.machine_folder(CPU) == "cpu-amd-epyc-2-threads"
    monkeypatch.setattr(campaign, "device_name", lambda device: "NVIDIA H200")
    assert campaign.machine_folder(torch.device("cuda", 0)) == "nvidia-h200"


def test_the_stamp_is_that_of_the_code() -> None:
    assert campaign.stamp_of(CPU) == campaign.stamp_of(CPU)
    assert set(campaign.stamp_of(CPU)) == {"llamalab", "source", "torch", "device"}


def test_an_experiment_and_a_bench_leave_what_a_report_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamalab.measure.bench.reference_here.measure_reference", lambda *a, **k: sample_record())
    machine = tmp_path / "cpu-here"
    job, before = Job(machine, "cpu", ("stories260k",)), sys.argv
    made = make_experiment(job, "attention_arithmetic", (), models=False, file="attention_arithmetic.json")
    assert sys.argv is before
    assert "exactly the bytes" in made.figures
    assert any(line.startswith("prefill ") for line in made.lines)
    benched = make_bench(job, "stories260k", "bench-stories260k", "none")
    data = json.loads((machine / "bench-stories260k.json").read_text())
    assert (data["model"], data["environment"]["device"], len(data["rows"])) == ("stories260k", "cpu", 3)
    assert all(row["tokens_per_s"] > 0 for row in data["rows"])
    assert "tokens/s" in benched.figures
    assert [one.experiment for one in recorded_results(tmp_path)] == ["attention_arithmetic"]
    assert recorded_runs(tmp_path) == []


@pytest.mark.parametrize("text", ["7", "x" * 20])
def test_long_tables_are_cut(text: str) -> None:
    assert campaign.shortened([text] * 16) == [text] * 16
    assert campaign.shortened([text] * 40)[-1] == "(25 more in the file)"


def with_a_child(job: Job) -> Made:
    child = get_context("spawn").Process(target=print, args=("from a child",), daemon=True)
    child.start()
    child.join(60)
    return Made(f"ended with {child.exitcode}")


def test_a_step_may_start_processes_and_print(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_isolated(partial(with_a_child, Job(tmp_path, "cpu", ())), 120.0).value == Made("ended with 0")
    assert capfd.readouterr().out == ""


def test_the_parent_asks_nothing_of_a_device_and_an_absent_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def elsewhere(work: Callable[[], object], limit_s: float) -> Outcome:
        asked.append(work)
        return Outcome(campaign.MachineFacts("cuda:0", "cuda", "gpu", {"device": "a GPU"}))

    monkeypatch.setattr(campaign, "resolve_device", lambda name: pytest.fail("asked in the parent"))
    monkeypatch.setattr(campaign, "all_steps", lambda kind, models: [step(f"{kind}-{len(models)}")])
    assert campaign.main(["--device", "cuda", "--out", str(tmp_path), "--list"], run=elsewhere) == 0
    assert capsys.readouterr().out.split()[0] == "cuda-3"
    assert [one.func for one in asked] == [campaign.machine_of]
    assert campaign.main(["--device", "cuda"], run=lambda *_: Outcome(None, "MissingError: no such device")) == 3
    assert "no such device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "out", "err", "told"),
    [
        (0, "....\n4 passed in 1.00s", "", None),
        (0, "ssss\n4 skipped in 1.00s", "", "must run; pytest ran none: 4 skipped"),
        (5, "no tests ran in 0.1s", "", "must run; pytest ran none"),
        (1, "FAILED tests/a.py\n1 failed, 3 passed in 2.0s", "", "must pass; pytest ended with 1: FAILED"),
        (1, "", "python: No module named pytest", "must pass; pytest ended with 1: python: No module named pytest"),
        (0, "", "", "must run; pytest ran none: pytest said nothing"),
    ],
)
def test_the_tests_on_a_gpu_must_run_and_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, told: str | None
) -> None:
    asked: list[list[str]] = []

    def ran(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(subprocess, "run", ran)
    with pytest.raises(RuntimeError, match=told) if told else nullcontext():
        assert make_cuda_tests(Job(tmp_path, "cuda:0", ())).figures == "4 passed in 1.00s"
    assert json.loads((tmp_path / "cuda_tests.json").read_text())["exit_code"] == code
    assert asked[0][-4:] == cuda_test_files()
    assert "tests/attention/test_cuda.py" in cuda_test_files()


def needs_a_package(job: Job) -> Made:
    raise ModuleNotFoundError("No module named 'tokenizers.models'", name="tokenizers.models")


def test_a_step_without_its_package_is_one_sentence(tmp_path: Path) -> None:
    outcome = run_isolated(partial(needs_a_package, Job(tmp_path, "cpu", ())), 60.0)
    assert outcome == Outcome(None, "the package tokenizers must be there; it is not installed; pip install tokenizers")


def test_the_steps_are_listed_where_only_torch_and_numpy_are(tmp_path: Path) -> None:
    """A machine may lack all else: who needs it says so when its turn comes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys("
        "'pytest hypothesis transformers tokenizers safetensors gguf tiktoken sentencepiece pandas matplotlib jinja2 "
        "tqdm scipy triton xllamacpp peft pynvml'.split()))\n"
    )
    code = "from experiments.common.campaign_steps import all_steps; print(len(all_steps('cuda', ['7b', '70b'])))"
    root = Path(campaign.__file__).resolve().parents[1]
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
    )  # fmt: skip
    assert (made.stdout, made.stderr) == ("19\n", "")


def test_a_run_on_a_gpu_tests_it_first_and_leaves_material_for_later_tests() -> None:
    names = [one.name for one in all_steps("cuda", ["7b", "13b", "70b"])]
    assert {"cuda_tests", "plan_times", "device_traces", "calibration", "attention_backends", "tap_cost"} < set(names)
    assert names.index("calibration") == 0
