"""Stages and gathered blocks hold what torch's allocator handed out for them, to a thousandth."""

import pytest

from llamalab.analytic.fine_tuning import largest_of_step, tuning_memory
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch

LOSS, WIDE = LlamaArch(128, 4, 8, 2, 344, 1000), LlamaArch(128, 4, 8, 8, 900, 50)
FEW = LlamaArch(256, 3, 4, 2, 700, 90)
PIPELINE = {"pipeline_parallel": 2, "accumulate": 4}


@pytest.mark.parametrize(
    ("arch", "seq", "batch", "precision", "moment", "taken_bytes"),  # by Schedule1F1B of torch 2.13
    [
        (LOSS, 128, 2, "fp32", "last block", 19_390_608),  # the first stage: outputs sent, gradients received
        (LOSS, 128, 2, "pure", "loss", 10_795_144),  # the last one: its logits are its output, and stay
        (WIDE, 128, 2, "pure", "last block", 18_598_000),
    ],
)
def test_a_stage_of_a_pipeline(
    arch: LlamaArch, seq: int, batch: int, precision: str, moment: str, taken_bytes: int
) -> None:
    step = Tuning(arch, seq, batch, precision=precision, on_cpu=True)._replace(**PIPELINE)
    assert largest_of_step(step).moment == moment
    assert tuning_memory(step).total_bytes == pytest.approx(taken_bytes, rel=1e-3)


@pytest.mark.parametrize(("precision", "taken_bytes"), [("fp32", 27_230_888), ("pure", 13_711_016)])
def test_gathered_blocks_of_a_step_with_few_tokens(precision: str, taken_bytes: int) -> None:
    """By fully_shard of torch 2.13: a block in use, the next in transfer, its gradients, and those in reduction."""
    step = Tuning(FEW, 8, precision=precision, zero=3, data_parallel=2)
    assert largest_of_step(step).moment == "gradients of a block"
    assert tuning_memory(step).total_bytes == pytest.approx(taken_bytes, rel=0.01)


def test_one_stage_alone_sends_and_receives_nothing() -> None:
    step = Tuning(LOSS, 128, 2, accumulate=4)
    assert tuning_memory(step._replace(accumulate=2)) == tuning_memory(step)


def test_a_gradient_that_is_added_leaves_no_second_one() -> None:
    """With a gradient there, that of w2 is added and freed before the others of the feed-forward are made."""
    once, twice = (tuning_memory(Tuning(WIDE, 128, 2, precision="fp32", accumulate=n)).total_bytes for n in (1, 2))
    kept = twice - once
    assert 0 < kept < 4 * sum((WIDE.n_layers * 4 * 128 * 128, WIDE.n_layers * 3 * 128 * 900, 2 * 50 * 128))
