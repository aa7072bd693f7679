"""Our own files as runs that can be compared: records, profiles, benches and predictions."""

import os
import re
from statistics import median

from llamalab.analytic.op import Op
from llamalab.comparison.pass_ops import ops_of
from llamalab.errors import FormatError, MissingError
from llamalab.files.inputs import parse_json
from llamalab.records.environment import Environment
from llamalab.records.frames import bench_rows
from llamalab.records.peers import read_trace, runs_of_text
from llamalab.records.profile import Profile, are_profiles, profiles_from_json
from llamalab.records.record import Pass, Record
from llamalab.records.record_json import record_from_json, shown_text
from llamalab.records.run import OpTime, Run, RunPhase
from llamalab.startup.hints import Any

_OURS = "llamalab"


def read_runs(path: str | os.PathLike[str]) -> list[Run]:
    """The runs of a file of ours or of another tool's; of a folder those of its JSON files, tp2.json before tp16.json.

    Raises MissingError where there is no file, FormatError where its format is unknown.
    """
    if os.path.isdir(path):
        return [run for file in _files_of(path) for run in read_runs(file)]
    if traced := read_trace(path):  # which may exceed the size limit of other files
        return traced
    text, name = shown_text(path, "file to compare"), os.fspath(path)
    if are_profiles(text):
        return [run_of_profile(one, name) for one in profiles_from_json(text, source=name)]
    rows = bench_rows(text)
    if rows:
        return [run_of_bench(rows, name)]
    data = _object(text)
    if data is not None and "passes" in data and "environment" in data:
        return [run_of_record(record_from_json(text, source=name), name)]
    if data is not None and "interval" in data and "ops" in data:
        return [run_of_prediction(data, name)]
    return runs_of_text(text, name)


def _files_of(folder: str | os.PathLike[str]) -> list[str]:
    names = [name for name in os.listdir(folder) if name.endswith((".json", ".jsonl"))]
    if not names:
        raise MissingError(f"a folder to compare must hold JSON files; {os.fspath(folder)} holds none; name its files")
    return [os.path.join(folder, name) for name in sorted(names, key=_by_number)]


def _by_number(name: str) -> list[tuple[str, int]]:
    """The words and numbers of a name, in turns: sorted by them, 2 comes before 16."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", name)]


def run_of_record(record: Record, name: str) -> Run:
    """The passes of a report; operations have the FLOPs and bytes of the cost table."""
    phases = tuple(_phase_of_pass(record, one) for one in record.passes)
    stored = record.formats
    settings = _settings(record.environment) | {"dtype": stored, "attention": record.passes[0].attention}
    return Run(name, _OURS, phases, settings, record.model, record.environment.device_name, record.dtype)


def _phase_of_pass(record: Record, one: Pass) -> RunPhase:
    counted = {op.name: op for op in ops_of(record, one)}
    ops = tuple(
        _op(row.name, row.count, row.samples_s, counted.get(row.name), row.kernel, basis_kernel=one.kernel)
        for row in one.ops
    )
    whole = median(one.whole_s) if one.whole_s else None
    samples = tuple(sample / whole * one.total_s for sample in one.whole_s) if whole else ()
    before = record.environment.before
    return RunPhase(
        one.phase,
        one.phase,
        one.total_s,
        samples,
        one.batch,
        one.new_tokens,
        one.context_tokens,
        ops,
        before.clock_hz if before else None,
        one.basis,
    )


def _op(
    name: str, count: int, samples_s: list[float], op: Op | None, kernel: str | None, *, basis_kernel: str | None
) -> OpTime:
    attention = op is not None and op.kind == "attention"
    return OpTime(
        name,
        count * median(samples_s),
        tuple(count * sample for sample in samples_s),
        count * op.flops_causal if op else None,
        count * op.bytes if op else None,
        kernel or (basis_kernel if attention else None),
    )


def run_of_profile(profile: Profile, name: str) -> Run:
    """The phases of a profile; an operation's kernels and gaps are known."""
    phases = []
    for phase in profile.phases:
        scale = phase.layers_total / phase.layers_measured
        ops = tuple(
            OpTime(
                op.name,
                op.total_s,
                tuple(op.count * sample for sample in op.samples_s),
                op.count * op.flops,
                op.count * op.bytes,
                "; ".join(op.kernels) or None,
                None if op.gap_s is None else op.count * op.gap_s,
            )
            for op in phase.ops
        )
        clock = (phase.during or phase.before).clock_hz
        exact = scale == 1.0
        # Where not all blocks ran, the whole is the sum over the operations of the whole model.
        total_s = phase.wall_s if exact else sum(op.total_s for op in ops) + phase.outside_s
        samples = tuple(sample / phase.wall_s * total_s for sample in phase.wall_samples_s)
        phases.append(
            RunPhase(
                phase.phase,
                phase.phase,
                total_s,
                samples,
                phase.batch,
                phase.new_tokens,
                phase.context_tokens,
                ops,
                clock,
                "measured" if exact else "extrapolated",
            )
        )
    stored = profile.formats
    settings = _settings(profile.environment) | {"dtype": stored, "attention": profile.attention}
    label = name if profile.kind == _OURS else f"{name} ({profile.kind})"
    return Run(label, _OURS, tuple(phases), settings, profile.model, profile.environment.device_name, profile.dtype)


