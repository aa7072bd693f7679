"""A checkpoint is measured with its own weights: its first blocks, in the dtype of the run, in turn where tied."""

import torch

from llamalab.checkpoints.checkpoint import weights_of
from llamalab.measure.target.made import made_model, weights_origin
from tests.checkpoints.samples import ARCH, random_model

CPU = torch.device("cpu")


def test_the_first_blocks_of_a_checkpoint() -> None:
    whole = random_model(ARCH)
    few = made_model(ARCH.replace(n_layers=1), weights_of(whole), dtype="bf16", device=CPU)
    assert len(few.layers) == 1
    assert not few.training
    for name, weight in few.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name].bfloat16())


def test_tied_blocks_of_a_checkpoint_come_in_turn() -> None:
    arch = ARCH.replace(n_layers=5)
    whole = random_model(arch)
    tied = made_model(arch, weights_of(whole), dtype="fp32", device=CPU, distinct=2)
    assert len(tied.layers) == 5
    assert tied.layers[4].attention.wq.weight is tied.layers[0].attention.wq.weight
    assert torch.equal(tied.layers[3].feed_forward.w2.weight, whole.layers[1].feed_forward.w2.weight)


def test_without_a_checkpoint_weights_are_random_and_the_same() -> None:
    one, other = (made_model(ARCH, None, dtype="fp32", device=CPU) for _ in range(2))
    assert torch.equal(one.output.weight, other.output.weight)
    assert (weights_origin(None), weights_origin(weights_of(one))) == ("random", "checkpoint")
