"""`llamalab profile`: where the time and the memory of a pass go, operation by operation."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamalab.choices import ACTIVATION_DTYPES, DEVICES, PHASES
from llamalab.cli.arguments import (
    MODEL_HELP,
    Parser,
    add_choice,
    add_count,
    add_format,
    add_kv_storage,
    add_weight_storage,
)
from llamalab.cli.delivery import give
from llamalab.cli.find_model import model_to_measure
from llamalab.cli.output import Answer, Column, Table, note, percent
from llamalab.cli.progress import Progress
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.errors import UnknownNameError
from llamalab.files import check_target
from llamalab.units import format_bytes, format_seconds, format_si

if TYPE_CHECKING:
    from llamalab.records.phase_profile import PhaseProfile
    from llamalab.records.profile import Profile
    from llamalab.records.record import Record

ON_RANKS = True
SUMMARY = "where the time and the memory of a pass go, operation by operation"
EXAMPLES = (
    "llamalab profile --model 7b --phase prefill,decode",
    "llamalab profile --model 7b --roofs reports/7b-cpu.json --trace traces",
    "llamalab profile --model tiny --beside transformers --format json --out profile.json",
)
BESIDE = ("none", "transformers")
CATEGORIES = {
    "kv_bytes": "KV",
    "activation_bytes": "activations",
    "logits_bytes": "logits",
    "workspace_bytes": "workspace",
}


def configure(parser: Parser) -> None:
    """The options of `llamalab profile`."""
    parser.add_argument("--model", default="7b", help=MODEL_HELP)
    parser.add_argument("--phase", default="prefill,decode", help="prefill, decode or both (default: %(default)s)")
    add_count(parser, "--prompt", "prompt tokens; decode is the token after them", default=512)
    about = "tokens in view at the end of each pass, its own included (default: the prompt, and one more)"
    add_count(parser, "--context", about)
    add_count(parser, "--batch", "sequences", default=1)
    add_tensor_parallel(parser)
    add_choice(parser, "--device", DEVICES, "auto", "where to measure; auto is cuda where there is one")
    add_choice(parser, "--dtype", ACTIVATION_DTYPES, "bf16", "of weights, activations and cache")
    add_weight_storage(parser)
    add_kv_storage(parser)
    parser.add_argument("--attention", help="the attention backend (default: the fastest of the device)")
    parser.add_argument("--full", action="store_true", help="run every block instead of a few; the model must fit")
    parser.add_argument(
        "--roofs", metavar="RECORD.json", help="take the roofs of a report's record instead of measuring"
    )
    parser.add_argument(
        "--trace", type=Path, metavar="DIR", help="write a trace of each phase for TensorBoard or Perfetto"
    )
    add_choice(parser, "--beside", BESIDE, "none", "the same shape in another implementation, in the same table")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Profile, print or write, and say where the traces are."""
    profiles, traces = measured(args)
    give(answer_of(profiles), args)
    for path in traces:
        note(f"wrote {path}")
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """The profiles as tables."""
    return answer_of(measured(args)[0])


def measured(args: argparse.Namespace) -> "tuple[list[Profile], list[Path]]":
    """The profiles, and the traces that were written."""
    phases = tuple(phase.strip() for phase in args.phase.split(","))
    for phase in phases:
        if phase not in PHASES:
            raise UnknownNameError("--phase", phase, PHASES)
    if args.out is not None:
        check_target(Path(args.out))
    reference = None if args.roofs is None else _record(Path(args.roofs))
    return _measure(args, phases, reference)


