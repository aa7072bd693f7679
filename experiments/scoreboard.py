"""Errors of each stack on what was fitted and on what was not; fails where a group gets worse.

    python -m experiments.scoreboard [--check | --accept "WHY" | --draw]

All runs of experiments/points.csv, by llamalab.comparison.scoring; errors that the fits did not see come from
experiments/held_out.csv, which experiments/fit_stacks.py writes. The first part of docs/accuracy.md is made here.

agreed_errors.csv holds the MAPE that each group was accepted with. A group may get worse by ALLOWED points of MAPE;
beyond that --check fails until --accept writes its new MAPE with the reason into its line. --draw writes the
residuals of fitted points against batch, context and device to docs/accuracy-residuals.svg.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from llamalab.analytic import stacks
from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.ops import add_up, forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import MeasuredPoint, read_rows
from llamalab.comparison.scoring import Scored

HERE = Path(__file__).parent
POINTS, HELD_OUT, AGREED = HERE / "points.csv", HERE / "held_out.csv", HERE / "agreed_errors.csv"
DRAWING = HERE.parent / "docs" / "accuracy-residuals.svg"
ALLOWED = 1.0  # points of MAPE that a group may lose without a reason
GROUP = ("stack", "device", "phase", "width", "devices")
PEERS = {"llm-flops (0.5/0.8)": (0.5, 0.8), "opal-sim (0.4/0.6)": (0.4, 0.6), "plain roofline (1/1)": (1.0, 1.0)}


class Unseen(NamedTuple):
    """A point with the log errors of fits that did not see it: its fold, or its device."""

    one: Scored
    key: str
    fold: float
    device: float

    @property
    def phase(self) -> str:
        """prefill, decode or run; a server's decode is decode."""
        assert self.one.point is not None
        return "decode" if self.one.point.phase == "serving" else self.one.point.phase


def scored_points() -> list[Scored]:
    """Every row of the file, predicted or not."""
    return [scoring.predict_row(row) for row in read_rows(str(POINTS))]


def unseen(scored: Sequence[Scored]) -> list[Unseen]:
    """What the fits did not see."""
    with open(HELD_OUT, encoding="utf-8", newline="") as file:
        return [
            Unseen(scored[int(row["row"])], row["constants"], float(row["fold_log_error"]),
                   float(row["device_log_error"]))
            for row in csv.DictReader(file)
        ]  # fmt: skip


def mape(log_errors: Iterable[float]) -> float:
    """Mean absolute relative error in per cent."""
    return 100 * fmean(abs(math.expm1(error)) for error in log_errors)


def page(scored: Sequence[Scored]) -> list[str]:
    """The part of docs/accuracy.md that is about stacks."""
    out = unseen(scored)
    known = [one for one in scored if one.error is not None]
    every = scoring.summary(scored)
    lines = [
        "## Published runs, by stack",
        "",
        f"{every['n']} of {len(scored)} published runs of `experiments/points.csv` are predicted, by the constants of "
        "their stack and the data",
        f"sheet of their device: MAPE {every['mape']:.1f} %, bias {every['bias']:+.1f} %, {every['under_bound']} under "
        f"the physical bound by more than {100 * scoring.ROUNDING:.0f} %.",
        "",
        *_refused(scored),
        "",
        "*fitted* is the error on the points that the constants were fitted on. *fold* is that of five fits which each",
        "leave a fifth of the points out, on what was left out; *device* leaves one device after the other out. The",
        "two last columns are how many of those left out lie in the interval that is printed. With one device,",
        "leaving it out leaves the parent row alone. What to expect of points that nobody here has seen: the rows of",
        "one source are alike, so *fold* is nearer to it for devices that are fitted, and *device* for others.",
        "",
        *_stack_table(known, out),
        "",
        "Over all points left out: " + _over_all(out),
        "",
        "## The same runs by others' published formulas",
        "",
        *_peers(known),
        "",
        "## Residuals of points left out",
        "",
        "Mean error (and number) by batch, by tokens in view, and by device, folds left out; the points are drawn in",
        "[accuracy-residuals.svg](accuracy-residuals.svg).",
        "",
        *_residuals(out),
    ]
    return [*lines, "", "## How the constants of stacks were settled", "", *HISTORY]


