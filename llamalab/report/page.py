"""The page: which cards and sections stand on it, in which order, and what says that one is missing."""

from collections.abc import Sequence

from markupsafe import Markup

from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token
from llamalab.analytic.params import weight_bytes
from llamalab.comparison.comparison import Comparison, Phase
from llamalab.comparison.sentences import blocks as blocks_run
from llamalab.comparison.sentences import error_sentence, machine, percent, title, tokens_per_s, verdict
from llamalab.records.profile import of_record
from llamalab.records.record import Record
from llamalab.report import captions as findings
from llamalab.report import prospects as outlook
from llamalab.report import provenance
from llamalab.report.charts import attention_sweep as attention
from llamalab.report.charts import blocks, devices, heatmap, memory, roofline, scatter
from llamalab.report.charts.base import draw
from llamalab.report.charts.experiment_results import CHARTS
from llamalab.report.experiment_results import Answer
from llamalab.report.layout import Card, Figure, Frame, Section, figure, fill
from llamalab.report.profile_page import profile_sections
from llamalab.report.tables import Table, tables, worst
from llamalab.report.trend import StoredRun, trend_sections
from llamalab.units import format_bytes, format_si

_CLOSING = (
    "An error is predicted / measured − 1: positive where the prediction was too slow. Predictions rest on {basis}. "
    "GiB is 2³⁰ bytes, GB 10⁹; one multiply-add is 2 FLOP."
)


def page(
    comparison: Comparison, record_json: str, generator: str, recorded: Sequence[Record] = (),
    answers: Sequence[Answer] = (), stored: Sequence[StoredRun] = (),
) -> str:  # fmt: skip
    """The whole HTML page. `record_json` must be safe inside a script element; `recorded` are runs elsewhere."""
    made = tables(comparison)
    return fill(Frame(
        generator=generator,
        title=title(comparison),
        machine=machine(comparison.record.environment),
        dtype=comparison.record.dtype,
        purpose="predicted and measured",
        headline=verdict(comparison).headline,
        cards=cards(comparison),
        findings=verdict(comparison).findings,
        sections=[*sections(comparison, made), *in_depth(comparison.record), *experiments(answers),
                  *prospects(comparison, recorded), *trend_sections(stored)],
        notes=comparison.record.notes,
        facts=provenance.facts(comparison),
        closing=_CLOSING.format(basis=comparison.basis.words),
        record_json=Markup(record_json),
        formulas=tuple(provenance.formulas(comparison)),
        summary=made["passes"],
        tag=extrapolated(comparison),
        tagged=("predicted", "blocks", "roofline"),
    ))  # fmt: skip


def cards(comparison: Comparison) -> list[Card]:
    """The key figures, in reading order."""
    arch, dtype, seq = comparison.arch, comparison.record.dtype, comparison.arch.max_positions
    weights, cache = weight_bytes(arch, dtype), kv_bytes(arch, seq=seq, dtype=dtype)
    parameters, fits = comparison.parameters, comparison.fits(seq)
    room = format_bytes(comparison.record.environment.memory_bytes)
    exact = (
        "counted = built, exact" if parameters.exact else f"{parameters.expected:,} were counted: an error to explain"
    )
    same_kv = "allocated as counted, exact" if comparison.kv.exact else "allocated otherwise: an error to explain"
    return [
        Card("Parameters", *_billions(parameters.measured), (f"{parameters.measured:,}", exact),
             state="good" if parameters.exact else "bad"),
        Card("Weights", *_split(format_bytes(weights)), (f"{weights:,} bytes", f"in {dtype}")),
        Card("KV cache", *_split(format_bytes(cache)),
             (f"per {seq:,}-token sequence, {format_bytes(kv_bytes_per_token(arch, dtype))} a token", same_kv),
             state="good" if comparison.kv.exact else "bad"),
        *(_speed(phase) for phase in comparison.phases),
        *(_bound(phase) for phase in comparison.phases),
        Card("Largest batch", f"{fits:,}", "",
             (f"sequences of {seq:,} tokens", f"beside the weights in {room}"), state="" if fits else "bad"),
    ]  # fmt: skip


