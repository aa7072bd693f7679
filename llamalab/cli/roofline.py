"""`llamalab roofline`: the limit of each operation on a device, and changes that would raise it."""

import argparse

from llamalab.analytic.forecast import Forecast, forecast
from llamalab.cli.arguments import add_format, file_path
from llamalab.cli.combinations import with_formats
from llamalab.cli.output import Answer, Column, Table, note, percent
from llamalab.cli.parser import Parser
from llamalab.cli.predicted_rows import predicted_rows
from llamalab.cli.runs import (
    Case,
    add_basis,
    add_hardware,
    add_models,
    add_numbers,
    add_ranks,
    add_shape,
    cases,
    constants_of,
)
from llamalab.errors import InputError
from llamalab.formatting import format_seconds, format_si
from llamalab.startup.hints import Any

SUMMARY = "what limits each operation on a device, and what would move it"
EXAMPLES = (
    "llamalab roofline --model 7b --hardware h100-80gb-sxm --prompt 2048",
    "llamalab roofline --model 70b --hardware a100-80gb-sxm --tensor-parallel 4 --svg roofline.svg",
)
_WIDTH, HEIGHT = 64, 16
_MARKS = {"prefill": "P", "decode": "d"}
SHARE_NAMED = 0.05  # operations below this share of their pass are not worth a sentence


def configure(parser: Parser) -> None:
    """The options of `llamalab roofline`."""
    add_models(parser)
    add_hardware(parser, "h200-141gb-sxm")
    add_shape(parser, generate=128)
    add_ranks(parser, "1")
    add_numbers(parser)
    add_basis(parser)
    parser.add_argument("--svg", type=file_path, help="write the roofline as an SVG file too; needs matplotlib")
    add_format(parser)


def answer(args: argparse.Namespace) -> Answer:
    """The limits in words and the roofline as text; drawn where args.svg is a path; of several runs a row each."""
    chosen = list(cases(args))
    if len(chosen) == 1:
        return _one(args, chosen[0])
    if args.svg:
        raise InputError(f"--svg must be of one run; got {len(chosen)}; give one value of each option")
    rows = [_summary(args, case) for case in chosen]
    lead = f"{len(rows)} combinations; shares of each phase that compute, memory and launches limit"
    return Answer({"rows": rows}, (lead,), (Table(with_formats(_SUMMARY, rows, "batch"), rows),))


def _summary(args: argparse.Namespace, case: Case) -> dict[str, Any]:
    """A run in a row: the time of each phase, and the share of each limit in it."""
    work = case.work
    row: dict[str, Any] = {"model": case.model, "hardware": case.spec.name, "prompt": work.prompt}
    row |= {"generate": work.generate, "batch": work.batch, "tensor_parallel": work.devices}
    row |= {"dtype": work.dtype, "weight_dtype": work.weight_dtype or work.dtype}
    row |= {"kv_dtype": work.kv_dtype or work.dtype}
    found = _one(args, case).data["ops"]
    for phase in _MARKS:
        own = [one for one in found if one["phase"] == phase]
        row[f"{phase}_s"] = sum(one["total_s"] for one in own) or None
        for limit in REMEDIES:
            row[f"{phase}_{limit}"] = sum(one["share"] for one in own if one["limit"] == limit) if own else None
    return row


def _one(args: argparse.Namespace, case: Case) -> Answer:
    result = forecast(case.arch, case.work, case.spec, constants_of(args, case))
    rows = predicted_rows("prefill", result.prefill_ops, result) + predicted_rows("decode", result.decode_ops, result)
    for row in rows:
        row |= _place(row)
    words = [sentence for phase in _MARKS for sentence in _words(phase, rows)]
    peak, bandwidth = _roofs(result)
    title = f"{case.model} on {case.spec.name}: {format_si(peak, 'FLOP/s')}, {format_si(bandwidth, 'B/s')}"
    lead = (title, *words, "", *_text_chart(rows, peak, bandwidth))
    data = {
        "model": case.model,
        "hardware": case.spec.name,
        "inputs": case.work._asdict(),
        "basis": result.basis,
        "peak_flops_per_s": peak,
        "bandwidth_bytes_per_s": bandwidth,
        "words": words,
        "ops": rows,
    }
    if args.svg:
        from llamalab.files.outputs import write_text  # imported here: a table needs no file

        write_text(args.svg, _svg(case, rows, peak, bandwidth))
        note(f"wrote {args.svg}")
    return Answer(data, lead, (Table(_COLUMNS, rows),))


def _rate(value: float) -> str:
    return format_si(value, "FLOP/s")


