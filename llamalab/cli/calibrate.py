"""`llamalab calibrate`: the constants of this machine, and the errors of their predictions."""

import argparse
from pathlib import Path

from llamalab.analytic.calibration_files import default_path
from llamalab.choices import ACTIVATION_DTYPES, FORMATS
from llamalab.cli.arguments import add_choice, add_weight_storage, count
from llamalab.cli.output import Answer, Column, Table, keep, note, show
from llamalab.cli.progress import Progress
from llamalab.errors import InputError
from llamalab.files.outputs import check_target
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.measure.device.kinds import DEVICES
from llamalab.measure.timing.deadline import Deadline
from llamalab.startup.hints import TYPE_CHECKING, Any
from llamalab.units import KeptWeights

if TYPE_CHECKING:
    from llamalab.measure.calibration.result import Calibration

ON_RANKS = True
SUMMARY = "this machine's own constants, fitted in under a minute and checked on other shapes"
EXAMPLES = (
    "llamalab calibrate",
    "llamalab calibrate --weight-dtype int4",
    "llamalab calibrate --ranks 2",
)
LONGEST_S, QUICK_S = 57.0, 9.5  # including torch's import, without the output
CONSTANTS_MARK = '"kind": "llamalab-constants"'


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab calibrate`."""
    add_choice(parser, "--device", DEVICES, "auto", "what to calibrate; auto is cuda where there is one")
    add_choice(parser, "--dtype", ACTIVATION_DTYPES, "bf16", "of weights, activations and cache")
    add_weight_storage(parser)
    parser.add_argument("--quick", action="store_true", help="in ten seconds, on one block and checked on one")
    parser.add_argument(
        "--ranks",
        dest="tensor_parallel",
        type=count("--ranks"),
        metavar="N",
        help="calibrate so many ranks side by side, and the links between them (default: 1)",
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="the constants file (default: kept for this machine)")
    parser.add_argument("--replace", action="store_true", help="take the place of constants with a better grade too")
    add_choice(parser, "--format", FORMATS, "table", "how the answer is printed")


def run(args: argparse.Namespace) -> int:
    """Calibrate, keep the constants, print them with their errors."""
    deadline = Deadline(QUICK_S if args.quick else LONGEST_S)  # set before torch is loaded, whose import is included
    if args.out:
        check_target(args.out, ours=CONSTANTS_MARK)
    if args.team is not None:
        if args.quick:
            raise InputError("--quick and --ranks must not be given together; a quick one is of one rank")
        return _run_ranks(args)
    from llamalab.measure.calibration.constants_here import kept_better
    from llamalab.measure.calibration.run import BUDGET_S, calibrate

    with Progress(deadline) as progress:
        within = Deadline(min(BUDGET_S, deadline.left_s))
        made = calibrate(
            device=args.device,
            dtype=args.dtype,
            quick=args.quick,
            deadline=within,
            weight_dtype=args.weight_dtype,
            progress=progress,
        )
    path = args.out or default_path(made.device, made.dtype, made.weight_dtype)
    better = None if args.replace else kept_better(path, made)
    if better:
        note(f"{better}; --replace takes the new ones all the same")
    elif keep(path, made.json, ours=CONSTANTS_MARK) == path:
        note(f"wrote {path}")
    show(_answer(made), args.format)
    return 0


def _run_ranks(args: argparse.Namespace) -> int:
    """The constants of ranks side by side, with their links."""
    import json

    from llamalab.measure.ranks.constants import calibrate_ranks, ranks_path

    with Progress() as progress:
        kept = KeptWeights(args.weight_dtype) if args.weight_dtype else None
        made = calibrate_ranks(args.team, dtype=args.dtype, kept=kept, progress=progress)
    path = args.out or ranks_path(args.team.device, made.ranks, args.dtype, args.weight_dtype)
    if keep(path, json.dumps(made.data, indent=1), ours=CONSTANTS_MARK) == path:
        note(f"wrote {path}")
    answer = _answer(made.made)
    links = [one._asdict() | {"bytes_per_s": one.link_bytes / one.time_s} for one in made.links]
    fitted = [
        {"class": name, **fit.rates._asdict(), "kernels": fit.kernels, "error": fit.error}
        for name, fit in made.link_fits.items()
    ]
    lead = (f"{made.ranks} ranks side by side; one of them:", *answer.lead)
    data = answer.data | {"ranks": made.ranks, "links": links, "link_classes": fitted}
    show(Answer(data, lead, (*answer.tables, Table(_CONSTANTS, fitted), Table(_LINKS, links))), args.format)
    return 0


_LINKS = (
    Column("kind", "collective"),
    Column("buffer_bytes", "buffer", format_bytes),
    Column("link_bytes", "sent by a rank", format_bytes),
    Column("time_s", "time", format_seconds),
    Column("bytes_per_s", "rate", lambda value: format_si(value, "B/s")),
)


def _share(value: float | None) -> str:
    return "not checked" if value is None else f"{100 * value:.1f} %"


_CONSTANTS = (
    Column("class", "class of operation"),
    Column("peak_flops_per_s", "peak", lambda value: format_si(value, "FLOP/s")),
    Column("bandwidth_bytes_per_s", "bandwidth", lambda value: format_si(value, "B/s")),
    Column("t0_s", "t0", format_seconds),
    Column("compute_efficiency", "e_c", "{:.3f}".format),
    Column("memory_efficiency", "e_m", "{:.3f}".format),
    Column("q", "q", "{:.2f}".format),
    Column("kernels", "kernels"),
    Column("error", "mean error", _share),
)
_CHECKED = (
    Column("model", "checked on"),
    Column("phase", "phase"),
    Column("batch", "batch"),
    Column("new", "new tokens"),
    Column("past", "past"),
    Column("predicted_s", "predicted", format_seconds),
    Column("measured_s", "measured", format_seconds),
    Column("error", "error", lambda value: f"{100 * value:+.1f} %"),
)


def _answer(made: "Calibration") -> Answer:
    constants: list[dict[str, Any]] = [
        {"class": name, **fit.rates._asdict(), "kernels": fit.kernels, "error": fit.error}
        for name, fit in made.fits.items()
    ]
    checked: list[dict[str, Any]] = [
        {**one._asdict(), **one.shape._asdict(), "phase": one.shape.phase, "error": one.error} for one in made.outcomes
    ]
    for row in checked:
        del row["shape"]
    prefill, decode = made.error("prefill"), made.error("decode")
    load = f"; load {made.load_average[0]:.1f} before, {made.load_average[1]:.1f} after" if made.load_average else ""
    weights = f", weights in {made.weight_dtype}" if made.weight_dtype else ""
    lead = (
        f"{made.title} ({made.device}), {made.dtype}{weights}: {made.rounds} rounds in {made.took_s:.0f} s{load}",
        f"  on passes it was not fitted on: prefill {_share(prefill)}, decode {_share(decode)} mean error",
        f"  grade {made.grade.words}",
        *(f"  left out: {one}" for one in made.left_out),
    )
    data = {
        "device": made.device,
        "title": made.title,
        "dtype": made.dtype,
        "weight_dtype": made.weight_dtype,
        "made_on": made.made_on,
        "quick": made.quick,
        "rounds": made.rounds,
        "took_s": made.took_s,
        "load_average": made.load_average,
        "grade": made.grade.json,
        "spread_between_rounds": made.spread,
        "left_out": made.left_out,
        "prefill_error": prefill,
        "decode_error": decode,
        "classes": constants,
        "checked": checked,
    }
    return Answer(data, lead, (Table(_CONSTANTS, constants), Table(_CHECKED, checked)))
