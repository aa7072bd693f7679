"""Llama 2's schedule against transformers', and recipes that cannot be."""

import pytest
import torch

from llamalab.errors import InputError
from llamalab.train.recipe import Recipe, check_recipe


@pytest.mark.reference
@pytest.mark.parametrize(("warmup", "share"), [(0, 0.1), (5, 0.1), (19, 0.1), (5, 1.0), (5, 0.0)])
def test_the_rate_is_that_of_transformers(warmup: int, share: float) -> None:
    from transformers import get_cosine_with_min_lr_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, 20, min_lr_rate=share)
    recipe, theirs = Recipe(3e-4, warmup_steps=warmup, final_share=share), []
    for _ in range(20):
        optimizer.step()
        schedule.step()
        theirs.append(optimizer.param_groups[0]["lr"])
    assert [recipe.rate(step, 20) for step in range(1, 21)] == pytest.approx(theirs, rel=1e-9)


def test_the_last_rate_is_a_tenth() -> None:
    assert Recipe(3e-4).rate(500_000, 500_000) == pytest.approx(3e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0},
        {"weight_decay": -1.0}, {"clip": 0.0}, {"final_share": 1.5}, {"warmup_steps": -1},
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        check_recipe(Recipe(**change))  # type: ignore[arg-type]
