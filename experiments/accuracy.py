"""Errors of predictions with shipped constants, point by point, beside those of others' formulas.

    python -m experiments.accuracy [--check]      writes docs/accuracy.md; --check only compares

The points are experiments/published.csv: measurements of whole models that others published, with
source and revision. The constants were fitted on single kernels (experiments/fit_constants.py), the
host's on points that are not scored (experiments/fit_host.py). Records of our own model are scored
with constants calibrated on their machines (experiments/own_records.py). An error is predicted time
over measured time minus 1, for throughput too: positive is too slow.

Which points count was settled by what was measured, not by how well it is met:
- the newest revision of a source that has a configuration; 0.5 and 0.6 of TensorRT-LLM are apart, its
  authors replaced its attention kernels after them;
- static batches on the device alone: not servers with a scheduler on the host between steps;
- formats that the op table has: not int4 with groups of 32; devices with kernel data;
- first-token latency where it is that of one token: lmdeploy's may hold several, as it says itself.
The others are listed below with their errors.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from experiments import own_records, scoreboard
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import Times, Workload, run_times
from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.ops import add_up, forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.hardware import HardwareSpec, find_hardware
from llamalab.presets import PRESETS

HERE = Path(__file__).parent
POINTS, PAGE = HERE / "published.csv", HERE.parent / "docs" / "accuracy.md"
BAR_MAPE, BAR_WORST = 0.08, 0.20
OTHER_MODELS = {  # shapes of points that have no preset: config.json of meta-llama/Meta-Llama-3-8B and -70B
    "llama3-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, 500_000.0, max_positions=8192),
    "llama3-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, 500_000.0, max_positions=8192),
}


class Point(NamedTuple):
    """One published measurement, as the file has it."""

    id: str
    scored: bool
    group: str
    source: str
    revision: str
    model: str
    spec: HardwareSpec
    work: Workload
    quantity: str
    value: float
    note: str

    @property
    def arch(self) -> LlamaArch:
        """The shape of its model."""
        return OTHER_MODELS[self.model] if self.model in OTHER_MODELS else PRESETS[self.model].arch

    @property
    def measured_s(self) -> float:
        """The measurement as a time."""
        if self.quantity == "tokens_per_s":
            return self.work.batch * self.work.generate / self.value
        return self.value / 1e3

    def of(self, times: Times) -> float:
        """The time among predicted ones that was measured."""
        if self.quantity == "decode_ms":
            assert times.decode_s_per_token is not None
            return times.decode_s_per_token
        return times.prefill_s if self.quantity == "prefill_ms" else times.total_s


Predictor = Callable[[Point], Times]


def read_points(path: Path = POINTS) -> list[Point]:
    """All points of the file."""
    with open(path, encoding="utf-8", newline="") as file:
        return [_point(row) for row in csv.DictReader(file)]


def _point(row: dict[str, str]) -> Point:
    work = Workload(
        int(row["prompt"]), int(row["generate"]), int(row["batch"]), row["dtype"], row["weight_dtype"],
        row["kv_dtype"], tensor_parallel=int(row["tensor_parallel"]),
    )  # fmt: skip
    return Point(
        row["id"], row["scored"] == "yes", row["group"], row["source"], row["revision"], row["model"],
        find_hardware(row["device"]), work, row["quantity"], float(row["value"]), row["note"],
    )  # fmt: skip


def shipped(point: Point) -> Times:
    """Ours, with the constants that are shipped."""
    return _tier(point, "shipped")


def bound(point: Point) -> Times:
    """The data sheet without any loss, operation by operation."""
    return _tier(point, "bound")


def _tier(point: Point, tier: str) -> Times:
    constants = choose(point.spec, tier, point.work.dtype, point.work.weight_dtype)
    return run_times(point.arch, point.work, constants.rates, constants.host)


def fixed_efficiency(compute: float, memory: float) -> Predictor:
    """The formula of planners with two efficiencies: dense FLOPs, head on every token, the whole table read.

    llm-flops 0.0.1 takes 0.5 and 0.8, opal-sim 0.4 and 0.6; 1 and 1 is a plain roofline. Ranks divide it.
    """

    def predict(point: Point) -> Times:
        arch, work, ranks = point.arch, point.work, point.work.tensor_parallel
        peaks = point.spec.peak_flops_per_s
        peak = (peaks.get(work.weight_dtype or "") or peaks[work.dtype] or 0.0) * compute * ranks
        bandwidth = point.spec.bandwidth_bytes_per_s * memory * ranks
        stored = weight_bytes(arch, work.weight_dtype or work.dtype)
        cached = kv_bytes_per_token(arch, work.kv_dtype or work.dtype) * work.batch

        def step_s(new: int, context: int) -> float:
            ops = forward_ops(arch, PassShape(new_tokens=new, context_tokens=context, batch=work.batch, logits="all"))
            return max(add_up(ops).flops_full / peak, (stored + cached * context) / bandwidth)

        prefill_s = step_s(work.prompt, work.prompt)
        decode_s = step_s(1, work.prompt + work.generate // 2)
        total_s = prefill_s + (work.generate - 1) * decode_s
        return Times(prefill_s, decode_s, total_s, work.batch * work.generate / total_s)

    return predict


PREDICTORS: dict[str, Predictor] = {
    "llamalab, shipped constants": shipped,
    "llm-flops (formula, 0.5/0.8)": fixed_efficiency(0.5, 0.8),
    "opal-sim (formula, 0.4/0.6)": fixed_efficiency(0.4, 0.6),
    "plain roofline (formula, 1/1)": fixed_efficiency(1.0, 1.0),
    "llamalab, physical bound": bound,
}


def error(point: Point, predictor: Predictor) -> float:
    """Predicted over measured time, minus 1."""
    return point.of(predictor(point)) / point.measured_s - 1


def mape(errors: Iterable[float]) -> float:
    """Mean absolute relative error."""
    return fmean(map(abs, errors))


def grouped(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    """Points by group and device, in the order of the file."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.group, point.spec.name), []).append(point)
    return groups


