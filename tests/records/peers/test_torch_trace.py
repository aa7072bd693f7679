"""Traces of PyTorch's profiler: times by name and step, the passes that shapes tell, and files of any length."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llamalab.comparison.run_files import read_runs
from llamalab.errors import FormatError
from llamalab.records.peers import runs_of_text
from llamalab.records.peers.trace_file import scan_text
from llamalab.records.run import RunPhase
from tests.records.peers import files


def phases_of(events: list[dict[str, Any]], **beside: Any) -> tuple[RunPhase, ...]:
    (run,) = runs_of_text(json.dumps({**beside, "traceEvents": events}), "it")
    return run.phases


def test_kernels_are_given_to_the_steps_that_the_device_marks() -> None:
    (run,) = runs_of_text(files.trace_of_kernels(), "it")
    (phase,) = run.phases
    assert (run.device, run.dtype) == ("NVIDIA H100 80GB HBM3", "fp16")
    assert {op.name: [round(one * 1e6) for one in op.samples_s] for op in phase.ops} == {
        "gemm": [300, 300],
        "flash": [100, 200],
    }
    assert phase.samples_s == pytest.approx((500e-6, 600e-6))
    assert phase.total_s == pytest.approx(550e-6)
    assert (phase.kind, phase.batch, phase.new_tokens, phase.context_tokens, phase.calls) == ("prefill", 2, 512, 512, 2)
    assert phase.tokens_per_s is None  # two calls of attention may be of any number of passes


def test_without_marks_on_the_device_kernels_are_of_all_steps_together() -> None:
    data = json.loads(files.trace_of_kernels())
    (run,) = runs_of_text(
        json.dumps(
            data | {"traceEvents": [one for one in data["traceEvents"] if one.get("cat") != "gpu_user_annotation"]}
        ),
        "it",
    )
    (phase,) = run.phases
    assert {op.name: round(op.total_s * 1e6) for op in phase.ops} == {"gemm": 300, "flash": 150}
    assert phase.samples_s == pytest.approx((150e-6, 150e-6))


def test_operators_of_a_cpu_have_their_own_time_only() -> None:
    (run,) = runs_of_text(files.trace_of_a_cpu(), "it")
    times = {op.name: round(op.total_s * 1e6) for op in run.phases[0].ops}
    assert times == {"aten::linear": 70, "aten::addmm": 70, "aten::copy_": 10}
    assert run.phases[0].total_s == pytest.approx(150e-6)


def test_steps_of_several_shapes_are_phases_of_their_own() -> None:
    mark = {"ph": "X", "cat": "user_annotation", "pid": 1, "tid": 1}
    shapes = [((1, 4, 9, 8), 9), ((1, 4, 1, 8), 10), ((1, 4, 1, 8), 11)]
    events = [mark | {"name": f"ProfilerStep#{step}", "ts": 100 * step, "dur": 90} for step in range(3)]
    events += [
        files.attention(100 * step + 3, query, (1, 4, context, 8)) for step, (query, context) in enumerate(shapes)
    ]
    prefill, decode = phases_of(events)
    assert (prefill.kind, prefill.new_tokens, prefill.context_tokens) == ("prefill", 9, 9)
    assert (decode.kind, decode.new_tokens, decode.context_tokens, len(decode.samples_s)) == ("decode", 1, 11, 2)
    (mixed,) = phases_of([one for one in events if one["cat"] == "cpu_op"])
    assert (mixed.kind, mixed.calls) == ("other", 3)


def test_scores_tell_the_shape_where_no_fused_operator_runs() -> None:
    softmax = {"ph": "X", "cat": "cpu_op", "name": "aten::softmax", "ts": 1, "dur": 5, "pid": 1, "tid": 1}
    (phase,) = phases_of([softmax | {"args": {"Input Dims": [[2, 4, 7, 30], [], []]}}])
    assert (phase.kind, phase.batch, phase.new_tokens, phase.context_tokens, phase.calls) == ("prefill", 2, 7, 30, 1)
    backward = softmax | {"name": "autograd::engine::evaluate_function: SoftmaxBackward0", "ts": 50}
    (trained,) = phases_of([softmax | {"args": {"Input Dims": [[2, 4, 7, 30], [], []]}}, backward])
    assert trained.kind == "other"


def test_a_file_larger_than_what_is_read_at_once_is_one_run(tmp_path: Path) -> None:
    """More text than the bound of other files is read, as it is and packed."""
    events = json.dumps(
        files.attention(0, (1, 4, 5, 8), (1, 4, 5, 8)) | {"args": {"Input Dims": [], "pad": "x" * 2**16}}
    )
    count = 1100  # of 65 kB
    path = tmp_path / "trace.json"
    with path.open("w") as file:
        file.write('{"deviceProperties": [], "traceEvents": [\n')
        file.writelines(f"{events},\n" for _ in range(count - 1))
        file.write(events + "]}")
    (phase,) = read_runs(path)[0].phases
    assert phase.total_s == pytest.approx(5e-6)  # all begin at once: each lies in the one before
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert read_runs(packed)[0].phases == read_runs(path)[0].phases


@pytest.mark.parametrize("length", range(1, 90, 4))
def test_text_may_be_cut_anywhere(length: int) -> None:
    text = r' {"a": 12.5, "b": {"c": [1, "]"]}, "traceEvents": [{"n": 123456}, {"n": "\""}, 7] , "z": null } '
    events: list[Any] = []
    beside = scan_text((text[at : at + length] for at in range(0, len(text), length)), "it", events.append)
    assert beside == {"a": 12.5, "b": {"c": [1, "]"]}, "z": None}
    assert events == [{"n": 123456}, {"n": '"'}, 7]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"traceEvents": [{"ph": "X"', "must be a readable JSON file"),
        ('{"traceEvents": [] ', "it ends early"),
        ('{"traceEvents": []} []', "there is more after it"),
        ('{"traceEvents": [1 2]}', "',' must come where '2' does"),
        ('{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": NaN}]}', "NaN"),
        ('{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": 1e999}]}', "must be finite"),
        (
            '{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": "now", "dur": 1}]}',
            "must be what a torch profiler writes",
        ),
        ('{"traceEvents": [{"ph": "X", "cat": "kernel", "dur": 1}]}', "it lacks 'name'"),
        ('{"traceEvents": []}', "must have a result with a time"),
        ('{"traceEvents": [' + "[" * 100_000, "nested too deep"),
        ('{"llamalab": {"phase": "decode"}, "traceEvents": []}', "it lacks 'blocks'"),
    ],
)
def test_what_is_not_sound_is_refused_in_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(FormatError) as refused:
        read_runs(path)
    assert sentence in str(refused.value)
