"""The answer of `llamalab fit`: the memory terms of a device, in words and figures, and the devices that hold them."""

import argparse

from llamalab.analytic.fit import Needs
from llamalab.analytic.fit_run import FitRun
from llamalab.analytic.fit_solve import Holds, changes_that_fit, largest_batch
from llamalab.cli.device_memory import DEVICE_COLUMNS, devices_that_hold
from llamalab.cli.fit_split import split_of
from llamalab.cli.output import Answer, Column, Table, counted, thousands
from llamalab.formatting import format_bytes
from llamalab.startup.hints import Any

_ROWS = (
    Column("term", "held"),
    Column("bytes", "size", format_bytes),
    Column("exact_bytes", "bytes", thousands, 1),
    Column("basis", "basis"),
    Column("note", "of"),
)


def _data(args: argparse.Namespace, model: str, asked: FitRun, held: Needs) -> dict[str, Any]:
    terms = [term._asdict() | {"exact_bytes": term.bytes} for term in held.terms]
    tokens = asked.batch * asked.context
    return {
        "model": model,
        "dtype": asked.dtype,
        "weight_dtype": asked.weight_dtype,
        "kv_dtype": asked.kv_dtype,
        "n_kv_heads": asked.arch.n_kv_heads,
        "context": asked.context,
        "batch": asked.batch,
        "ranks": asked.ranks,
        "runtime": args.runtime,
        "weight_bytes": held.bytes_of("weights"),
        "kv_bytes": held.bytes_of("KV cache"),
        "kv_bytes_per_token": held.bytes_of("KV cache") // tokens,
        "total_bytes": held.total_bytes,
        "margin_bytes": held.margin_bytes,
        "least_bytes": held.least_bytes,
        "basis": "exact terms and estimated ones, each marked; the margin covers what is estimated",
        "terms": terms,
    }


def fitting_answer(
    args: argparse.Namespace, model: str, name: str, size: int, solve: str, asked: FitRun, held: Needs, holds: Holds
) -> Answer:
    """Memory terms of a run that fits into `size` bytes of `name`, and the largest run if requested."""
    left = size - held.safe_bytes
    found = {
        "solved": solve or None,
        "memory_bytes": size,
        "left_bytes": left,
        "max_batch": asked.batch if solve == "batch" else largest_batch(asked, size, holds) if args.context else None,
        "max_context": asked.context if solve == "context" else None,
    }
    where = f" on each of {asked.ranks} devices" if asked.ranks > 1 else ""
    lead: tuple[str, ...] = (
        f"{counted(asked.batch, 'sequence')} of {counted(asked.context, 'token')} fit{'s' if asked.batch == 1 else ''}"
        f"{where} ({model}, weights in {asked.weight_dtype}, "
        f"KV cache in {asked.kv_dtype}, {asked.arch.n_kv_heads} KV heads)",
        f"  {format_bytes(held.total_bytes)} held and {format_bytes(held.margin_bytes)} of margin in "
        f"{format_bytes(size)} of {name}: {format_bytes(left)} is left",
    )
    data = _data(args, model, asked, held) | found
    if asked.gpu_layers is not None:
        split = split_of(model, asked, args.hardware, args.host)
        data, lead = data | split.data, (*lead, *split.lead)
    return Answer(data, lead, (Table(_ROWS, data["terms"]),))


def devices_answer(args: argparse.Namespace, model: str, asked: FitRun, holds: Holds) -> Answer:
    """The devices of the table on which the run fits, smallest first."""
    held = holds(asked)
    rows = devices_that_hold(held.safe_bytes, "the run", lambda size: changes_that_fit(asked, size, holds))
    lead = (
        f"{format_bytes(held.safe_bytes)} with its margin fits into {len(rows)} devices, {rows[0]['hardware']} first",
    )
    data = _data(args, model, asked, held) | {"solved": "device", "devices": rows}
    return Answer(data, lead, (Table(DEVICE_COLUMNS, rows), Table(_ROWS, data["terms"])))