def _settings(environment: Environment) -> dict[str, Any]:
    keys = ("llamalab", "git_revision", "device_name", "torch", "threads", "cuda", "driver")
    return {key: value for key in keys if (value := getattr(environment, key)) is not None}


def _object(text: str) -> dict[str, Any] | None:
    try:
        data = parse_json(text, "it")
    except FormatError:
        return None
    return data if isinstance(data, dict) else None


def run_of_bench(rows: list[dict[str, Any]], name: str) -> Run:
    """The tests of a bench that have a time; a generation test as the time of one token."""
    try:
        phases = tuple(_phase_of_test(row) for row in rows if row["passes_s"])
        first = rows[0]
        keys = ("device", "threads", "dtype", "attention", "compiled", "blocks")
        settings = {key: first[key] for key in keys} | {"ranks": first.get("ranks", 1)}
        run = Run(name, _OURS, phases, settings, first["model"], first["device"], first["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name} must be what llamalab bench writes; {error} is missing or wrong") from None
    if not phases:
        raise FormatError(f"{name} must have a test that was run; it has none: {first.get('reason')}")
    return run


def _phase_of_test(row: dict[str, Any]) -> RunPhase:
    prompt, made, depth, batch = (
        int(row[key]) for key in ("prompt_tokens", "generated_tokens", "depth_tokens", "batch")
    )
    name = f"{row['test']}, batch {batch}" if batch > 1 else str(row["test"])
    totals = [sum(passes) for passes in row["passes_s"]]
    context = depth + prompt + made
    rate = row.get("predicted_tokens_per_s")
    predicted_s = batch * (prompt or 1) / rate if rate and not (prompt and made) else None
    if made and not prompt:
        each = tuple(total / made for total in totals)
        mean_s = sum(each) / len(each)
        return RunPhase(name, "decode", mean_s, each, batch, 1, context, basis=row["basis"], predicted_s=predicted_s)
    kind = "other" if made else "prefill"
    mean_s = sum(totals) / len(totals)
    return RunPhase(
        name, kind, mean_s, tuple(totals), batch, prompt + made, context, basis=row["basis"], predicted_s=predicted_s
    )


def run_of_prediction(data: dict[str, Any], name: str) -> Run:
    """The run in the output of `llamalab predict --format json`."""
    try:
        inputs, phases = data["inputs"], []
        batch, prompt, made = inputs["batch"], inputs["prompt"], inputs["generate"]
        for phase, total_s, new, context in (
            ("prefill", data["prefill_s"], prompt, prompt),
            ("decode", data["decode_s_per_token"], 1, prompt + made - 1),
        ):
            if total_s is not None:
                ops = tuple(_predicted(row) for row in data["ops"] if row["phase"] == phase)
                phases.append(RunPhase(phase, phase, total_s, (), batch, new, context, ops, basis="predicted"))
        settings = {"basis": data["basis"], **{k: v for k, v in inputs.items() if v}}
        return Run(name, _OURS, tuple(phases), settings, data["model"], data["hardware"], inputs["dtype"])
    except (KeyError, TypeError) as error:
        raise FormatError(f"{name} must be what llamalab predict prints; {error} is missing or wrong") from None


def _predicted(row: dict[str, Any]) -> OpTime:
    return OpTime(row["op"], row["total_s"], (), row["count"] * row["flops"], row["count"] * row["bytes"])