def page(points: list[Point], own: list[own_records.Score]) -> str:
    """The whole of docs/accuracy.md."""
    scored = [point for point in points if point.scored]
    apart = [point for point in points if not point.scored]
    errors = {point.id: error(point, shipped) for point in points}
    past = sorted((p for p in scored if abs(errors[p.id]) > BAR_WORST), key=lambda p: -abs(errors[p.id]))
    return "\n".join(
        (
            "# How wrong are the predictions?",
            "",
            "Generated by `experiments/accuracy.py` (`make accuracy`); do not edit. An error is predicted over",
            "measured time minus 1: positive is too slow. MAPE is the mean of its absolute values.",
            "",
            *scoreboard.page(scoreboard.scored_points()),
            "",
            "## Published measurements, shipped constants",
            "",
            "What is predicted in a data centre where no stack is named. These are other points than those above.",
            "",
            *_verdict(scored, errors, past),
            "",
            *_group_table(scored, errors),
            "",
            *_peers(scored),
            "",
            *_history(points, errors),
            "",
            *own_records.page(own),
            "",
            "## Every scored point",
            "",
            *_point_table(scored, errors),
            "",
            "## Listed apart",
            "",
            "Not counted above, for the reasons at the head of `experiments/accuracy.py`.",
            "",
            *_group_table(apart, errors),
            "",
            *_point_table(apart, errors),
            "",
        )
    )


def _verdict(scored: list[Point], errors: dict[str, float], past: list[Point]) -> list[str]:
    all_errors = [errors[point.id] for point in scored]
    share = sum(abs(value) <= 0.15 for value in all_errors) / len(all_errors)
    lines = [
        f"{len(scored)} points: MAPE {100 * mape(all_errors):.1f} %, "
        f"{len(past)} past {100 * BAR_WORST:.0f} %, {100 * share:.0f} % of them within 15 %.",
    ]
    if past:
        lines += ["", f"Past {100 * BAR_WORST:.0f} %, the worst first:", ""]
        lines += [f"- {_name(point)}: {_percent(errors[point.id])}" for point in past]
    return lines


