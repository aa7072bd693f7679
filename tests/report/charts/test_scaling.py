"""The plot of a pass over ranks: every account has its marks, and all that it shows is told in words."""

import xml.etree.ElementTree as ET

from llamalab.comparison.ranks import ScalingPoint
from llamalab.report.charts.scaling import ScalingCurve, scaling
from llamalab.report.drawing import drawing

CURVES = [
    ScalingCurve(
        "Prefill", (ScalingPoint(1, 0.9, 1.0), ScalingPoint(2, 0.5, 0.6, 0.45, 0.4), ScalingPoint(4, 0.3, None))
    ),
    ScalingCurve("Decode", (ScalingPoint(1, None, None), ScalingPoint(2, None, 0.02))),
]


def test_every_known_time_has_a_mark_with_its_words() -> None:
    plot = scaling(CURVES)
    assert len(plot.figures) == 2
    tips = list(plot.tips.values())
    assert len(tips) == 8
    assert "Prefill on 2 ranks, predicted, overlap at best: 400.00 ms" in tips
    assert "Prefill on 1 rank, measured: 1.00 s" in tips
    assert not any("4 ranks, measured" in tip for tip in tips)


def test_all_times_are_told_to_those_who_do_not_see_the_plot() -> None:
    described = ET.fromstring(drawing(scaling, CURVES)).findtext("{http://www.w3.org/2000/svg}desc")
    assert described
    for told in ("2 ranks: measured 600.00 ms, predicted 500.00 ms", "Decode, 1 rank: not known", "4 ranks: predicted"):
        assert told in described
    assert "measured 0" not in described


def test_the_key_names_what_is_drawn_and_nothing_else() -> None:
    alone = [ScalingCurve("tg16", (ScalingPoint(1, None, 2.0), ScalingPoint(2, None, 1.0)))]
    assert [str(one.get_label()) for one in scaling(alone).key] == ["measured", "the first over the ranks"]
    assert len(scaling(CURVES).key) == 5
