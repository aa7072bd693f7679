"""Post-processing: one figure in, one small themed inline SVG out, the same every time."""

import re
from xml.etree import ElementTree

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.records.record import Record
from llamalab.report.charts import attention_sweep as attention
from llamalab.report.charts import blocks, heatmap, memory, roofline, scatter
from llamalab.report.charts.base import INK, Plot, canvas, draw_svg
from llamalab.report.theme import variables

CHARTS = (
    scatter.scatter,
    roofline.measured_roofline,
    blocks.stacked,
    blocks.bars,
    memory.memory,
    heatmap.heatmap,
    attention.attention_sweep,
)


def svgs(drawn: str) -> list[ElementTree.Element]:
    """The panels of a plot, each an SVG element; what draw gives must be well formed as a whole."""
    return list(ElementTree.fromstring(f"<div>{drawn}</div>").iter("svg"))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
def test_a_plot_is_the_same_byte_for_byte_small_and_clean(record: Record, chart) -> None:
    comparison = Comparison(record)
    one = draw_svg(chart, comparison, prefix="p")
    assert draw_svg(chart, comparison, prefix="p") == one
    assert len(one) < 60_000
    panels = svgs(one)
    assert panels
    for root in panels:
        assert root.attrib.keys() == {"viewBox", "role", "aria-labelledby"}
        assert not {"style", "metadata"} & {element.tag for element in root.iter()}
        assert all(element.attrib["id"].startswith("p-") for element in root.iter() if "id" in element.attrib)
    assert set(re.findall(r"var\(--([\w-]+)\)", one)) <= set(variables())
    assert not re.search(r"\d\.\d{3}", one)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
def test_no_colour_but_the_themes(record: Record, chart) -> None:
    svg = draw_svg(chart, Comparison(record), prefix="p")
    assert re.findall(r"#[0-9a-fA-F]{6}", svg) == []


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
def test_marks_have_tooltips(record: Record, chart) -> None:
    panels = svgs(draw_svg(chart, Comparison(record), prefix="p"))
    tips = [tip.text for root in panels for group in root.iter("g") for tip in group.findall("title")]
    assert len(tips) >= 4
    assert all(tips)


def test_ids_of_two_figures_do_not_meet(record: Record) -> None:
    comparison = Comparison(record)
    ids = [
        set(re.findall(r' id="([^"]+)"', draw_svg(scatter.scatter, comparison, prefix=prefix)))
        for prefix in ("one", "two")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_names_in_a_plot_stay_text() -> None:
    def chart() -> Plot:
        figures, (axes,) = canvas(2.0)
        axes.plot([0, 1], [0, 1], color=INK["accent"], gid="tip")
        axes.text(0, 0, "</svg><script>alert(1)</script>", color=INK["ink"])
        return Plot(figures, "a < b", "c & d", {"tip": '"><b>'})

    svg = draw_svg(chart, prefix="x")
    (root,) = svgs(svg)
    assert "<script" not in svg
    assert [tip.text for tip in root.iter("title")] == ["a < b", '"><b>']


def test_a_mark_is_defined_once_however_often_it_is_used() -> None:
    def chart() -> Plot:
        figures, (axes,) = canvas(2.0)
        for x in range(5):
            axes.plot([x], [x], "o", color=INK["accent"])
        return Plot(figures, "a", "b", {})

    (root,) = svgs(draw_svg(chart, prefix="x"))
    uses = [use.attrib["href"] for use in root.iter("use")]
    assert (len(uses), len(set(uses))) == (5, 1)
    assert uses[0][1:] in {element.attrib.get("id") for element in root.iter("path")}


def test_the_key_names_every_handle_in_its_colour(record: Record) -> None:
    drawn = draw_svg(scatter.scatter, Comparison(record), prefix="x")
    key = drawn[drawn.index('<ul class="key"') :]
    for words in ("prefill", "decode", "attention itself", "exact; band ±20%"):
        assert f"</i>{words}</li>" in key
    assert '<i class="diamond c-muted"></i>decode' in key
    assert '<i class="line c-muted"></i>exact' in key