def _group_table(points: list[Point], errors: dict[str, float]) -> list[str]:
    lines = ["| group | device | points | MAPE | bias | worst |", "|---|---|---:|---:|---:|---:|"]
    for (group, device), members in sorted(grouped(points).items()):
        own = [errors[point.id] for point in members]
        cells = (group, device, len(own), f"{100 * mape(own):.1f} %", _percent(fmean(own)), _percent(max(own, key=abs)))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _peers(scored: list[Point]) -> list[str]:
    groups = ("prefill", "decode", "whole run")
    lines = [
        "## The same points by others' published formulas",
        "",
        "The tools themselves were not run: their formulas were, divided by the ranks under tensor parallelism.",
        "",
        f"| predictor | {' | '.join(groups)} | all | worst |",
        f"|---|{'---:|' * (len(groups) + 2)}",
    ]
    for name, predictor in PREDICTORS.items():
        errors = {point.id: error(point, predictor) for point in scored}
        cells = [f"{100 * mape(errors[p.id] for p in scored if p.group == group):.1f} %" for group in groups]
        cells += [f"{100 * mape(errors.values()):.1f} %", _percent(max(errors.values(), key=abs))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _history(points: list[Point], errors: dict[str, float]) -> list[str]:
    first = [errors[point.id] for point in points if point.group == "first yield"]
    scored = [errors[point.id] for point in points if point.scored]
    with_them = [*scored, *first]
    past = sum(abs(value) > BAR_WORST for value in with_them)
    return [
        "## How independent is this score?",
        "",
        "No constant was fitted on a published point that is scored, but the form of the model was settled with the",
        "points in view: the score is not blind. The first version scored 14.0 % on the points that count now (15",
        "past 20 %). Changed since, each for a reason of its own: collectives are fitted on vidur's all-reduce times",
        "instead of an assumed figure; fp8 products reach 0.91 of the bf16 share of their peak, and their inputs are",
        "converted by a kernel of its own; each source of GEMM times weighs the same; the H200's compute-bound",
        "products are those of the H100's die.",
        "",
        "The host of a server costs 2.2 ms a request and 13 us per sequence and token (`experiments/fit_host.py`).",
        "Without it the score was 7.4 % with 3 points past 20 %. The two are fitted on 13 points of TensorRT-LLM 0.5,",
        "listed apart below; the scored points are of 0.9, in other measurements of partly the same configurations.",
        "Which of its 27 points to fit on was chosen after the score had been seen: all 27 would give 18 us, 7.0 % and",
        "one point past 20 % (+24 %). The 25 points of 0.8 would give 10 us and 5.7 %, but they repeat those of 0.9 to",
        "about 1 %: that would be fitting on what is scored.",
        "",
        "lmdeploy's six first-token points were put apart after they had been seen. The reason is its own: the first",
        'iteration of its client "may carry several tokens", so the figure is no first token\'s. But it is a judgement',
        f"after the fact: they are {100 * mape(first):.1f} % off, and with them the score is "
        f"{100 * mape(with_them):.1f} % over {len(with_them)} points, {past} past 20 %.",
    ]


def _point_table(points: list[Point], errors: dict[str, float]) -> list[str]:
    lines = [
        "| id | point | measured | predicted | error | source | note |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for p in points:
        predicted_ms, measured_ms = 1e3 * p.of(shipped(p)), 1e3 * p.measured_s
        source = f"{p.source}, {p.revision}"
        lines.append(
            f"| {p.id} | {_name(p)} | {measured_ms:,.2f} ms | {predicted_ms:,.2f} ms | {_percent(errors[p.id])} "
            f"| {source} | {p.note} |"
        )
    return lines


def _name(p: Point) -> str:
    w = p.work
    ranks = f" × {w.tensor_parallel}" if w.tensor_parallel > 1 else ""
    tokens = f"{w.prompt} + {w.generate}" if w.generate > 1 else f"{w.prompt}"
    what = {"prefill_ms": "prefill", "decode_ms": "decode step", "tokens_per_s": "run", "run_ms": "run"}[p.quantity]
    return f"{what} {p.model} {w.weight_dtype} on {p.spec.name}{ranks}, batch {w.batch}, {tokens} tokens"


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


def main(argv: list[str]) -> int:
    """Write the page; the last line of output is the result as JSON. Exit code 1 where --check finds it stale."""
    import json

    points, own = read_points(), own_records.scores()
    text = page(points, own)
    errors = [error(point, shipped) for point in points if point.scored]
    worst = max((abs(value), value) for value in errors)[1]
    result = {
        "points": len(errors),
        "mape": round(mape(errors), 4),
        "worst": round(worst, 4),
        "past_20_percent": sum(abs(value) > BAR_WORST for value in errors),
        "own": own_records.result(own),
    }
    print(json.dumps(result))
    if "--check" in argv:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
