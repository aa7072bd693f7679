"""Captions: the finding of each plot in one or two sentences."""

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase
from llamalab.comparison.sentences import crossover_sentence, fit_sentence, memory_sentence, winner_sentence
from llamalab.comparison.wording import short, signed_percent
from llamalab.formatting import format_bytes, format_si
from llamalab.report.charts.attention_sweep import prompts
from llamalab.report.charts.roofline import plotted
from llamalab.report.theme import GROUPS, group_of


def roofline_finding(comparison: Comparison) -> str:
    """The position of each phase on the roofline, and the operation furthest below its roof."""
    sentences = []
    for phase in comparison.phases:
        rows = [row for row in plotted(comparison) if row.phase == phase.run.phase and row.roof_fraction]
        if not rows:
            continue
        limits = [row.prediction.limit for row in rows if row.prediction]
        common = max(set(limits), key=lambda limit: (limits.count(limit), limit))
        lowest = min(rows, key=lambda row: row.roof_fraction or 0.0)
        sentences.append(
            f"In {phase.run.phase} {limits.count(common)} of {len(rows)} matrix operations are {common}-bound; "
            f"furthest below its roof is {short(lowest.op.name)} at {lowest.roof_fraction:.0%}."
        )
    return " ".join(sentences) or "Without trusted roofs the measured points stand alone."


def blocks_finding(phase: Phase) -> str:
    """The group with the largest share of a block, and the error of its prediction."""
    rows = [row for row in phase.rows if row.op.section == "block" and row.measured_s]
    if not rows:
        return f"{phase.run.phase.capitalize()}: not measured: the op-by-op pass has no rows."
    spent = dict.fromkeys(GROUPS, 0.0)
    for row in rows:
        spent[group_of(row.op.part, row.op.kind)] += row.measured_s or 0.0
    group = max(spent, key=lambda key: spent[key])
    share = spent[group] / sum(spent.values())
    _, predicted, measured = next(part for part in phase.parts if part[0] == "block")
    verb = "takes" if group == "attention" else "take"
    sentence = f"In {phase.run.phase}, {GROUPS[group]} {verb} {share:.0%} of a block"
    if measured is None:
        return sentence + "."
    sentence += f"; a block takes {format_si(measured, 's')}"
    if predicted is not None:
        sentence += f" where {format_si(predicted, 's')} was predicted ({signed_percent(predicted / measured - 1)})"
    return sentence + "."


def memory_finding(comparison: Comparison) -> str:
    """Weights, cache per sequence, what fits, and the peak of activations."""
    weights, cache = format_bytes(comparison.weight_bytes), format_bytes(comparison.kv_bytes_per_sequence)
    sentences = [
        f"Weights take {weights} and each sequence of {comparison.arch.max_positions:,} tokens {cache}.",
        fit_sentence(comparison),
    ]
    sentences += map(memory_sentence, comparison.phases)
    return " ".join(sentences)


def kv_finding(comparison: Comparison) -> str:
    """How many full-length sequences fit under each kind of attention."""
    seq = comparison.arch.max_positions
    if comparison.free_bytes <= 0:
        return "The weights alone do not fit in this device's memory, so no cache does."
    counts = [
        f"{comparison.free_bytes // cell.kv_bytes:,} with {cell.attention} ({format_bytes(cell.kv_bytes)} each)"
        for cell in comparison.kv_cells
        if (cell.context, cell.batch) == (seq, 1)
    ]
    return f"Sequences of {seq:,} tokens that fit beside the weights: {', '.join(counts)}. Cells are GiB; M is MiB."


def attention_finding(comparison: Comparison) -> str:
    """The length from which flash is faster than naive, and the memory it saves."""
    peaks: dict[int, dict[str, int]] = {}
    for row in prompts(comparison):
        if row.point.peak_bytes:
            by_kind = peaks.setdefault(row.point.new_tokens, {})
            by_kind[row.point.algorithm] = min(row.point.peak_bytes, by_kind.get(row.point.algorithm, 1 << 62))
    both = {tokens: kinds for tokens, kinds in peaks.items() if {"naive", "flash"} <= kinds.keys()}
    sentence = f"{crossover_sentence(comparison)} {winner_sentence(comparison)}".strip()
    if both:
        longest = max(both)
        ratio = both[longest]["naive"] / both[longest]["flash"]
        sentence += f" Flash needs {ratio:,.0f}x less memory at {longest:,} tokens." if ratio >= 2 else ""
    return sentence


def attention_gaps(comparison: Comparison) -> list[str]:
    """Points that were not measured, with the reason."""
    return [
        f"{row.point.backend} at {row.point.new_tokens:,} tokens was not measured: {row.point.reason or 'no reason'}."
        for row in comparison.attention
        if not row.point.samples_s
    ]