HISTORY = (
    "The form was settled with the points in view, and the score is not blind: multipliers on constants of single",
    "kernels were tried first (6.9 to 8 % for servers) and gave way to shares of the data sheet, which do as well and",
    "need no kernels of a device. Seen in residuals and then given a constant of its own: decode attention of 2024",
    "goes with query heads (it runs on the vector units), and vLLM of 2024 on ROCm is several times faster where it",
    "splits keys (its own rule: up to 512 heads in all; here for any number of keys); the products of that row start",
    "at 6 % of the peak, which only few of its points tell; packed weights of one row are unpacked by the vector",
    "units, which also work for every byte of elementwise kernels in llama.cpp; prompts of other requests come between",
    "tokens; fixed times go with the clock. llama.cpp's versions were split where its authors replaced kernels, and",
    "vLLM 0.12 from its neighbours after its two points had been seen: there others' prompts hardly delay a token.",
    "How near a row is held to its parent was chosen among three by the folds of stacks with few points.",
    "Rules for weak sources are at the head of `experiments/fit_stacks.py` and were written before the first fit.",
    "Jetson Orin's fp16 peak with fp32 accumulation was taken as half of that with fp16 after its two prefills had",
    "been seen; Apple's CPU clusters got the bandwidth that was measured of them. No point was looked at besides",
    "those of the file.",
    "",
    "Settled after the scores of stacks with few points had been seen, each before its fit: a row's shares of compute",
    "go the same way from its parent's, and so do its shares of memory, unless points tell (kept, as folds went from",
    "7.9 to 7.4 % and left-out devices from 16.6 to 12.4 % over all); rows on AMD start where vLLM's row on AMD lies",
    "to that on NVIDIA; ExLlama's prefill starts at llama.cpp's, which multiplies alike (unpacked first, in fp16).",
    "llama.cpp on CPUs multiplies on the vector units, and the threads of a die share what it reads (threads as a",
    "row's source tells them, else one a core): folds went from 40 to 20 %. AutoAWQ on IPEX got a row of its own",
    "after one row for both had put its prefill of 32 tokens 49 % too slow.",
)


def _refused(scored: Sequence[Scored]) -> list[str]:
    reasons: dict[str, int] = {}
    for one in scored:
        if one.reason is not None:
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
    return [f"Not predicted, {number} rows: {reason}." for reason, number in reasons.items()]


