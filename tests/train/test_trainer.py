"""Steps of training: against torch and transformers, over accumulation and dtypes, and refused."""

import math

import pytest
import torch
from torch import nn

from llamalab import build
from llamalab.errors import InputError
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream, check_stream, held_out_batches, training_batch
from llamalab.train.trainer import Trainer, TrainingPlan, held_out_loss
from tests.train.samples import ARCH, PLAN, RECIPE, stream, trainer


def test_the_loss_falls_from_that_of_guessing() -> None:
    longer = PLAN._replace(steps=60)
    learning = trainer(plan=longer)
    first, *_, last = [learning.step() for _ in range(60)]
    assert first.loss == pytest.approx(math.log(ARCH.vocab_size), abs=0.05)
    assert last.loss < 0.5 < first.loss
    assert learning.held_out_loss() == pytest.approx(last.loss, abs=0.5)


def test_a_step_is_that_of_plain_torch() -> None:
    """Loss, clipping and AdamW written out: decay on matrices, none on norms."""
    ours, plan = trainer(recipe=RECIPE._replace(clip=0.05)), PLAN
    model = build(ARCH, dtype="fp32")
    matrices = [one for one in model.parameters() if one.dim() == 2]
    norms = [one for one in model.parameters() if one.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}],
        lr=1e-2 / 3, betas=(0.9, 0.95), eps=1e-5,
    )  # fmt: skip
    passes = [training_batch(stream(), number=number, batch=2, seq=8, seed=0) for number in range(2)]
    losses = [nn.CrossEntropyLoss()(model(inputs).transpose(1, 2), targets) for inputs, targets in passes]
    (sum(losses) / 2).backward()
    norm = math.sqrt(sum(float(one.grad.square().sum()) for one in model.parameters() if one.grad is not None))
    for one in model.parameters():
        one.grad *= 0.05 / norm  # type: ignore[operator]
    adam.step()
    taken = ours.step()
    assert taken.loss == pytest.approx(sum(loss.item() for loss in losses) / plan.accumulate, rel=1e-6)
    assert taken.gradient_norm == pytest.approx(norm, rel=1e-5)
    for theirs, mine in zip(model.parameters(), ours.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_accumulated_passes_are_one_large_one() -> None:
    many, one = trainer(), trainer(plan=PLAN._replace(batch=4, accumulate=1))
    halves = [training_batch(stream(), number=number, batch=2, seq=8, seed=0) for number in range(2)]
    many.pass_gradients()
    inputs, targets = (torch.cat(parts) for parts in zip(*halves, strict=True))
    nn.functional.cross_entropy(one.model(inputs).flatten(0, 1), targets.flatten()).backward()
    for ours, theirs in zip(many.model.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_bf16_has_masters_that_remember_what_bf16_would_round_away() -> None:
    learning = trainer("bf16", recipe=Recipe(1e-6, warmup_steps=0))
    before = learning.model.state_dict()["layers.0.attention.wq.weight"].clone()
    for _ in range(10):
        learning.step()
    master = learning.masters.named["layers.0.attention.wq.weight"]
    weight = learning.model.state_dict()["layers.0.attention.wq.weight"]
    assert master.dtype is torch.float32
    assert weight.dtype is torch.bfloat16
    assert torch.equal(weight, master.bfloat16())
    assert not torch.equal(master, before.float())
    assert (weight == before).float().mean() > 0.9  # a step of 1e-6 is less than half a unit of most weights
    assert all(parameter.grad is None for parameter in learning.model.parameters())


def test_batches_depend_on_seed_and_number_alone() -> None:
    def batch(**change: int) -> torch.Tensor:
        return training_batch(stream(), **({"number": 5, "batch": 3, "seq": 8, "seed": 1} | change))[0]

    assert torch.equal(batch(), batch())
    assert not torch.equal(batch(), batch(number=6))
    assert not torch.equal(batch(), batch(seed=2))


def test_the_held_out_loss_is_the_mean_over_all_of_its_tokens() -> None:
    model, held = build(ARCH, dtype="fp32"), stream()
    pieces = list(held_out_batches(held, seq=8, batch=3))
    assert sum(inputs.numel() for inputs, _ in pieces) == 7 * 8
    each = [
        -math.log(torch.softmax(model(inputs)[row, place], -1)[targets[row, place]].item())
        for inputs, targets in pieces for row in range(len(inputs)) for place in range(8)
    ]  # fmt: skip
    assert held_out_loss(model, held, seq=8, batch=3) == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert len(list(held_out_batches(held, seq=8, batch=1, windows=2))) == 2


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(InputError, match="the warm-up must be shorter than the 10 steps; got 10"):
        trainer(recipe=RECIPE._replace(warmup_steps=10))
    with pytest.raises(InputError, match="batch must be at least 1"):
        trainer(plan=PLAN._replace(batch=0))
    with pytest.raises(InputError, match=r"held-out part must have at least 101 tokens, .* it has 60"):
        check_stream(stream(), seq=100, vocab_size=29)
    with pytest.raises(InputError, match="not have more pieces than the model's 20"):
        check_stream(stream(), seq=8, vocab_size=20)
    learning = Trainer(build(ARCH, dtype="fp32"), stream(), TrainingPlan(1, 1, 8), Recipe(warmup_steps=0))
    learning.step()
    with pytest.raises(InputError, match="all 1 are taken"):
        learning.step()


def test_any_module_of_tokens_and_logits_is_trained() -> None:
    class Bigram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(29, 29)

        def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
            return self.table(tokens_BT)  # type: ignore[no-any-return]

    ids: TokenStream = stream()
    learning = Trainer(Bigram(), ids, TrainingPlan(200, 4, 8), Recipe(0.1, warmup_steps=0, weight_decay=0.0))
    assert [learning.step().loss for _ in range(200)][-1] < 0.1
