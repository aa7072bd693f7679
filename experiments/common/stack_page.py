"""The part of docs/accuracy.md that is about stacks: fitted and left-out errors, and others' formulas."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from experiments.common.left_out import Unseen, mape_percent, unseen
from experiments.common.planners import SHARES, planned_s
from experiments.common.residuals import residual_table
from llamalab.analytic import stacks
from llamalab.comparison import scoring
from llamalab.comparison.measured_runs import MeasuredPoint
from llamalab.comparison.scoring import Scored


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
        *residual_table(out),
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
    "How near a row with few points is held to its parent is chosen inside each fit, by inner folds of what it sees;",
    "the rule was written before that fit (`experiments/common/stack_pull.py`).",
    "Rules for weak sources are at the head of `experiments/fit_stacks.py` and were written before the first fit.",
    "Jetson Orin's fp16 peak with fp32 accumulation was taken as half of that with fp16 after its two prefills had",
    "been seen; Apple's CPU clusters got the bandwidth that was measured of them. No point was looked at besides",
    "those of the file.",
    "",
    "Settled after the scores of stacks with few points had been seen, each before its fit: a row's shares of compute",
    "go the same way from its parent's, and so do its shares of memory, unless points tell (kept, as folds went from",
    "7.9 to 7.4 % and left-out devices from 16.6 to 12.4 % over all); rows on AMD start where vLLM's row on AMD lies",
    "to that on NVIDIA; ExLlama's prefill starts at llama.cpp's, which multiplies alike (unpacked first, in fp16).",
    "",
    "Stated before the fit that has them, with the residuals of the one before in view (all together: folds from 7.4",
    "to 6.7 %, left-out devices from 12.4 to 10.6 %). What runs on vector units goes with the multiply-adds that",
    "schedulers issue, not with fp32 lanes: GA100 has half as many lanes as it issues to, and the sheets of CDNA 3",
    "and RDNA 3 count two operations an instruction. That is no constant more; vLLM of 2024 with a device left out",
    "went from 16.4 to 10.7 %. A bridge joins two cards: more of them share PCIe, where each of the 2 (N - 1) steps",
    "of a ring takes a time of its own (one constant; to 9.0 %). K formats take more operations a weight than 4_0 and",
    "8_0, by one ratio for llama.cpp, fitted on Apple where both were run and set to 3 on NVIDIA (Apple: folds from",
    "15.4 to 9.8 %). In llama.cpp of 2024 one row of 16-bit weights is read by each multiprocessor in so many bytes a",
    "clock: there an A100 was as slow as an RTX 4090. Kernels of August 2023 on Apple unpack anew, after one of five",
    "points had been seen 27 % too fast. Tried and left out, as folds hardly moved (11.0 to 10.6 %): clocks that fall",
    "with power per FLOP.",
    "",
    "llama.cpp on CPUs multiplies on the vector units, and the threads of a die share what it reads (threads as a",
    "row's source tells them, else one a core): folds went from 40 to 20 %. AutoAWQ on IPEX got a row of its own",
    "after one row for both had put its prefill of 32 tokens 49 % too slow.",
    "",
    "Last, with the residuals of the fit before in view: llama.cpp since b3200 multiplies packed weights as 8-bit",
    "integers and got a row of its own, after its one prefill had been put 139 % too slow by that of early 2024 (whose",
    "folds went from 10.2 to 7.8 % without it); its share of the int8 peak starts at 0.35, with that point seen. Cells",
    "that the fit had put at zero are zero and no longer fitted: host times of TinyChat, MLC, AutoAWQ, transformers,",
    "vLLM on AMD. gpt-fast takes the fixed time of a collective from all: its points cannot tell it from that of a",
    "kernel. AutoAWQ's attention in decode has a share of its own, as three sequences took hardly longer than one.",
    "Tried and left out: AutoAWQ with scores written to memory (folds 15.5 to 15.6 %).",
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
            key,
            stack.versions,
            len(stack.devices),
            len(own),
            f"{100 * (stack.error or 0):.1f} %",
            f"{mape_percent(one.fold for one in own):.1f} %",
            f"{mape_percent(one.device for one in own):.1f} %",
            f"{inside[0]:.0f} %",
            f"{inside[1]:.0f} %",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _over_all(out: Sequence[Unseen]) -> str:
    rows = stacks.stacks()
    folds = fmean(abs(one.fold) <= math.log1p(rows[one.key].spread[one.phase]) + 1e-9 for one in out)
    devices = fmean(abs(one.device) <= math.log1p(rows[one.key].unseen_spread[one.phase]) + 1e-9 for one in out)
    return (
        f"folds MAPE {mape_percent(one.fold for one in out):.1f} %, {100 * folds:.0f} % in the interval; devices "
        f"MAPE {mape_percent(one.device for one in out):.1f} %, {100 * devices:.0f} % in the interval."
    )


def _planned(point: MeasuredPoint, shares: tuple[float, float]) -> float:
    """What the formula of planners says of what was measured."""
    prefill_s, decode_s = planned_s(point.arch, point.work, point.spec, shares)
    if point.phase == "prefill":
        return prefill_s
    return prefill_s + (point.work.generate - 1) * decode_s if point.phase == "run" else decode_s


def _peers(known: Sequence[Scored]) -> list[str]:
    phases = ("run", "prefill", "decode", "serving")
    timed = [one for one in known if one.point is not None and one.point.phase in phases]
    columns: dict[str, Callable[[Scored], float]] = {"llamalab, by stack": lambda one: one.error or 0.0}
    for name, shares in SHARES.items():
        label = f"{name} ({shares[0]:g}/{shares[1]:g})"
        columns[label] = lambda one, shares=shares: _planned(one.point, shares) / one.point.measured - 1  # type: ignore[misc, arg-type, union-attr]
    columns["llamalab, physical bound"] = lambda one: (one.bound or 0.0) / one.point.measured - 1  # type: ignore[union-attr]
    lines = [f"| predictor | {' | '.join(phases)} | all |", f"|---|{'---:|' * (len(phases) + 1)}"]
    for name, error in columns.items():
        errors = [(one.point.phase, abs(error(one))) for one in timed if one.point is not None]
        cells = [f"{100 * fmean(e for p, e in errors if p == phase):.1f} %" for phase in phases]
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * fmean(e for _, e in errors):.1f} % |")
    return lines
