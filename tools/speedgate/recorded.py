"""What the rule would have said: decisions on runs that are drawn from recorded ones.

    python -m tools.speedgate.recorded [--draws 5000]      false alarms and catches at several thresholds

The recording (samples/unchanged.json, by gate.ab --save) has two trees that are equal, whose processes took turns on a
machine with other work on it. A draw is three of its pairs, each with its sides exchanged or not.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.speedgate.decision import Ratios, decide
from tools.speedgate.differences import text_table

SAMPLES = Path(__file__).with_name("samples") / "unchanged.json"
THRESHOLDS = (0.02, 0.03, 0.04, 0.05, 0.1)
SLOWED = (1.0, 1.05, 1.1, 1.3)
Pair = tuple[Ratios, Ratios]


def recorded_pairs(path: Path = SAMPLES) -> dict[str, list[Pair]]:
    """The pairs of runs of every subject."""
    base, head = json.loads(path.read_text(encoding="utf-8"))["runs"].values()
    return {
        subject: [(Ratios(*one), Ratios(*other)) for one, other in zip(runs, head[subject], strict=True)]
        for subject, runs in base.items()
    }


def draws(pairs: Sequence[Pair], count: int, *, slowed: float, seed: int = 0) -> Iterator[tuple[list[Ratios], ...]]:
    """(base, candidate) of three runs, `count` times; every time of the candidate's subject is `slowed`."""
    chance = random.Random(seed)
    for _ in range(count):
        drawn = [pair if chance.random() < 0.5 else pair[::-1] for pair in chance.sample(pairs, 3)]
        yield [old for old, _ in drawn], [Ratios(new.median * slowed, new.shortest * slowed) for _, new in drawn]


def alarms(pairs: Sequence[Pair], count: int, *, slowed: float, threshold: float) -> int:
    """How many of `count` draws fail."""
    return sum(decide(*drawn, threshold=threshold).fails for drawn in draws(pairs, count, slowed=slowed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table that the threshold is chosen from."""
    parser = argparse.ArgumentParser(description="decisions on draws from recorded runs")
    parser.add_argument("--draws", type=int, default=5000)
    count = parser.parse_args(arguments).draws
    rows = []
    for subject, pairs in recorded_pairs().items():
        for slowed in SLOWED:
            shares = (alarms(pairs, count, slowed=slowed, threshold=threshold) / count for threshold in THRESHOLDS)
            rows.append((subject, f"{slowed - 1:+.0%}", *(f"{share:.1%}" for share in shares)))
    print(f"share of {count:,} draws that fail, by threshold")
    print(text_table(("benchmark", "slowed by", *(f"{threshold:.0%}" for threshold in THRESHOLDS)), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