def _measure(
    args: argparse.Namespace, phases: tuple[str, ...], reference: "Record | None"
) -> "tuple[list[Profile], list[Path]]":
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.profile.run import profile, reference_of
    from llamalab.measure.profile.trace import trace_writer
    from llamalab.measure.target.made import OWN_WEIGHTS
    from llamalab.measure.target.profiled_share import beside, built_in

    device, (label, arch, weights) = resolve_device(args.device), model_to_measure(args.model)
    model, total = built_in(label, arch, device=device, dtype=args.dtype, attention=args.attention, full=args.full,
                            batch=args.batch, prompt_tokens=args.prompt, context_tokens=args.context,
                            weights=weights, weight_dtype=args.weight_dtype, kv_dtype=args.kv_dtype,
                            team=getattr(args, "team", None))  # fmt: skip
    command = f"llamalab profile --model {label} --phase {','.join(phases)} --prompt {args.prompt}"
    command += f" --context {args.context}" if args.context else ""
    command += f" --weight-dtype {args.weight_dtype}" if args.weight_dtype else ""
    command += f" --kv-dtype {args.kv_dtype}" if args.kv_dtype else ""
    writer, written = trace_writer(args.trace, f"{label}-{device.type}") if args.trace else (None, [])
    given: dict[str, Any] = {
        "name": label,
        "phases": phases,
        "prompt_tokens": args.prompt,
        "context_tokens": args.context,
        "batch": args.batch,
        "kv_dtype": args.kv_dtype,
        "layers_total": total,
        "reference": reference,
        "command": command,
    }
    with Progress() as progress:
        profiles = [profile(model, **given, trace=writer, progress=progress)]
        if args.beside == "transformers":
            given |= {"reference": reference or reference_of(profiles[0]), "kv_dtype": None}
            profiles.append(profile(beside(model), **given))
    if weights is not None:
        profiles[0] = replace(profiles[0], notes=[OWN_WEIGHTS, *profiles[0].notes])
    return profiles, written


def _record(path: Path) -> "Record":
    from llamalab.records.record import from_json, shown_text

    return from_json(shown_text(path, "record of --roofs"), source=str(path))


def answer_of(profiles: "list[Profile]") -> Answer:
    """Tables of operations, memory and instruments of every phase; the first is the CSV."""
    rows = [
        {"kind": one.kind, "phase": phase.phase, **_op_row(asdict(op))}
        for one in profiles
        for phase in one.phases
        for op in phase.ops
    ]
    lead = [line for one in profiles for line in _lead(one)]
    tables = [Table(_OPS, rows, "time by operation (one occurrence; total and share over the whole model)")]
    for one in profiles:
        for phase in one.phases:
            tables += _memory_tables(f"{one.kind}, {phase.phase}", phase)
    instruments = [
        {"kind": one.kind, "phase": phase.phase, **asdict(tool)}
        for one in profiles
        for phase in one.phases
        for tool in phase.instruments
    ]
    tables.append(Table(_INSTRUMENTS, instruments, "what looking costs: time of a pass over a clean one"))
    states = [
        {"kind": one.kind, "phase": phase.phase, "moment": moment, **_device_row(asdict(state))}
        for one in profiles
        for phase in one.phases
        for moment, state in phase.states
    ]
    known = [column for column in _STATES if any(row[column.key] is not None for row in states)]
    tables.append(Table(tuple(known), states, "state of the device around each phase"))
    data = {"profiles": [asdict(one) for one in profiles]}
    return Answer(data, tuple(lead), tuple(table for table in tables if table.rows))


def _lead(profile: "Profile") -> list[str]:
    lines = []
    for phase in profile.phases:
        ran = f"{phase.layers_measured} of {phase.layers_total} blocks"
        lines.append(
            f"{profile.model}, {profile.kind}, {profile.formats} on {profile.environment.device_name}, "
            f"{phase.phase} of {phase.batch} × {phase.new_tokens} tokens, context {phase.context_tokens}: {ran} took "
            f"{format_si(phase.wall_s, 's')}; operations {format_si(phase.named_s, 's')}, {phase.outside} "
            f"{format_si(phase.outside_s, 's')}: {100 * phase.closure:+.1f} % of the wall time"
        )
        if phase.missing:
            lines.append(f"  does not close: {phase.missing}")
        if phase.throttled:
            lines.append(f"  THROTTLED while measured: {', '.join(phase.throttled)}")
        product = f"weights {profile.product}; " if profile.product else ""
        lines.append(f"  {product}attention kernel: {phase.kernel or 'in steps'}; {_state(phase)}")
        lines += [f"  not known: {name}: {why}" for why, name in _unknown(phase).items()]
    return lines


def _state(phase: "PhaseProfile") -> str:
    """Energy of a token and memory of the process, as far as the system tells."""
    joules, held, peak = phase.energy.joules_per_token, phase.usage.resident_bytes, phase.usage.peak_resident_bytes
    told = [
        None if joules is None else f"{format_si(joules, 'J')} per token over {phase.energy.window_s:.1f} s",
        None if held is None else f"process {format_bytes(held)}",
        None if peak is None else f"at its peak {format_bytes(peak)}",
    ]
    return ", ".join(one for one in told if one) or "energy and memory of the process not known"