_COLUMNS = (
    Column("phase", "phase"),
    Column("op", "operation"),
    Column("intensity", "FLOP/B", "{:.2f}".format, 1),
    Column("flops_per_s", "predicted", _rate),
    Column("limit", "limit"),
    Column("share", "of the pass", lambda share: f"{100 * share:.1f} %"),
)


_SUMMARY = (
    *(Column(key, title) for key, title in (("model", "model"), ("hardware", "hardware"), ("prompt", "prompt"))),
    *(Column(key, title, rank=1) for key, title in (("generate", "generate"), ("batch", "batch"))),
    Column("tensor_parallel", "TP", rank=1),
    Column("prefill_s", "prefill", format_seconds),
    *(Column(f"prefill_{limit}", limit, percent) for limit in ("compute", "memory", "latency")),
    Column("decode_s", "a token", format_seconds),
    *(Column(f"decode_{limit}", limit, percent) for limit in ("compute", "memory", "latency")),
)


def _place(row: dict[str, Any]) -> dict[str, Any]:
    """The place of an operation in the chart: all its FLOPs, vector ones too, over its bytes and over its time."""
    work, moved = row["flops"] + row["vector_flops"], row["bytes"]
    return {"intensity": work / moved, "flops_per_s": work / row["time_s"] if work else 0.0, "share": 0.0}


def _words(phase: str, rows: list[dict[str, Any]]) -> list[str]:
    """One sentence per limit of a pass: its share, its operations, and changes that would raise it."""
    own = [row for row in rows if row["phase"] == phase]
    total_s = sum(row["total_s"] for row in own)
    for row in own:
        row["share"] = row["total_s"] / total_s
    sentences = [f"{phase}: {format_si(total_s, 's')}"] if own else []
    for limit, remedy in REMEDIES.items():
        limited = [row for row in own if row["limit"] == limit]
        share = sum(row["share"] for row in limited)
        if share >= SHARE_NAMED:
            largest = sorted(limited, key=lambda row: -row["share"])[:3]
            names = ", ".join(row["op"].removeprefix("layers.*.") for row in largest)
            sentences.append(f"  {100 * share:.0f} % is limited by {limit} (most: {names}); {remedy}")
    return sentences


REMEDIES = {
    "compute": "a narrower dtype with matrix units of its own, more devices or a faster chip would move it, "
    "more bandwidth would not",
    "memory": "fewer bytes would move it: narrower weights or KV cache, more sequences per read of the weights, fusion",
    "latency": "fewer and larger kernels would move it: fusion, a graph of kernels, a larger batch",
}


def _roofs(result: Forecast) -> tuple[float, float]:
    rates = result.constants.rates["gemm"]
    return rates.peak_flops_per_s or 0.0, rates.bandwidth_bytes_per_s


def _text_chart(rows: list[dict[str, Any]], peak: float, bandwidth: float) -> list[str]:
    """The roofline in characters, both axes logarithmic: P prefill, d decode, * both, / and - the roof."""
    from math import log10

    left, right = -1.0, 5.0
    top = log10(peak)
    bottom = top - 6.0
    grid = [[" "] * _WIDTH for _ in range(HEIGHT)]

    def cell(intensity: float, rate: float) -> tuple[int, int]:
        x = (log10(intensity) - left) / (right - left) * (_WIDTH - 1)
        y = (log10(rate) - bottom) / (top - bottom) * (HEIGHT - 1)
        return min(max(round(x), 0), _WIDTH - 1), HEIGHT - 1 - min(max(round(y), 0), HEIGHT - 1)

    for step in range(_WIDTH):
        intensity = 10 ** (left + step * (right - left) / (_WIDTH - 1))
        x, y = cell(intensity, min(peak, intensity * bandwidth))
        grid[y][x] = "-" if intensity * bandwidth > peak else "/"
    for row in rows:
        if row["flops_per_s"]:
            x, y = cell(row["intensity"], row["flops_per_s"])
            mark = _MARKS[row["phase"]]
            grid[y][x] = "*" if grid[y][x] in set(_MARKS.values()) - {mark} else mark
    axis = f"FLOP/B, 0.1 to 100,000 · P prefill, d decode, * both · ridge at {peak / bandwidth:.0f}"
    return [f"{format_si(peak, 'FLOP/s')}", *("  |" + "".join(line).rstrip() for line in grid), "  " + axis]


def _svg(case: Case, rows: list[dict[str, Any]], peak: float, bandwidth: float) -> str:
    import io

    from llamalab.startup.plotting import import_matplotlib

    import_matplotlib()
    from llamalab.report.charts.predicted_roofline import predicted_roofline

    text = io.StringIO()
    predicted_roofline(f"{case.model} on {case.spec.name}", rows, peak, bandwidth).savefig(
        text, format="svg", bbox_inches="tight"
    )
    return text.getvalue()
