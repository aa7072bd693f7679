"""The parts of every page: cards, sections with figures and tables, and the template that they go into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llamalab.report import theme
from llamalab.report.charts.base import Plot, draw
from llamalab.report.svg import share_styles
from llamalab.report.tables import Table

TEMPLATES = Path(__file__).parent / "templates"


class Card(NamedTuple):
    """A key figure: its name, the number, what stands under it, and whether it is good or bad news."""

    label: str
    value: str
    unit: str
    details: tuple[str, ...]
    tag: str = ""
    state: str = ""


class Figure(NamedTuple):
    """A plot as SVG, or the reason why there is none, with the table behind it."""

    svg: Markup | None
    missing: str
    table: Table | None = None


class Section(NamedTuple):
    """A part of the page: a heading, the finding, figures, remarks and tables that stand open.

    `short` is its name in the navigation; without one it belongs to the section before.
    """

    anchor: str
    short: str
    heading: str
    finding: str
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...] = ()
    shown: tuple[Table, ...] = ()


class Frame(NamedTuple):
    """A whole page. `tag` labels figures that stand for more than what ran, in sections of `tagged`."""

    generator: str
    title: str
    machine: str
    dtype: str
    purpose: str
    headline: str
    cards: list[Card]
    findings: tuple[str, ...]
    sections: list[Section]
    notes: list[str]
    facts: list[tuple[str, str]]
    closing: str
    record_json: Markup
    formulas: tuple[tuple[str, str], ...] = ()
    summary: Table | None = None
    tag: str = ""
    tagged: tuple[str, ...] = ()


def fill(frame: Frame) -> str:
    """The page as HTML. `record_json` must be safe inside a script element; all else is escaped here."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    rules, sections = _shared(frame.sections)
    looks = {"colours": theme.variables(), "plot_rules": Markup(rules), "sections": sections}
    return environment.get_template("page.html").render(frame._asdict() | looks)


def _shared(sections: list[Section]) -> tuple[str, list[Section]]:
    """The rules of all plots' styles, and the sections with plots that name them."""
    drawn = [one for section in sections for one in section.figures if one.svg]
    rules, plots = share_styles([str(one.svg) for one in drawn])
    left = iter(plots)
    return rules, [
        section._replace(
            figures=tuple(one._replace(svg=Markup(next(left))) if one.svg else one for one in section.figures)
        )
        for section in sections
    ]


def figure(
    chart: Callable[..., Plot], shown: Any, prefix: str, missing: str | None = None, table: Table | None = None
) -> Figure:
    """The plot of what is shown, or `missing`, the reason that there is none."""
    if missing:
        return Figure(None, f"not measured: {missing}", table)
    return Figure(Markup(draw(chart, shown, prefix=prefix)), "", table)