def sections(comparison: Comparison, made: dict[str, Table]) -> list[Section]:
    """Everything between the verdict and the provenance."""
    unmatched = tuple(
        f"Measured in {phase.run.phase} but in no cost table: {', '.join(phase.unmatched)}."
        for phase in comparison.phases
        if phase.unmatched
    )
    both = None if comparison.errors else "no operation has both a prediction and a measurement"
    rooflines = None if roofline.plotted(comparison) else "the op-by-op pass has no matrix operation"
    timed = None if any(phase.run.ops for phase in comparison.phases) else "the op-by-op pass has no rows"
    prompts = attention.prompts(comparison)
    alone = None if any(row.point.samples_s for row in prompts) else "attention was not run by itself"
    finding_of_blocks = " ".join(map(findings.blocks_finding, comparison.phases))
    return [
        Section("predicted", "Predictions", "Predicted against measured", error_sentence(comparison),
                (figure(scatter.scatter, comparison, "scatter", both, made["ops"]),), unmatched,
                () if both else (worst(comparison),)),
        Section("roofline", "Roofline", "Roofline", findings.roofline_finding(comparison),
                (figure(roofline.roofline, comparison, "roofline", rooflines, made["roofs"]),)),
        Section("blocks", "Time", "Where the time of a block goes", finding_of_blocks,
                (figure(blocks.stacked, comparison, "stacked", timed),
                 figure(blocks.bars, comparison, "bars", timed))),
        Section("memory", "Memory", "Memory", findings.memory_finding(comparison),
                (figure(memory.memory, comparison, "memory", None, made["memory"]),)),
        Section("kv", "KV", "KV cache: MHA, GQA and MQA", findings.kv_finding(comparison),
                (figure(heatmap.heatmap, comparison, "heatmap", None, made["kv"]),)),
        Section("attention", "Flash", "Flash against naive attention", findings.attention_finding(comparison),
                (figure(attention.attention, comparison, "attention", alone, made["attention"]),),
                tuple(findings.attention_gaps(comparison))),
    ]  # fmt: skip


def in_depth(record: Record) -> list[Section]:
    """The profile of the passes; the navigation names the first of its parts."""
    own = of_record(record)
    first, *rest = profile_sections([own] if own else [])
    return [first._replace(short="Profile"), *(one._replace(short="") for one in rest)]


def experiments(answers: Sequence[Answer]) -> list[Section]:
    """What experiments asked and found, with the plots they have; the navigation names the first of them."""
    return [
        Section(f"answer-{place}", "" if place else "Experiments", answer.question, answer.conclusion,
                _plot_of(answer, place), (answer.origin,))
        for place, answer in enumerate(answers)
    ]  # fmt: skip


def _plot_of(answer: Answer, place: int) -> tuple[Figure, ...]:
    """The plot of an experiment; some say all in words."""
    chart = CHARTS.get(answer.experiment)
    return (Figure(Markup(draw(chart, answer, prefix=f"answer{place}")), ""),) if chart else ()


def prospects(comparison: Comparison, recorded: Sequence[Record]) -> list[Section]:
    """What was not measured here: changes to try, other devices, and runs recorded elsewhere."""
    rows, found = outlook.told(comparison)
    nowhere = None if any(row.times for row in rows) else "no device of the table holds it"
    missing = "" if nowhere is None else f"not predicted: {nowhere}"
    chart = None if nowhere else Markup(draw(devices.devices, rows, prefix="devices"))
    parts = [
        Section("next", "Next", "What to try next", outlook.next_finding(comparison, found), (),
                shown=(outlook.next_steps(found, comparison.basis.words),) if found else ()),
        Section("devices", "Devices", "On other devices", outlook.devices_finding(comparison, rows),
                (Figure(chart, missing, outlook.devices(rows)),)),
    ]  # fmt: skip
    if recorded:
        parts.append(Section("recorded", "Recorded", "Recorded on other devices", outlook.recorded_finding(recorded),
                             (), shown=(outlook.recorded(recorded),)))  # fmt: skip
    return parts


def extrapolated(comparison: Comparison) -> str:
    """The label of whole-model times; empty where every block ran."""
    partial = [phase for phase in comparison.phases if phase.run.basis == "extrapolated"]
    return f"extrapolated from {blocks_run(partial[0])}" if partial else ""


def _speed(phase: Phase) -> Card:
    value, unit = tokens_per_s(phase.measured_tokens_per_s).split(" ")
    if phase.predicted_tokens_per_s is None or phase.error is None:
        details: tuple[str, ...] = (phase.reason or "not predicted",)
    else:
        details = (f"predicted {tokens_per_s(phase.predicted_tokens_per_s)}", f"error in time {percent(phase.error)}")
    tag = f"extrapolated from {blocks_run(phase)}" if phase.run.basis == "extrapolated" else ""
    return Card(f"{phase.run.phase.capitalize()}, measured", value, unit, details, tag)


def _bound(phase: Phase) -> Card:
    label, limit = f"{phase.run.phase.capitalize()} bound", phase.limit
    if limit is None:
        return Card(label, "unknown", "", (phase.reason or "not predicted",))
    if limit.fraction is None:
        return Card(label, limit.name, "", ("fixed time per operation dominates",))
    unit = "FLOP/s" if limit.name == "compute" else "B/s"
    share = f"{limit.fraction:.0%} of the measured roof"
    reached = f"{format_si(limit.rate or 0.0, unit)} of {format_si(limit.roof or 0.0, unit)}"
    return Card(label, limit.name, "", (share, reached))


def _split(text: str) -> tuple[str, str]:
    value, _, unit = text.partition(" ")
    return value, unit


def _billions(count: int) -> tuple[str, str]:
    scale, unit = (1e9, "billion") if count >= 1e9 else (1e6, "million") if count >= 1e6 else (1e3, "thousand")
    return f"{count / scale:.2f}", unit
