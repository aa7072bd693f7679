"""Steps on two ranks hold what `llamalab tune` counts; the experiment's steps are what their names say."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.common.sharded import RANKS, WAYS, shared_step
from experiments.training_memory import BAR, SHAPES, SHARED, conclude, described, shared_steps, steps
from llamalab.analytic.fine_tuning import tuning_memory
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch

ROOT = Path(__file__).parents[2]
SMALL = LlamaArch(128, 2, 4, 2, 344, 500)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_rank_holds_what_is_counted(way: str) -> None:
    """Resident bytes to the byte of what is no tensor; the peak within the bar, transfers in flight included."""
    step = Tuning(SMALL, 64, 2, precision="fp32", on_cpu=True)._replace(**SHARED[way])
    held, took = tuning_memory(step), shared_step(step, way)
    assert took.resident_bytes == pytest.approx(held.weight_bytes + held.optimizer_bytes, rel=0.01)
    assert took.total_bytes == pytest.approx(held.total_bytes, rel=0.03)


def test_every_way_of_sharing_is_taken_with_every_shape_that_it_divides() -> None:
    taken = {(name, way) for name, way, _ in shared_steps()}
    assert taken == {
        (name, way)
        for name, (arch, _, _) in SHAPES.items()
        for way in WAYS
        if way != "pipeline" or arch.n_layers % RANKS == 0
    }


def test_the_record_is_within_the_bar_and_quoted() -> None:
    record = json.loads((ROOT / "experiments/records/cpu-amd-epyc-2-threads/training_memory.json").read_text())
    rows = record["measured"]
    assert record["conclusion"] == conclude(rows, 0)
    assert max(abs(row["error"]) for row in rows) <= BAR
    said = " ".join((ROOT / "docs/howto.md").read_text().split()).replace(" %", "%")
    assert record["conclusion"].split(";")[0].replace("Of", "of", 1).replace(" %", "%") in said


def test_steps_have_names_of_their_own() -> None:
    names = [(shape, described(step), step.documents, step.fused_optimizer) for shape, step in steps()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("errors", "missing", "said"),
    [
        (
            (0.0, 0.01),
            0,
            "Of 2 steps the sums are off by 1.00% in the middle, 1.00% at 95 %, 1.00% at most; 0 are past 3%.",
        ),
        ((0.0, -0.05), 0, "1 are past 3% (s: x -5.0%)."),
        ((0.0,), 7, "7 need bitsandbytes, which is not there."),
    ],
)
def test_a_conclusion_names_what_is_past_the_bar(errors: tuple[float, ...], missing: int, said: str) -> None:
    rows: list[dict[str, Any]] = [{"shape": "s", "step": "x", "error": error} for error in errors]
    assert conclude(rows, missing).endswith(said)
