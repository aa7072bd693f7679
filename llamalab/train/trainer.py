"""The training loop: passes forward and backward, clipping, the update.

    loss = mean over B x T of -log p(next token)

The model is any module that maps tokens_BT to logits_BTV, so that an experiment trains its variant by the same code.
Everything that decides a step's bits is in the settings, the masters and the optimiser's state: the same machine with
as many threads gives the same bits, resumed or not.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.train.masters import Masters
from llamalab.train.recipe import Recipe, check_recipe
from llamalab.train.token_stream import TokenStream, held_out_batches, training_batch

MakeOptimizer = Callable[..., torch.optim.Optimizer]


class TrainingPlan(NamedTuple):
    """Length and batching of a run: `accumulate` passes of `batch` windows of `seq` tokens in each of `steps`."""

    steps: int
    batch: int = 8
    seq: int = 256
    accumulate: int = 1
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.accumulate * self.batch * self.seq


class StepTaken(NamedTuple):
    """The step's number from 1, its mean loss in nats a token, the gradient's norm before clipping, the rate used."""

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float


class Trainer:
    """A model in training: `done` steps of the plan are taken, `step` takes the next one.

    `optimizer` is AdamW's class or one with its arguments, as torch.optim.Adam, whose decay is coupled (L2).
    Raises InputError for a recipe or a plan out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        stream: TokenStream,
        plan: TrainingPlan,
        recipe: Recipe,
        *,
        optimizer: MakeOptimizer = torch.optim.AdamW,
    ) -> None:
        for name in ("steps", "batch", "seq", "accumulate"):
            whole(getattr(plan, name), name)
        check_recipe(recipe)
        if recipe.warmup_steps >= plan.steps:
            raise InputError(
                f"the warm-up must be shorter than the {plan.steps} steps; got {recipe.warmup_steps}; take about a "
                "tenth of them"
            )
        self.model, self.stream, self.plan, self.recipe, self.done = model, stream, plan, recipe, 0
        self.masters = Masters(model)
        matrices, others = split_by_decay(self.masters.named.values())
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = optimizer(
            [group for group in groups if group["params"]],
            lr=recipe.learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def step(self) -> StepTaken:
        """Take the next step. Raises InputError where all are taken."""
        if self.done >= self.plan.steps:
            raise InputError(f"a plan must have steps left; all {self.plan.steps} are taken")
        loss = self.pass_gradients()
        norm, rate = self.update()
        return StepTaken(self.done, float(loss), float(norm), rate)

    def pass_gradients(self) -> Tensor:
        """Run the passes of the next step; their mean loss, with the mean gradients in the masters."""
        losses = []
        for place in range(self.plan.accumulate):
            inputs_BT, targets_BT = training_batch(
                self.stream,
                number=self.done * self.plan.accumulate + place,
                batch=self.plan.batch,
                seq=self.plan.seq,
                seed=self.plan.seed,
            )
            loss = next_token_loss(self.model(inputs_BT), targets_BT) / self.plan.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            self.masters.collect()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def update(self) -> tuple[Tensor, float]:
        """Clip the gradients in the masters, take the optimiser's step and drop them; their norm, and the rate."""
        norm = clip_grad_norm_(self.masters.named.values(), self.recipe.clip or float("inf"))
        rate = self.recipe.rate(self.done + 1, self.plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.masters.publish()
        self.done += 1
        return norm, rate

    def held_out_loss(self, *, windows: int | None = None) -> float:
        """Mean nats a token over the held-out part: all of it, or its first windows."""
        return held_out_loss(self.model, self.stream, seq=self.plan.seq, batch=self.plan.batch, windows=windows)


def split_by_decay(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those that decay, matrices, and those that do not, norms and biases."""
    every = list(parameters)
    return [one for one in every if one.dim() >= 2], [one for one in every if one.dim() < 2]


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean nats a token."""
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


@torch.inference_mode()
def held_out_loss(
    model: Callable[[Tensor], Tensor], stream: TokenStream, *, seq: int, batch: int, windows: int | None = None
) -> float:
    """Mean nats a token of a model over the held-out part, in independent windows of `seq` tokens."""
    total = tokens = 0.0
    for inputs_BT, targets_BT in held_out_batches(stream, seq=seq, batch=batch, windows=windows):
        total += float(next_token_loss(model(inputs_BT), targets_BT)) * targets_BT.numel()
        tokens += targets_BT.numel()
    return total / tokens
