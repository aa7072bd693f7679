"""`llamalab profile`: time and memory of a pass, operation by operation."""

import argparse
from dataclasses import replace
from pathlib import Path

from llamalab.choices import ACTIVATION_DTYPES, PHASES
from llamalab.cli.arguments import (
    MODEL_HELP,
    add_backend,
    add_choice,
    add_count,
    add_format,
    add_kv_storage,
    add_weight_storage,
)
from llamalab.cli.delivery import give
from llamalab.cli.find_model import model_to_measure, note_beyond
from llamalab.cli.output import Answer, note
from llamalab.cli.parser import Parser
from llamalab.cli.profile_output import profile_answer
from llamalab.cli.progress import Progress
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.errors import InputError, UnknownNameError
from llamalab.files.outputs import check_target
from llamalab.measure.device.kinds import DEVICES
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    add_backend(parser)
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
    give(profile_answer(profiles), args)
    for path in traces:
        note(f"wrote {path}")
    return 0


def answer(args: argparse.Namespace) -> Answer:
    """The profiles as tables."""
    return profile_answer(measured(args)[0])


def measured(args: argparse.Namespace) -> "tuple[list[Profile], list[Path]]":
    """The profiles, and the traces that were written."""
    phases = tuple(phase.strip() for phase in args.phase.split(","))
    for phase in phases:
        if phase not in PHASES:
            raise UnknownNameError("--phase", phase, PHASES)
    if args.out is not None:
        check_target(Path(args.out))
    if args.trace is not None and args.trace.exists() and not args.trace.is_dir():
        raise InputError(f"--trace must name a folder; {args.trace} is a file; name another")
    if args.context is not None and args.context < (args.prompt if "prefill" in phases else 2):
        raise InputError(f"--context must count the prompt of {args.prompt} tokens; got {args.context}")
    reference = None if args.roofs is None else _record(Path(args.roofs))
    return _measure(args, phases, reference)


def _measure(
    args: argparse.Namespace, phases: tuple[str, ...], reference: "Record | None"
) -> "tuple[list[Profile], list[Path]]":
    label, arch, weights = model_to_measure(args.model)  # before torch: a name may be wrong
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.profile.run import PromptShape, longest, measure_profile, reference_of
    from llamalab.measure.profile.trace import trace_writer
    from llamalab.measure.target.made import OWN_WEIGHTS
    from llamalab.measure.target.profiled_share import beside, built_in

    note_beyond(arch, longest(PromptShape(args.prompt, context_tokens=args.context), phases))
    device = resolve_device(args.device)
    model, total = built_in(
        label,
        arch,
        device=device,
        dtype=args.dtype,
        attention=args.attention,
        full=args.full,
        batch=args.batch,
        prompt_tokens=args.prompt,
        context_tokens=args.context,
        weights=weights,
        weight_dtype=args.weight_dtype,
        kv_dtype=args.kv_dtype,
        team=getattr(args, "team", None),
    )
    command = f"llamalab profile --model {label} --phase {','.join(phases)} --prompt {args.prompt}"
    command += f" --context {args.context}" if args.context else ""
    command += f" --weight-dtype {args.weight_dtype}" if args.weight_dtype else ""
    command += f" --kv-dtype {args.kv_dtype}" if args.kv_dtype else ""
    writer, written = trace_writer(args.trace, f"{label}-{device.type}", label) if args.trace else (None, [])
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
        profiles = [measure_profile(model, **given, trace=writer, progress=progress)]
        if args.beside == "transformers":
            given |= {"reference": reference or reference_of(profiles[0]), "kv_dtype": None}
            profiles.append(measure_profile(beside(model), **given))
    if weights is not None:
        profiles[0] = replace(profiles[0], notes=[OWN_WEIGHTS, *profiles[0].notes])
    return profiles, written


def _record(path: Path) -> "Record":
    from llamalab.records.record_json import record_from_json, shown_text

    return record_from_json(shown_text(path, "record of --roofs"), source=str(path))
