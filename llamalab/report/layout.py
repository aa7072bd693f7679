"""The parts of every page: cards, sections with figures and tables, and the template that they go into."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llamalab.formatting import format_bytes
from llamalab.report import theme
from llamalab.report.charts.base import Plot, draw_svg
from llamalab.report.data_table import DataTable
from llamalab.report.svg import share_styles

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
SCRIPTS = ("model.js", "page.js")  # the formulas, then the interaction of the page
WIDE_TABLE = 6  # main columns; a table with more takes the whole width


class Card(NamedTuple):
    """A key figure: its name, the number, a remark below it, and whether it is good or bad."""

    label: str
    value: str
    unit: str
    details: tuple[str, ...]
    tag: str = ""
    state: str = ""


class Figure(NamedTuple):
    """A plot as SVG, or the reason why there is none, with the table of its data; `anchor` is its link on the page."""

    svg: Markup | None
    missing: str
    table: DataTable | None = None
    anchor: str = ""

    @property
    def wide(self) -> bool:
        """Whether it has several panels, which stand side by side."""
        return self.svg is None or self.svg.count("<svg") > 1


class Fold(NamedTuple):
    """Collapsible content: figures, tables and remarks under a title."""

    anchor: str
    title: str
    finding: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[DataTable, ...] = ()
    remarks: tuple[str, ...] = ()
    badge: str = ""


class Section(NamedTuple):
    """A part of the page: a heading, the finding, figures and tables in reading order, remarks, and folds.

    `short` is its name in the navigation.
    """

    anchor: str
    short: str
    heading: str
    finding: str
    board: tuple[Figure | DataTable, ...] = ()
    remarks: tuple[str, ...] = ()
    folds: tuple[Fold, ...] = ()
    badge: str = ""

    @property
    def figures(self) -> list[Figure]:
        """All figures, folded ones too."""
        return [one for one in self.board if isinstance(one, Figure)] + [
            one for fold in self.folds for one in fold.figures
        ]

    @property
    def data(self) -> list[DataTable]:
        """The tables behind the figures."""
        return [one.table for one in self.board if isinstance(one, Figure) and one.table]


class Listing(NamedTuple):
    """Sentences under a heading on the first screen."""

    heading: str
    sentences: Sequence[str]
    state: str = ""
    ordered: bool = False


class PageContent(NamedTuple):
    """A whole page. `tag` labels figures of more blocks than ran, in sections of `tagged`.

    `settings` are the inputs of the script, None for a page without any. `tables` can be downloaded from the
    page as CSV.
    """

    generator: str
    title: str
    machine: str
    dtype: str
    purpose: str
    headline: str
    cards: list[Card]
    listings: tuple[Listing, ...]
    sections: list[Section]
    facts: list[tuple[str, str]]
    closing: str
    record_json: Markup
    tables: Sequence[DataTable] = ()
    formulas: tuple[tuple[str, str], ...] = ()
    tag: str = ""
    tagged: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None


def fill(content: PageContent) -> str:
    """The page as HTML. `record_json` must be safe inside a script element; all else is escaped here."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["figure"] = lambda item: isinstance(item, Figure)
    script = page_script()
    rules, sections = _shared(content.sections)
    return environment.get_template("page.html").render(
        content._asdict()
        | {
            "sections": sections,
            "colours": theme.variables(),
            "plot_rules": Markup(rules),
            "script": Markup(script),
            "script_hash": script_hash(f"\n{script}\n"),
            "tables_json": Markup(plain_json({table.name: table.csv for table in content.tables})),
            "settings_json": Markup(plain_json(content.settings)),
            "embedded": embedded_files(content),
            "wide_table": WIDE_TABLE,
        }
    )


def page_script() -> str:
    """The one script of every page."""
    return "\n".join((TEMPLATE_FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)


def script_hash(script: str) -> str:
    """The source expression of a policy that allows exactly this script (CSP 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def plain_json(data: Any) -> str:
    """Compact JSON that cannot end or open an element of the page around it.

    Autoescaping would corrupt JSON in a script element, and leaving `<` alone would let a name close it.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shared(sections: list[Section]) -> tuple[str, list[Section]]:
    """The rules of all plots' styles, and the sections with plots that name them."""
    drawn = [one for section in sections for one in section.figures if one.svg]
    rules, plots = share_styles([str(one.svg) for one in drawn])
    named = {id(one): one._replace(svg=Markup(plot)) for one, plot in zip(drawn, plots, strict=True)}
    return rules, [
        section._replace(
            board=tuple(named.get(id(one), one) for one in section.board),
            folds=tuple(
                fold._replace(figures=tuple(named.get(id(one), one) for one in fold.figures)) for fold in section.folds
            ),
        )
        for section in sections
    ]


def embedded_files(content: PageContent) -> list[tuple[str, str, str]]:
    """Name, caption and size of everything that can be downloaded from the page."""
    files = [(f"{table.name}.csv", table.caption, format_bytes(len(table.csv.encode()))) for table in content.tables]
    return [("record.json", "All that was measured", format_bytes(len(content.record_json.encode()))), *files]


def figure(
    chart: Callable[..., Plot], shown: Any, prefix: str, missing: str | None = None, table: DataTable | None = None
) -> Figure:
    """The plot of given data, or `missing`, the reason why there is none."""
    if missing:
        return Figure(None, f"not measured: {missing}", table, prefix)
    return Figure(draw_svg(chart, shown, prefix=prefix), "", table, prefix)
