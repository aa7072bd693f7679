"""`llamalab attention`: naive against flash, kernel by kernel, predicted and measured on this machine."""

import argparse
from itertools import product

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.choices import ACTIVATION_DTYPES, ATTENTION_BACKENDS, PHASES
from llamalab.cli.arguments import add_choice, add_count, add_dtypes, add_format, add_place, counts
from llamalab.cli.combinations import with_formats
from llamalab.cli.delivery import give
from llamalab.cli.output import Answer, Column, Table, note, percent
from llamalab.cli.parser import Parser
from llamalab.cli.progress import Progress
from llamalab.errors import InputError, UnavailableError, UnknownNameError
from llamalab.formatting import format_bytes, format_seconds, format_si
from llamalab.measure.device.kinds import DEVICES
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.measure.attention.lab import LabRow

SUMMARY = "attention backends measured against naive and against prediction, and where flash wins"
EXAMPLES = (
    "llamalab attention --context 256-2048*2 --heads 8",
    "llamalab attention --context 256-8192*2 --heads 32 --kv-heads 32,8,1 --attention naive,flash,triton",
    "llamalab attention --phase decode --context 4096 --batch 1-32*2 --heads 32 --kv-heads 8 --format csv",
)


def _error(value: float) -> str:
    return f"{100 * value:+.1f} %"


def _times(value: float) -> str:
    return f"{value:.2f}"


_COLUMNS = (
    Column("backend", "backend"),
    Column("n_kv_heads", "KV heads"),
    Column("batch", "batch"),
    Column("context_tokens", "tokens"),
    Column("time_s", "time", format_seconds),
    Column("predicted_s", "predicted", format_seconds),
    Column("time_error", "error", _error),
    Column("naive_ratio", "naive/this", _times),
    Column("predicted_ratio", "predicted", _times),
    Column("ratio_error", "error", _error),
    Column("peak_bytes", "peak", format_bytes, 1),
    Column("peak_error", "error", _error, 2),
    Column("flops_per_s", "FLOP/s", lambda value: format_si(value, ""), 2),
    Column("bytes_per_s", "B/s", lambda value: format_si(value, ""), 2),
    Column("kernel", "kernel that ran", lambda value: value.replace("aten::", "").lstrip("_"), 2),
)


