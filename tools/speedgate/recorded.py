"""What the rule would have said: decisions on runs that are drawn from recorded ones.

    python -m tools.speedgate.recorded [--draws 5000]      false alarms and catches at several thresholds

A recording (samples/*.json, by tools.speedgate.ab --save, one file for each machine) has two trees that are equal,
whose processes took turns on a machine with other work on it. A draw is three of its pairs, each with its sides
exchanged or not, and three more while the rule calls for them.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.speedgate.decision import MOST_SETS, THRESHOLD, Ratios, decide
from tools.speedgate.differences import text_table
from tools.speedgate.lockstep import Plan

SAMPLES = Path(__file__).with_name("samples")
THRESHOLDS = (0.02, 0.03, 0.04, 0.05, 0.1)
SLOWED = (1.0, 1.05, 1.1, 1.3)
RUNS = Plan().runs
Pair = tuple[Ratios, Ratios]
Draw = tuple[list[Ratios], list[Ratios]]


def recorded_pairs(path: Path) -> dict[str, list[Pair]]:
    """The pairs of runs of every benchmark on one machine."""
    base, head = json.loads(path.read_text(encoding="utf-8"))["runs"].values()
    return {
        benchmark: [(Ratios(*one), Ratios(*other)) for one, other in zip(runs, head[benchmark], strict=True)]
        for benchmark, runs in base.items()
    }


def machines() -> dict[str, dict[str, list[Pair]]]:
    """The recorded pairs by machine."""
    return {path.stem: recorded_pairs(path) for path in sorted(SAMPLES.glob("*.json"))}


def draws(pairs: Sequence[Pair], count: int, *, slowed: float, lucky: float = 1.0, seed: int = 0) -> Iterator[Draw]:
    """(base, candidate) of as many runs as may be asked for, `count` times.

    Every time of the candidate's benchmark is `slowed`; the low ratio of one of the base's first runs comes out
    as `lucky` times what it is.
    """
    chance = random.Random(seed)
    for _ in range(count):
        drawn = [pair if chance.random() < 0.5 else pair[::-1] for pair in chance.sample(pairs, RUNS * MOST_SETS)]
        base, spoilt = [old for old, _ in drawn], chance.randrange(RUNS)
        base[spoilt] = base[spoilt]._replace(low=base[spoilt].low * lucky)
        yield base, [_times(new, slowed) for _, new in drawn]


def fails(drawn: Draw, *, threshold: float) -> bool:
    """The rule's word on a draw, with more runs while it is unclear."""
    for sets in range(1, MOST_SETS + 1):
        decision = decide(*(runs[: RUNS * sets] for runs in drawn), threshold=threshold)
        if not decision.unclear:
            break
    return decision.fails


def alarms(
    pairs: Sequence[Pair], count: int, *, slowed: float, lucky: float = 1.0, threshold: float = THRESHOLD
) -> int:
    """How many of `count` draws fail."""
    return sum(fails(drawn, threshold=threshold) for drawn in draws(pairs, count, slowed=slowed, lucky=lucky))


def _times(run: Ratios, factor: float) -> Ratios:
    return Ratios(run.median * factor, run.low * factor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table that the threshold is chosen from, for each machine."""
    parser = argparse.ArgumentParser(description="decisions on draws from recorded runs")
    parser.add_argument("--draws", type=int, default=5000)
    count = parser.parse_args(arguments).draws
    for machine, recorded in machines().items():
        rows = []
        for benchmark, pairs in recorded.items():
            for slowed in SLOWED:
                shares = (alarms(pairs, count, slowed=slowed, threshold=threshold) / count for threshold in THRESHOLDS)
                rows.append((benchmark, f"{slowed - 1:+.0%}", *(f"{share:.1%}" for share in shares)))
        print(f"{machine}: share of {count:,} draws that fail, by threshold")
        print(text_table(("benchmark", "slowed by", *(f"{threshold:.0%}" for threshold in THRESHOLDS)), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
