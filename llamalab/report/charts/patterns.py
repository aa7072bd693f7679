"""Attention of heads over a sentence: a square a head, a row a query token, darker for a larger weight.

Written as SVG by hand, a path for all cells of one shade, so that a page can hold several heads.
"""

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup, escape

from llamalab.records.patterns import WHOLE, HeadWeights, Patterns
from llamalab.report.charts.base import area, side_by_side

SIDE = 300.0  # units: of the cells
TOP = 18.0
_LETTERS, _LETTER = 8, 5.2  # most letters of a token, and about the width of one
SHADES = 12
LOOKED_AT = 3  # tokens in the tip of a row


def patterns(found: Patterns, heads: Sequence[tuple[HeadWeights, str]], prefix: str) -> Markup:
    """A panel for each head with its heading, and the key."""
    panels = [_panel(found, head, heading, f"{prefix}-{place}") for place, (head, heading) in enumerate(heads)]
    return side_by_side(panels, [area("all of a token's attention; fainter where it is less", "accent")])


def word(token: str) -> str:
    """A token as a label: without the space before it, and cut.

    >>> word(" Lily"), word("unbelievable")
    ('Lily', 'unbelie…')
    """
    text = token.strip() or token
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"


def _panel(found: Patterns, head: HeadWeights, heading: str, prefix: str) -> str:
    """One head: rows are query tokens, columns key tokens; a cell is a unit of the scaled group."""
    tokens = len(found.tokens)
    cell, words = SIDE / tokens, [escape(word(token)) for token in found.tokens]
    size, margin = min(8.5, cell), _LETTER * max(map(len, map(word, found.tokens))) + 6
    beside, below = (
        "".join(f'<text y="{cell * (place + 0.5) + size / 3:.0f}">{one}</text>' for place, one in enumerate(words))
        for _ in range(2)
    )
    described = f"{heading}. A row for each token, stronger where it looks."
    return (
        f'<svg class="pattern" viewBox="0 0 {margin + SIDE:.0f} {TOP + SIDE + margin:.0f}" role="img" '
        f'aria-labelledby="{prefix}-title"><title id="{prefix}-title">{escape(described)}</title>'
        f'<text class="title" x="0" y="10">{escape(heading)}</text>'
        f'<g transform="translate({margin:.0f} {TOP:g})scale({cell:.3f})">{_cells(head)}{_tips(found.tokens, head)}</g>'
        f'<g font-size="{size:.1f}"><g transform="translate({margin - 4:.0f} {TOP:g})">{beside}</g>'
        f'<g transform="translate({margin:.0f} {TOP + SIDE + 4:g})rotate(-90)">{below}</g></g></svg>'
    )


def _cells(head: HeadWeights) -> str:
    """Each cell as a line of its length and width, a path for each shade."""
    shaded = sorted(
        (round(weight * SHADES / WHOLE), t, s)
        for t, row in enumerate(head.rows_permille)
        for s, weight in enumerate(row)
    )
    return "".join(
        f'<path opacity="{shade / SHADES:.2f}" d="{"".join(f"M{s} {t}.5h1" for _, t, s in cells)}" />'
        for shade, cells in groupby(shaded, key=lambda cell: cell[0])
        if shade
    )


def _tips(tokens: Sequence[str], head: HeadWeights) -> str:
    """Invisible areas over each row, with the most attended token as tooltip."""
    tips = []
    for t, row in enumerate(head.rows_permille):
        most = sorted(range(len(row)), key=lambda s: -row[s])[:LOOKED_AT]
        targets = ", ".join(f"{word(tokens[s])} {row[s] / WHOLE:.0%}" for s in most if row[s] * 200 >= WHOLE)
        tips.append(f'<g><title>{escape(word(tokens[t]))}: {escape(targets)}</title><path d="M0 {t}.5h{t + 1}" /></g>')
    return f'<g class="tips">{"".join(tips)}</g>'
