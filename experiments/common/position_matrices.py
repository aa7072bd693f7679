"""Scores of equal tokens as matrices: what a way of telling positions says of each pair, and how they are drawn.

    python -m experiments.common.position_matrices RECORD.json PATH.svg

draws those of a record.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.position_kinds import STRETCHED, TRAINED, Spread
from llamalab.startup.plotting import import_matplotlib

DRAWN = 64  # tokens
EVERY = 2  # of them is a row of the picture


def rounded(spread: Spread) -> list[list[float]]:
    """The scores that are drawn, with four digits behind the point."""
    return [[round(one, 4) for one in line] for line in spread.scores_TS[::EVERY, ::EVERY].tolist()]


def matrices(rows: list[dict[str, Any]], path: Path) -> None:
    """Those of the first seed: above as they were trained, below RoPE turned for eight times the length."""
    import_matplotlib()
    from matplotlib import pyplot as plt

    first = {row["kind"]: row for row in rows if "scores" in row}
    shown = [(f"{kind}\nspread {first[kind]['spread']:.2g}", first[kind]["scores"]) for kind in TRAINED]
    shown += [(f"RoPE, {way}", first["rope"]["stretched_scores"][way]) for way in STRETCHED]
    figure, axes = plt.subplots(2, len(TRAINED), figsize=(12, 5.4), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, scores) in zip(axes.flat, shown, strict=False):
        axis.set_axis_on()
        axis.imshow(np.ma.masked_array(scores, np.triu(np.ones_like(scores), 1)), cmap="viridis")
        axis.set(title=title, xticks=[], yticks=[], xlabel="key")
    axes[0, 0].set_ylabel("query")
    axes[1, 0].set_ylabel("query")
    figure.suptitle("Scores of one head where every token is the same: stripes along the diagonal are distances")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    matrices(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["measured"], Path(sys.argv[2]))