def configure(parser: Parser) -> None:
    """The options of `llamalab attention`."""
    add_choice(parser, "--phase", PHASES, "prefill", "prefill: all tokens are new; decode: one new token at the end")
    for option, default, about in (
        ("--context", [256, 512, 1024], "tokens in context: 512, 256,512 or 256-8192*2 (default: 256-1024*2)"),
        ("--batch", [1], "sequences (default: 1)"),
        ("--kv-heads", None, "KV heads, each a divisor of --heads (default: as --heads)"),
    ):
        parser.add_argument(option, type=counts(option), default=default, metavar="N", help=about)
    parser.rename("--seq", "--context")
    add_count(parser, "--heads", "query heads", default=32)
    add_count(parser, "--head-dim", "size of a head", default=128)
    about = "backends, with commas between them (default: naive,sdpa); math, flash, efficient and cudnn are PyTorch's"
    parser.add_argument("--attention", default="naive,sdpa", metavar="NAMES", help=about)
    parser.rename("--backend", "--attention")
    add_place(parser, DEVICES, "auto")
    add_count(parser, "--rounds", "rounds of samples at least", default=7)
    add_dtypes(parser, "storage of q, k and v", known=ACTIVATION_DTYPES)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print a row per shape and backend, and the crossover."""
    shapes = _shapes(args)
    rows = _measure(args, shapes)
    give(_answer(args, rows), args)
    return 0 if any(row.time_s for row in rows) else UnavailableError.exit_code


def _shapes(args: argparse.Namespace) -> list[AttentionShape]:
    kv_heads = args.kv_heads or [args.heads]
    if wrong := [heads for heads in kv_heads if args.heads % heads]:
        raise InputError(f"--kv-heads must divide --heads {args.heads}; got {wrong[0]}")
    return [
        AttentionShape(
            batch=batch,
            new_tokens=length if args.phase == "prefill" else 1,
            context_tokens=length,
            n_heads=args.heads,
            n_kv_heads=heads,
            head_dim=args.head_dim,
            dtype=dtype,
            kv_dtype=dtype,
        )
        for dtype, heads, batch, length in product(args.dtype, kv_heads, args.batch, sorted(args.context))
    ]


def _measure(args: argparse.Namespace, shapes: list[AttentionShape]) -> "list[LabRow]":
    names = backend_names(args.attention)
    import torch

    from llamalab.attention import get_backend
    from llamalab.measure.attention.lab import lab_machine, run_lab
    from llamalab.measure.timing.deadline import part_of
    from llamalab.measure.timing.timer import Plan

    backends, rows = [get_backend(name) for name in names], []
    with Progress() as progress, torch.inference_mode():
        for number, dtype in enumerate(args.dtype):
            alike = [shape for shape in shapes if shape.dtype == dtype]
            machine, remark = lab_machine(args.device, dtype, alike)
            if remark:
                note(remark, once=True)
            own = part_of(progress, number / len(args.dtype), (number + 1) / len(args.dtype))
            rows += run_lab(machine, alike, backends, Plan(1.0, args.rounds, 100), own)
    return rows


def _answer(args: argparse.Namespace, rows: "list[LabRow]") -> Answer:
    shown = [_row(row) for row in rows]
    crossings = _crossings(rows)
    failures = [
        f"{row['backend']} at {row['context_tokens']} tokens: {row['reason']}" for row in shown if row["reason"]
    ]
    errors = sorted(abs(row["ratio_error"]) for row in shown if row["ratio_error"] is not None)
    lead = (
        f"{args.phase}, {args.heads} heads of {args.head_dim} in {', '.join(args.dtype)}; "
        "naive/this is how many times as fast as naive, in the same rounds",
        *(f"  {_sentence(crossing)}" for crossing in crossings),
        *((f"  predicted ratios: worst error {percent(errors[-1])} over {len(errors)} rows",) if errors else ()),
        *(f"  {failure}" for failure in failures),
    )
    data = {"phase": args.phase, "basis": "measured", "rows": shown, "crossovers": crossings}
    return Answer(data, lead, (Table(with_formats(_COLUMNS, shown, "backend"), shown),))


def _crossings(rows: "list[LabRow]") -> list[dict[str, Any]]:
    """Per backend, dtype, KV heads and batch: from which context on it is faster than naive."""
    from llamalab.measure.attention.lab import crossover_tokens

    families: dict[tuple[str, str, int, int], list[LabRow]] = {}
    for row in rows:
        shape = row.shape
        if row.point.backend != "naive" and row.ratio is not None:
            families.setdefault((row.point.backend, shape.dtype, shape.n_kv_heads, shape.batch), []).append(row)
    return [
        {
            "backend": backend,
            "dtype": dtype,
            "n_kv_heads": heads,
            "batch": batch,
            "crossover_tokens": crossover_tokens(family),
            "predicted_crossover_tokens": crossover_tokens(family, predicted=True),
            "longest_tokens": max(row.shape.context_tokens for row in family),
        }
        for (backend, dtype, heads, batch), family in families.items()
    ]


def _sentence(crossing: dict[str, Any]) -> str:
    def words(length: int | None) -> str:
        return f"from {length} tokens on" if length else f"at no length up to {crossing['longest_tokens']}"

    return (
        f"crossover: {crossing['backend']} ({crossing['dtype']}, {crossing['n_kv_heads']} KV heads, batch "
        f"{crossing['batch']}) is faster than naive {words(crossing['crossover_tokens'])}; "
        f"predicted: {words(crossing['predicted_crossover_tokens'])}"
    )


def _row(row: "LabRow") -> dict[str, Any]:
    point, shape = row.point, row.shape
    return {
        "backend": point.backend,
        "algorithm": point.algorithm,
        "n_heads": shape.n_heads,
        "n_kv_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "dtype": shape.dtype,
        "batch": shape.batch,
        "new_tokens": shape.new_tokens,
        "context_tokens": shape.context_tokens,
        "time_s": row.time_s,
        "rounds": len(point.samples_s),
        "predicted_s": row.predicted_s,
        "time_error": _relative(row.predicted_s, row.time_s),
        "naive_ratio": row.ratio,
        "predicted_ratio": row.predicted_ratio,
        "ratio_error": _relative(row.predicted_ratio, row.ratio) if point.backend != "naive" else None,
        "peak_bytes": point.peak_bytes,
        "predicted_peak_bytes": row.predicted_peak_bytes,
        "peak_error": _relative(row.predicted_peak_bytes, point.peak_bytes),
        "flops_per_s": row.flops_per_s,
        "bytes_per_s": row.bytes_per_s,
        "kernel": point.kernel,
        "reason": point.reason,
    }


def _relative(predicted: float | None, measured: float | None) -> float | None:
    from llamalab.comparison.passes import relative_error

    return relative_error(predicted, measured)


def backend_names(text: str) -> list[str]:
    """The backends of --attention, in the order given. Raises UnknownNameError for one that is none.

    >>> backend_names("naive, sdpa")
    ['naive', 'sdpa']
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ATTENTION_BACKENDS:
            raise UnknownNameError("--attention", name, ATTENTION_BACKENDS)
    return names
