"""A size limit for pages: beyond it, folded sections lose their plots, and then their tables.

All measurements remain embedded, as JSON and as CSV.
"""

from typing import NamedTuple

from llamalab.report.layout import PageContent, fill

PAGE_BYTES = 450_000  # of a page
_PLOTS, _TABLES = "figures", "tables"  # of a fold
_LEFT_OUT = {
    _PLOTS: "Its plot is left out: the page would be too large with it.",
    _TABLES: "Its table is left out, as the page would be too large with it; it is among the files embedded below.",
}


class Part(NamedTuple):
    """The plots or the tables of a fold: section, fold, kind, and their bytes."""

    section: int
    fold: int
    what: str
    size: int


def fill_bounded(content: PageContent) -> str:
    """The page as HTML, with as many folded parts as the limit allows."""
    html, parts = fill(content), folded_parts(content)
    while parts and (excess := len(html.encode()) - PAGE_BYTES) > 0:
        while parts and excess > 0:
            part = parts.pop(0)
            content, excess = without(content, part), excess - part.size
        html = fill(content)
    return html


def folded_parts(content: PageContent) -> list[Part]:
    """Parts that can be left out, in this order: plots before tables, the appendix first, then by size."""
    found = [
        Part(place, number, what, sum(map(_size, getattr(fold, what))))
        for place, section in enumerate(content.sections)
        for number, fold in enumerate(section.folds)
        for what in (_PLOTS, _TABLES)
        if getattr(fold, what)
    ]
    return sorted(
        found, key=lambda one: (one.what == _TABLES, content.sections[one.section].anchor != "appendix", -one.size)
    )


def without(content: PageContent, part: Part) -> PageContent:
    """The page without a part, and with a remark in its place."""
    section = content.sections[part.section]
    fold, folds = section.folds[part.fold], list(section.folds)
    fold = fold._replace(remarks=(*fold.remarks, _LEFT_OUT[part.what]))
    folds[part.fold] = fold._replace(figures=()) if part.what == _PLOTS else fold._replace(tables=())
    sections = list(content.sections)
    sections[part.section] = section._replace(folds=tuple(folds))
    return content._replace(sections=sections)


def _size(one: object) -> int:
    """Approximate bytes of a plot or table; of a table those of its cell texts, without markup."""
    return len(str(getattr(one, "svg", None) or getattr(one, "shown", "")))
