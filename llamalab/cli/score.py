"""`llamalab score FILE.csv`: errors of predictions against measured runs."""

import argparse
from collections import Counter

from llamalab.choices import STACK_NAMES
from llamalab.cli.arguments import add_format, one_of
from llamalab.cli.delivery import give
from llamalab.cli.output import Answer, Column, Table
from llamalab.comparison.measured_runs import AUTO_STACK, read_rows
from llamalab.comparison.scoring import Scored, grouped, predict_row, summary
from llamalab.startup.hints import Any

SUMMARY = "how far predictions are from the measured runs of a CSV file, by stack, device and phase"
EXAMPLES = (
    "llamalab score measured.csv",
    "llamalab score measured.csv --stack vllm --format json",
    "llamalab score measured.csv --format csv > by-group.csv",
)
GROUP_KEYS = ("stack", "device", "phase", "width", "devices")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab score`."""
    parser.add_argument("file", metavar="FILE.csv", help="measured runs; columns: see docs/predictions.md")
    known = (AUTO_STACK, *STACK_NAMES)
    parser.add_argument(
        "--stack",
        type=one_of("--stack", known),
        default=AUTO_STACK,
        metavar="NAME",
        help=f"one for all rows, or auto: what the framework column means; {', '.join(known)} (default: auto)",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print a row per group, all points together, and rows without a prediction, by reason."""
    rows = read_rows(args.file)
    scored = [predict_row(row, args.stack) for row in rows]
    groups = [dict(zip(GROUP_KEYS, key, strict=True)) | summary(members) for key, members in grouped(scored).items()]
    reasons = Counter(one.reason for one in scored if one.reason is not None)
    every: dict[str, Any] = summary(scored)
    data = {
        "file": args.file,
        "stack": args.stack,
        "groups": groups,
        "all": every,
        "not_predicted": [{"reason": reason, "rows": number} for reason, number in reasons.most_common()],
        "points": [_point(one) for one in scored],
    }
    lead = [f"{len(rows)} rows: {every['n']} predicted, {len(rows) - every['n']} not"]
    if every["n"]:
        lead.append(
            f"  MAPE {every['mape']:.1f} %, bias {every['bias']:+.1f} %, 9 of 10 within {every['p90']:.1f} %, "
            f"{every['coverage']:.0f} % inside the interval, {every['under_bound']} under the bound"
        )
    tables = [Table(_COLUMNS, groups)]
    if reasons:
        tables.append(Table(_REASONS, data["not_predicted"]))
    give(Answer(data, tuple(lead), tuple(tables)), args)
    return 0


def _point(one: Scored) -> dict[str, Any]:
    """One row for JSON: the prediction in the row's own unit, the error in per cent."""
    if one.point is None or one.predicted is None:
        return {"predicted": None, "error": None, "reason": one.reason}
    assert one.interval is not None
    ends = sorted(one.point.in_its_unit(end) for end in one.interval)
    return {
        "predicted": one.point.in_its_unit(one.predicted),
        "error": 100 * (one.error or 0.0),
        "reason": None,
        "stack": one.point.stack,
        "phase": one.point.phase,
        "low": ends[0],
        "high": ends[1],
        "bound": None if not one.bound else one.point.in_its_unit(one.bound),
    }


def _percent(value: float) -> str:
    return f"{value:.1f} %"


_COLUMNS = (
    Column("stack", "stack"),
    Column("device", "device"),
    Column("phase", "phase"),
    Column("width", "bits"),
    Column("devices", "devices"),
    Column("n", "n"),
    Column("mape", "MAPE", _percent),
    Column("bias", "bias", "{:+.1f} %".format),
    Column("p90", "p90", _percent),
    Column("coverage", "in interval", "{:.0f} %".format),
    Column("under_bound", "under bound"),
)
_REASONS = (Column("rows", "not predicted"), Column("reason", "why"))