def _unknown(phase: "PhaseProfile") -> dict[str, str]:
    """What the system did not tell, by reason."""
    missing = dict(phase.after.missing)
    if phase.energy.joules_per_token is None:
        missing["energy"] = phase.energy.reason or "no reason recorded"
    return {why: ", ".join(key for key in missing if missing[key] == why) for why in missing.values()}


def _device_row(state: dict[str, Any]) -> dict[str, Any]:
    reasons = state["throttle_reasons"]
    return state | {"throttled": None if reasons is None else ", ".join(reasons) or "no"}


def _op_row(op: dict[str, Any]) -> dict[str, Any]:
    return {key: "; ".join(value) if key == "kernels" else value for key, value in op.items() if key != "samples_s"}


def _memory_tables(title: str, phase: "PhaseProfile") -> list[Table]:
    memory = phase.memory
    if memory.peak_bytes is None:
        return [Table((Column("reason", f"memory, {title}"),), [{"reason": memory.reason}])]
    steps = [asdict(step) for step in memory.steps]
    caption = (
        f"memory, {title}: weights {format_bytes(memory.weight_bytes)}, KV cache {format_bytes(memory.kv_bytes)}; "
        f"peak above them {format_bytes(memory.peak_bytes)} in {memory.peak_op} ({memory.method})"
    )
    held = [asdict(one) for one in memory.at_peak]
    moments = [asdict(one) | {"total_bytes": one.total_bytes} for one in memory.timeline if _shown(one.op)]
    return [
        Table(_STEPS, steps, caption),
        Table(_HELD, held, f"alive at the peak, {title}"),
        Table(_MOMENTS, moments, f"most alive while an operation ran, {title} (first block and what is around)"),
    ]


def _shown(op: str) -> bool:
    """The blocks are alike: the first stands for all."""
    return not op.startswith("layers.") or op.startswith("layers.0.")


def _signed(value: float) -> str:
    return f"{100 * value:+.0f} %"


_OPS = (
    Column("kind", "model"),
    Column("phase", "phase"),
    Column("name", "operation"),
    Column("calls", "calls"),
    Column("time_s", "time", format_seconds),
    Column("device_s", "in kernels", format_seconds),
    Column("gap_s", "gaps", format_seconds),
    Column("total_s", "total", format_seconds),
    Column("share", "share", percent),
    Column("flops_per_s", "achieved", lambda rate: format_si(rate, "FLOP/s")),
    Column("bytes_per_s", "traffic", lambda rate: format_si(rate, "B/s")),
    Column("roof_fraction", "of roof", percent),
    Column("predicted_s", "predicted", format_seconds),
    Column("error", "error", _signed),
    Column("kernels", "kernels"),
)
_STEPS = (
    Column("step", "step"),
    Column("measured_bytes", "most alive", format_bytes),
    Column("predicted_bytes", "predicted", format_bytes),
    Column("error", "error", lambda value: f"{100 * value:+.1f} %"),
)
_HELD = (Column("op", "made by"), Column("category", "category"), Column("bytes", "bytes", format_bytes))
_MOMENTS = (
    Column("op", "operation"),
    *(Column(key, title, format_bytes) for key, title in CATEGORIES.items()),
    Column("total_bytes", "all", format_bytes),
)
_INSTRUMENTS = (
    Column("kind", "model"),
    Column("phase", "phase"),
    Column("name", "instrument"),
    Column("ratio", "× clean", "{:.2f}".format),
    Column("about", "what it does"),
)
_STATES = (
    Column("kind", "model"),
    Column("phase", "phase"),
    Column("moment", "when"),
    Column("clock_hz", "clock", lambda hertz: format_si(hertz, "Hz")),
    Column("memory_clock_hz", "memory clock", lambda hertz: format_si(hertz, "Hz")),
    Column("power_w", "power", "{:.0f} W".format),
    Column("temperature_c", "temperature", "{:.0f} °C".format),
    Column("throttled", "throttled"),
    Column("load_average", "load", "{:.2f}".format),
)
