"""The section on differences of a model from Llama 2, and the cost of each difference.

The terms are those of `llamalab diff-arch`; the times are predicted for the record's own machine.
"""

from collections.abc import Callable
from typing import Any

from llamalab.analytic.difference import (
    Cost,
    DifferenceTerm,
    cost_of,
    nearest_llama_2,
    table_rows,
    terms,
    unlike_llama_2,
)
from llamalab.analytic.op import Op
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import as_measured, predicted_workload
from llamalab.formatting import format_bytes, format_seconds, format_si, signed
from llamalab.presets import PRESETS
from llamalab.report.data_table import DataColumn, DataTable, text
from llamalab.report.layout import Section

NAME = "llama2"


def llama_2_tables(comparison: Comparison) -> dict[str, DataTable]:
    """The table of the section by name; none where the model is a Llama 2 of some size."""
    if not unlike_llama_2(comparison.arch):
        return {}
    near, costs, found = _difference(comparison)
    rows = table_rows((PRESETS[near].title, comparison.record.model), costs, found)
    caption = f"From {PRESETS[near].title} to {comparison.record.model}; each line adds to the one above it"
    return {NAME: DataTable(NAME, caption, _COLUMNS, rows)}


def llama_2_sections(comparison: Comparison, made: dict[str, DataTable]) -> list[Section]:
    """The section, where the model is no Llama 2."""
    if NAME not in made:
        return []
    near, costs, found = _difference(comparison)
    return [
        Section(
            anchor="llama-2",
            short="Llama 2",
            heading="What differs from Llama 2, and what it costs",
            finding=_finding(comparison, near, costs),
            board=(made[NAME],),
            remarks=_free(found),
        )
    ]


def _difference(comparison: Comparison) -> tuple[str, tuple[Cost, Cost], tuple[DifferenceTerm, ...]]:
    """The nearest Llama 2, both costs, and the terms between them."""
    arch, near, work = comparison.arch, nearest_llama_2(comparison.arch), _work(comparison)

    def seconds(one: LlamaArch, ops: tuple[Op, ...]) -> float | None:
        return comparison.basis.of(one).pass_s(ops, work.dtype)

    first = PRESETS[near].arch
    return near, (cost_of(first, work, seconds), cost_of(arch, work, seconds)), terms(first, arch, work, seconds)


def _work(comparison: Comparison) -> Workload:
    """The page's run, with the operations that were measured."""
    return predicted_workload(comparison)._replace(
        attention=as_measured(comparison).attention, weight_dtype=comparison.record.weight_dtype, fused=False
    )


def _finding(comparison: Comparison, near: str, costs: tuple[Cost, Cost]) -> str:
    first, own = costs
    work, differs = _work(comparison), ", ".join(unlike_llama_2(comparison.arch))
    sentence = (
        f"{comparison.record.model} is unlike any Llama 2 in {differs}; {PRESETS[near].title} is the nearest. It has "
        f"{_more(own.parameters, first.parameters)} parameters, and at {work.prompt:,} tokens a KV cache of "
        f"{format_bytes(own.kv_bytes)} in place of {format_bytes(first.kv_bytes)}"
    )
    if None in (own.prefill_s, own.decode_s, first.prefill_s, first.decode_s):
        return f"{sentence}."
    return (
        f"{sentence}; here its prompt is predicted to take {_seconds(own.prefill_s)} in place of "
        f"{_seconds(first.prefill_s)}, a token {_seconds(own.decode_s)} in place of {_seconds(first.decode_s)}."
    )


def _more(own: int, other: int) -> str:
    change = own / other - 1
    return f"{abs(change):.1%} {'more' if change > 0 else 'fewer'}"


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else format_seconds(value)


def _free(found: tuple[DifferenceTerm, ...]) -> tuple[str, ...]:
    """The differences without a cost."""
    free = [field for term in found if not any(term.added) for field in term.fields]
    return (f"Of no cost: {', '.join(free)}.",) if free else ()


def _amount(key: str, title: str, form: Callable[[Any], str], *, main: bool = True) -> DataColumn:
    return DataColumn(key, title, signed(form), main=main)


_COLUMNS = (
    text("term", "model or difference"),
    text("before", "from"),
    text("after", "to"),
    _amount("parameters", "parameters", "{:,}".format),
    _amount("kv_bytes", "KV cache", format_bytes),
    _amount("prefill_s", "prefill, predicted", format_seconds),
    _amount("decode_s", "per token, predicted", format_seconds),
    _amount("weight_bytes", "weights", format_bytes, main=False),
    _amount("prefill_flops", "prefill FLOPs", lambda value: format_si(value, "FLOP"), main=False),
    _amount("prefill_bytes", "prefill moves", format_bytes, main=False),
    _amount("decode_flops", "decode FLOPs", lambda value: format_si(value, "FLOP"), main=False),
    _amount("decode_bytes", "decode moves", format_bytes, main=False),
)
