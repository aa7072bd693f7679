"""Contrast, computed: text 4.5:1 and marks 3:1 in both themes (WCAG 1.4.3 and 1.4.11)."""

import itertools

import pytest

from llamalab.analytic.pass_shape import PassShape
from llamalab.report.theme import COLOURS, GROUPS, HEAT_STEPS, group_of, heat_variable, sentinels, variables

BACKGROUNDS = ("page", "card")
TEXT = ("ink", "muted", "accent", "good", "bad", "attention")
HEAT = [heat_variable(step) for step in range(HEAT_STEPS)]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "background"), list(itertools.product(TEXT, BACKGROUNDS)))
def test_text_is_legible(text: str, background: str, dark: bool) -> None:
    assert contrast(COLOURS[text][dark], COLOURS[background][dark]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("group", GROUPS)
def test_marks_stand_out_and_carry_card_coloured_numbers(group: str, dark: bool) -> None:
    assert contrast(COLOURS[group][dark], COLOURS["card"][dark]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("step", HEAT)
def test_numbers_are_legible_on_every_step_of_the_heat_scale(step: str, dark: bool) -> None:
    assert contrast(COLOURS["ink"][dark], variables()[step][dark]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_heat_goes_one_way(dark: bool) -> None:
    scale = [luminance(variables()[step][dark]) for step in HEAT]
    assert scale == sorted(scale, reverse=not dark)
    assert len(set(scale)) == HEAT_STEPS


def test_sentinels_are_distinct_and_are_no_colour_of_the_page() -> None:
    colours = {colour for pair in variables().values() for colour in pair}
    assert len(set(sentinels().values())) == len(variables())
    assert not colours & set(sentinels().values())


def test_every_op_has_a_group() -> None:
    from llamalab.analytic.ops import forward_ops
    from llamalab.presets import PRESETS

    for attention in ("naive", "flash"):
        ops = forward_ops(PRESETS["70b"].arch, PassShape(new_tokens=4, attention=attention))
        assert {group_of(op.part, op.kind) for op in ops} == set(GROUPS)
