"""Our own results as runs that can be compared: records, profiles, benches and predictions."""

from statistics import median

from llamalab.analytic.op import Op
from llamalab.comparison.pass_ops import ops_of
from llamalab.errors import FormatError
from llamalab.records.environment import Environment
from llamalab.records.profile import Profile
from llamalab.records.record import Pass, Record
from llamalab.records.run import OpTime, Run, RunPhase
from llamalab.startup.hints import Any

_OURS = "llamalab"


def run_of_record(record: Record, name: str) -> Run:
    """The passes of a report; operations have the FLOPs and bytes of the cost table."""
    phases = tuple(_phase_of_pass(record, one) for one in record.passes)
    stored = record.formats
    settings = _settings(record.environment) | {"dtype": stored, "attention": record.passes[0].attention}
    return Run(
        name=name,
        tool=_OURS,
        phases=phases,
        settings=settings,
        model=record.model,
        device=record.environment.device_name,
        dtype=record.dtype,
    )


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
        name=one.phase,
        kind=one.phase,
        total_s=one.total_s,
        samples_s=samples,
        batch=one.batch,
        new_tokens=one.new_tokens,
        context_tokens=one.context_tokens,
        ops=ops,
        clock_hz=before.clock_hz if before else None,
        basis=one.basis,
    )


def _op(
    name: str, count: int, samples_s: list[float], op: Op | None, kernel: str | None, *, basis_kernel: str | None
) -> OpTime:
    attention = op is not None and op.kind == "attention"
    return OpTime(
        name=name,
        total_s=count * median(samples_s),
        samples_s=tuple(count * sample for sample in samples_s),
        flops=count * op.flops_causal if op else None,
        bytes=count * op.bytes if op else None,
        kernel=kernel or (basis_kernel if attention else None),
    )


def run_of_profile(profile: Profile, name: str) -> Run:
    """The phases of a profile; an operation's kernels and gaps are known."""
    phases = []
    for phase in profile.phases:
        scale = phase.layers_total / phase.layers_measured
        ops = tuple(
            OpTime(
                name=op.name,
                total_s=op.total_s,
                samples_s=tuple(op.count * sample for sample in op.samples_s),
                flops=op.count * op.flops,
                bytes=op.count * op.bytes,
                kernel="; ".join(op.kernels) or None,
                gap_s=None if op.gap_s is None else op.count * op.gap_s,
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
                name=phase.phase,
                kind=phase.phase,
                total_s=total_s,
                samples_s=samples,
                batch=phase.batch,
                new_tokens=phase.new_tokens,
                context_tokens=phase.context_tokens,
                ops=ops,
                clock_hz=clock,
                basis="measured" if exact else "extrapolated",
            )
        )
    stored = profile.formats
    settings = _settings(profile.environment) | {"dtype": stored, "attention": profile.attention}
    label = name if profile.kind == _OURS else f"{name} ({profile.kind})"
    return Run(
        name=label,
        tool=_OURS,
        phases=tuple(phases),
        settings=settings,
        model=profile.model,
        device=profile.environment.device_name,
        dtype=profile.dtype,
    )


def _settings(environment: Environment) -> dict[str, Any]:
    keys = ("llamalab", "git_revision", "device_name", "torch", "threads", "cuda", "driver")
    return {key: value for key in keys if (value := getattr(environment, key)) is not None}


def run_of_bench(rows: list[dict[str, Any]], name: str) -> Run:
    """The tests of a bench that have a time; a generation test as the time of one token."""
    try:
        phases = tuple(_phase_of_test(row) for row in rows if row["passes_s"])
        first = rows[0]
        keys = ("device", "threads", "dtype", "attention", "compiled", "blocks")
        settings = {key: first[key] for key in keys} | {"ranks": first.get("ranks", 1)}
        run = Run(
            name=name,
            tool=_OURS,
            phases=phases,
            settings=settings,
            model=first["model"],
            device=first["device"],
            dtype=first["dtype"],
        )
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
        return RunPhase(
            name=name,
            kind="decode",
            total_s=mean_s,
            samples_s=each,
            batch=batch,
            new_tokens=1,
            context_tokens=context,
            basis=row["basis"],
            predicted_s=predicted_s,
        )
    kind = "other" if made else "prefill"
    mean_s = sum(totals) / len(totals)
    return RunPhase(
        name=name,
        kind=kind,
        total_s=mean_s,
        samples_s=tuple(totals),
        batch=batch,
        new_tokens=prompt + made,
        context_tokens=context,
        basis=row["basis"],
        predicted_s=predicted_s,
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
                phases.append(
                    RunPhase(
                        name=phase,
                        kind=phase,
                        total_s=total_s,
                        samples_s=(),
                        batch=batch,
                        new_tokens=new,
                        context_tokens=context,
                        ops=ops,
                        basis="predicted",
                    )
                )
        settings = {"basis": data["basis"], **{k: v for k, v in inputs.items() if v}}
        return Run(
            name=name,
            tool=_OURS,
            phases=tuple(phases),
            settings=settings,
            model=data["model"],
            device=data["hardware"],
            dtype=inputs["dtype"],
        )
    except (KeyError, TypeError) as error:
        raise FormatError(f"{name} must be what llamalab predict prints; {error} is missing or wrong") from None


def _predicted(row: dict[str, Any]) -> OpTime:
    return OpTime(row["op"], row["total_s"], (), row["count"] * row["flops"], row["count"] * row["bytes"])