def _stack_table(known: Sequence[Scored], out: Sequence[Unseen]) -> list[str]:
    lines = [
        "| constants | versions | devices | points | fitted | fold | device | in interval: fold | device |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for key, stack in stacks.stacks().items():
        own = [one for one in out if one.key == key]
        if not own:
            continue
        inside = [
            100 * fmean(abs(getattr(one, how)) <= math.log1p(spread[one.phase]) + 1e-9 for one in own)
            for how, spread in (("fold", stack.spread), ("device", stack.unseen_spread))
        ]
        cells = (
            key, stack.versions, len(stack.devices), len(own), f"{100 * (stack.error or 0):.1f} %",
            f"{mape(one.fold for one in own):.1f} %", f"{mape(one.device for one in own):.1f} %",
            f"{inside[0]:.0f} %", f"{inside[1]:.0f} %",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _over_all(out: Sequence[Unseen]) -> str:
    rows = stacks.stacks()
    folds = fmean(abs(one.fold) <= math.log1p(rows[one.key].spread[one.phase]) + 1e-9 for one in out)
    devices = fmean(abs(one.device) <= math.log1p(rows[one.key].unseen_spread[one.phase]) + 1e-9 for one in out)
    return (
        f"folds MAPE {mape(one.fold for one in out):.1f} %, {100 * folds:.0f} % in the interval; devices "
        f"MAPE {mape(one.device for one in out):.1f} %, {100 * devices:.0f} % in the interval."
    )


def _formula(point: MeasuredPoint, compute: float, memory: float) -> float:
    """Planners' formula: dense FLOPs over a share of the peak, all bytes over a share of the bandwidth."""
    work, arch, spec = point.work, point.arch, point.spec
    peaks, weight = spec.peak_flops_per_s, work.weight_dtype or work.dtype
    peak = (peaks.get(weight) or peaks[work.dtype] or peaks["fp32"] or math.inf) * compute * work.tensor_parallel
    bandwidth = spec.bandwidth_bytes_per_s * memory * work.tensor_parallel
    stored, cached = weight_bytes(arch, weight), kv_bytes_per_token(arch, work.dtype) * work.batch

    def step_s(new: int, context: int) -> float:
        ops = forward_ops(arch, PassShape(new_tokens=new, context_tokens=context, batch=work.batch, logits="all"))
        return max(add_up(ops).flops_full / peak, (stored + cached * context) / bandwidth)

    if point.phase == "prefill":
        return step_s(work.prompt, work.prompt)
    decode_s = step_s(1, work.prompt + work.generate // 2)
    if point.phase == "run":
        return step_s(work.prompt, work.prompt) + (work.generate - 1) * decode_s
    return decode_s


def _peers(known: Sequence[Scored]) -> list[str]:
    phases = ("run", "prefill", "decode", "serving")
    timed = [one for one in known if one.point is not None and one.point.phase in phases]
    columns: dict[str, Callable[[Scored], float]] = {"llamalab, by stack": lambda one: one.error or 0.0}
    for name, shares in PEERS.items():
        columns[name] = lambda one, shares=shares: _formula(one.point, *shares) / one.point.measured - 1  # type: ignore[misc, arg-type, union-attr]
    columns["llamalab, physical bound"] = lambda one: (one.bound or 0.0) / one.point.measured - 1  # type: ignore[union-attr]
    lines = [f"| predictor | {' | '.join(phases)} | all |", f"|---|{'---:|' * (len(phases) + 1)}"]
    for name, error in columns.items():
        errors = [(one.point.phase, abs(error(one))) for one in timed if one.point is not None]
        cells = [f"{100 * fmean(e for p, e in errors if p == phase):.1f} %" for phase in phases]
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * fmean(e for _, e in errors):.1f} % |")
    return lines


def _residuals(out: Sequence[Unseen]) -> list[str]:
    def context(one: Unseen) -> str:
        assert one.one.point is not None
        work = one.one.point.work
        tokens = work.prompt + (0 if one.one.point.phase == "prefill" else work.generate // 2)
        return next(f"to {limit:,}" for limit in (256, 1024, 4096, 10**9) if tokens <= limit).replace(
            "to 1,000,000,000", "over 4,096"
        )

    lines = ["| what | group | points | mean error | MAPE |", "|---|---|---:|---:|---:|"]
    groupings: tuple[tuple[str, Callable[[Unseen], Any]], ...] = (
        ("batch", lambda one: one.one.point.work.batch),  # type: ignore[union-attr]
        ("tokens in view", context),
        ("device", lambda one: one.one.point.row["device"]),  # type: ignore[union-attr]
    )
    for what, label in groupings:
        groups: dict[Any, list[float]] = {}
        for one in out:
            groups.setdefault(label(one), []).append(one.fold)
        order = ["to 256", "to 1,024", "to 4,096", "over 4,096"]
        for name in sorted(groups, key=lambda name: order.index(name) if name in order else name):
            errors = [100 * math.expm1(error) for error in groups[name]]
            size = fmean(map(abs, errors))
            lines.append(f"| {what} | {name} | {len(errors)} | {fmean(errors):+.1f} % | {size:.1f} % |")
    return lines


def groups_of(scored: Sequence[Scored]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Number and MAPE of every group, by its cells as text."""
    return {tuple(map(str, key)): scoring.summary(members) for key, members in scoring.grouped(scored).items()}


def agreed() -> dict[tuple[str, ...], tuple[float, str]]:
    """What each group was accepted with, and why where it got worse."""
    with open(AGREED, encoding="utf-8", newline="") as file:
        return {tuple(row[cell] for cell in GROUP): (float(row["mape"]), row["why"]) for row in csv.DictReader(file)}


def worsened(now: dict[tuple[str, ...], dict[str, Any]], then: dict[tuple[str, ...], tuple[float, str]]) -> list[str]:
    """Groups that got worse by more than is allowed, or that are no longer predicted."""
    found = []
    for key, (limit, _) in then.items():
        if key not in now:
            found.append(f"{' '.join(key)}: no longer predicted")
        elif now[key]["mape"] > limit + ALLOWED:
            found.append(f"{' '.join(key)}: {now[key]['mape']:.1f} %, agreed {limit:.1f} %")
    return found


def accept(now: dict[tuple[str, ...], dict[str, Any]], why: str) -> None:
    """Write today's errors as agreed; a group that got worse gets the reason, one that got better loses none."""
    then = agreed() if AGREED.exists() else {}
    with open(AGREED, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*GROUP, "n", "mape", "why"))
        for key, found in now.items():
            limit, told = then.get(key, (math.inf, ""))
            reason = why if found["mape"] > limit + ALLOWED else told
            writer.writerow((*key, found["n"], f"{found['mape']:.2f}", reason))


def draw(out: Sequence[Unseen]) -> None:
    """The residuals as three panels of points."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "llamalab"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(14, 4.5), constrained_layout=True)
    works = [one.one.point.work for one in out]  # type: ignore[union-attr]
    errors = [100 * math.expm1(one.fold) for one in out]
    names = sorted({one.one.point.row["device"] for one in out})  # type: ignore[union-attr]
    places = [names.index(one.one.point.row["device"]) for one in out]  # type: ignore[union-attr]
    columns = (
        ("batch", [work.batch for work in works]),
        ("prompt and half of what is generated, tokens", [work.prompt + work.generate // 2 for work in works]),
        ("device", places),
    )
    for panel, (title, across) in zip(panels, columns, strict=True):
        panel.scatter(across, errors, s=8, alpha=0.5, linewidths=0)
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set(xlabel=title, ylim=(-80, 120))
        if title != "device":
            panel.set_xscale("log", base=2)
    panels[0].set_ylabel("predicted / measured − 1, folds left out, %")
    panels[2].set_xticks(range(len(names)), names, rotation=90, fontsize=5)
    figure.savefig(DRAWING, metadata={"Date": None})


def main(argv: list[str]) -> int:
    """Check or accept the groups; the last line of output is the result as JSON. Exit code 1 where one got worse."""
    scored = scored_points()
    now = groups_of(scored)
    if "--accept" in argv:
        accept(now, argv[argv.index("--accept") + 1])
    if "--draw" in argv:
        draw(unseen(scored))
    found = worsened(now, agreed())
    for one in found:
        print(f"worse: {one}")
    every = scoring.summary(scored)
    print(json.dumps({"groups": len(now), "worse": len(found), "all": {k: round(v, 2) for k, v in every.items()}}))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
