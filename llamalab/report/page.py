"""The page of a report: its cards and sections in order, with a reason for each missing one."""

from collections.abc import Sequence

from markupsafe import Markup

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import error_sentence, phase_sentence, verdict
from llamalab.comparison.what_if import Change, actions, elsewhere, predicted_workload
from llamalab.comparison.wording import blocks as blocks_run
from llamalab.comparison.wording import machine, title
from llamalab.formatting import format_seconds
from llamalab.hardware import WIDELY_USED
from llamalab.records.profile import why_no_profile
from llamalab.records.record import Record
from llamalab.report import captions, prospects, provenance
from llamalab.report.appendix import appendix
from llamalab.report.bounded import fill_bounded
from llamalab.report.cards import cards
from llamalab.report.charts import attention_sweep, blocks, devices, heatmap, memory, roofline, scatter
from llamalab.report.data_table import DataTable
from llamalab.report.experiment_results import ExperimentResult
from llamalab.report.layout import Figure, Fold, Listing, PageContent, Section, figure
from llamalab.report.llama_2_section import llama_2_sections, llama_2_tables
from llamalab.report.patterns_section import patterns_sections, patterns_tables
from llamalab.report.profile_parts import ProfileParts, conditions, profile_of, profile_parts
from llamalab.report.published_section import published_sections, published_tables
from llamalab.report.ranks_section import ranks_sections, ranks_tables
from llamalab.report.settings import page_settings, script_knows
from llamalab.report.tables import tables, worst
from llamalab.report.trend import StoredRun, trend_sections

_ACTIONS = 3  # on the first screen
_CLOSING = (
    "An error is predicted / measured − 1: positive where the prediction was too slow. Predictions rest on {basis}. "
    "GiB is 2³⁰ bytes, GB 10⁹; one multiply-add is 2 FLOP."
)


def page(
    comparison: Comparison,
    record_json: str,
    generator: str,
    recorded: Sequence[Record] = (),
    results: Sequence[ExperimentResult] = (),
    stored: Sequence[StoredRun] = (),
) -> str:
    """The whole HTML page. `record_json` must be safe inside a script element; `recorded` are runs elsewhere."""
    conclusion, made = verdict(comparison), report_tables(comparison)
    rows = elsewhere(comparison.arch, predicted_workload(comparison), comparison.stack, names=WIDELY_USED)
    found, own = actions(comparison, rows), profile_of(comparison)
    parts = profile_parts([own] if own else [], why_no_profile(comparison.record))
    sections = [
        predictions(comparison, made),
        time(comparison, made, parts),
        memory_section(comparison, made, parts),
        *parts.kernels,
        attention_section(comparison, made),
        *patterns_sections(comparison, made),
        *llama_2_sections(comparison, made),
        prospects_section(comparison, found, made),
        *published_sections(made),
        *ranks_sections(comparison.record, made),
        *conditions(parts),
        *trend_sections(stored),
        *appendix(comparison.record, results, recorded),
    ]
    return fill_bounded(
        PageContent(
            generator=generator,
            title=title(comparison),
            machine=machine(comparison.record.environment),
            dtype=comparison.record.formats,
            purpose="predicted and measured",
            headline=conclusion.headline,
            cards=cards(comparison),
            listings=(
                Listing("Predictions that failed", conclusion.failures, "bad"),
                Listing("What would gain most", [_gain(one) for one in found[:_ACTIONS]], ordered=True),
                Listing("What was found", _beside_cards(comparison, conclusion.findings)),
                Listing("What to distrust", [*dict.fromkeys((*conclusion.doubts, *comparison.record.notes))], "doubt"),
            ),
            sections=sections,
            facts=provenance.facts(comparison),
            closing=_CLOSING.format(basis=comparison.basis.words),
            record_json=Markup(record_json),
            tables=list((made | parts.tables).values()),
            formulas=tuple(provenance.formulas(comparison)),
            tag=extrapolated(comparison),
            tagged=("predicted", "time"),
            settings=page_settings(comparison, rows) if script_knows(comparison.arch) else None,
        )
    )


def report_tables(comparison: Comparison) -> dict[str, DataTable]:
    """The tables of a report without its profile, by name."""
    rows = elsewhere(comparison.arch, predicted_workload(comparison), comparison.stack, names=WIDELY_USED)
    more = (
        prospects.devices_table(comparison, rows),
        prospects.actions_table(actions(comparison, rows), comparison.basis.words),
    )
    own = ranks_tables(comparison.record) | published_tables(comparison) | patterns_tables(comparison.record.patterns)
    return tables(comparison) | llama_2_tables(comparison) | {table.name: table for table in more} | own


def predictions(comparison: Comparison, made: dict[str, DataTable]) -> Section:
    """Predicted against measured, the largest errors first."""
    unmatched = tuple(
        f"Measured in {phase.run.phase} but in no cost table: {', '.join(phase.unmatched)}."
        for phase in comparison.phases
        if phase.unmatched
    )
    none = None if comparison.errors else "no operation has both a prediction and a measurement"
    drawn = figure(scatter.scatter, comparison, "scatter", none, made["ops"])
    board = (drawn,) if none else (drawn, worst(comparison))
    return Section(
        anchor="predicted",
        short="Predictions",
        heading="Predicted against measured",
        finding=error_sentence(comparison),
        board=(made["passes"], *board),
        remarks=unmatched,
    )


def time(comparison: Comparison, made: dict[str, DataTable], parts: ProfileParts) -> Section:
    """The time of a block by operation, and the distance of each operation from its roof."""
    untimed = None if any(phase.run.ops for phase in comparison.phases) else "the op-by-op pass has no rows"
    unplaced = None if roofline.plotted(comparison) else "the op-by-op pass has no matrix operation"
    finding = " ".join([*map(captions.blocks_finding, comparison.phases), captions.roofline_finding(comparison)])
    return Section(
        anchor="time",
        short="Time",
        heading="Where the time goes",
        finding=finding,
        board=(
            figure(blocks.stacked, comparison, "blocks", untimed),
            figure(roofline.measured_roofline, comparison, "roofline", unplaced),
            made["roofs"],
            figure(blocks.bars, comparison, "operations", untimed),
        ),
        remarks=(),
        folds=(*parts.time, *_raised(comparison)),
    )


def memory_section(comparison: Comparison, made: dict[str, DataTable], parts: ProfileParts) -> Section:
    """Memory of weights, cache and activations, and the largest batch."""
    heat = figure(heatmap.heatmap, comparison, "kv", None, None)
    kinds = Fold("kv-cache", "KV cache under MHA, GQA and MQA", captions.kv_finding(comparison), (heat,), (made["kv"],))
    held = figure(memory.memory, comparison, "held", None, made["memory"])
    return Section(
        anchor="memory",
        short="Memory",
        heading="Memory",
        finding=captions.memory_finding(comparison),
        board=(held,),
        remarks=(),
        folds=(kinds, *parts.memory_folded),
    )


def attention_section(comparison: Comparison, made: dict[str, DataTable]) -> Section:
    """Flash against naive attention alone."""
    alone = (
        None
        if any(row.point.samples_s for row in attention_sweep.prompts(comparison))
        else ("attention was not run by itself")
    )
    drawn = figure(attention_sweep.attention_sweep, comparison, "sweep", alone, made["attention"])
    return Section(
        anchor="attention",
        short="Attention",
        heading="Flash against naive attention",
        finding=captions.attention_finding(comparison),
        board=(drawn,),
        remarks=tuple(captions.attention_gaps(comparison)),
    )


def prospects_section(comparison: Comparison, found: Sequence[Change], made: dict[str, DataTable]) -> Section:
    """Changes that would shorten the run here, and other devices."""
    rows = elsewhere(comparison.arch, predicted_workload(comparison), comparison.stack, names=WIDELY_USED)
    missing = "" if any(row.times for row in rows) else "not predicted: no device of the table holds it"
    drawn = (
        Figure(None, missing, made["devices"], "devices")
        if missing
        else figure(
            lambda shown: devices.devices(*shown), (rows, prospects.here(comparison)), "devices", None, made["devices"]
        )
    )
    finding = f"{prospects.next_finding(comparison, found)} {prospects.devices_finding(comparison, rows)}"
    board = (made["next"], drawn) if found else (drawn,)
    return Section("next", "Next", "What would change it", finding, board)


def extrapolated(comparison: Comparison) -> str:
    """The label of whole-model times; empty where every block ran."""
    partial = [phase for phase in comparison.phases if phase.run.basis == "extrapolated"]
    return f"extrapolated from {blocks_run(partial[0])}" if partial else ""


def _raised(comparison: Comparison) -> list[Fold]:
    """The reason for each roof that was raised above its probes."""
    remarks = tuple(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in comparison.raised)
    return [Fold("raised-roofs", "Roofs that the run itself raised", remarks=remarks)] if remarks else []


def _beside_cards(comparison: Comparison, findings: Sequence[str]) -> list[str]:
    """The findings that the cards of the phases do not state."""
    said = {phase_sentence(phase) for phase in comparison.phases if phase.error is not None}
    return [sentence for sentence in findings if sentence not in said]


def _gain(one: Change) -> str:
    basis = "measured" if one.basis == "measured calls" else "predicted"
    return f"{one.what}: {one.share:.0%} less time, {format_seconds(one.saved_s)} of the run ({basis}); {one.needs}."
