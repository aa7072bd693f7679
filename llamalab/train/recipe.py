"""The training recipe: Llama 2's, with each of its parts as a field.

Source: Touvron et al. 2023 (arXiv 2307.09288), section 2.2: AdamW with betas 0.9 and 0.95 and eps 1e-5, a cosine
schedule with 2,000 steps of warm-up down to 10 % of the peak rate, weight decay 0.1, gradients clipped to norm 1.0.
"""

from math import cos, pi
from typing import NamedTuple

from llamalab.checks import whole
from llamalab.errors import InputError


class Recipe(NamedTuple):
    """Llama 2's except for the warm-up: a short run has no 2,000 steps for it.

    `final_share` of the peak rate is left at the last step; 1 keeps the rate constant after the warm-up. `clip` None
    leaves gradients as they are. Weight decay acts on matrices; norms and biases have none.
    """

    learning_rate: float = 3e-4
    warmup_steps: int = 2000
    final_share: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-5
    weight_decay: float = 0.1
    clip: float | None = 1.0

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of the `step`-th of `steps`, counted from 1: a linear warm-up, then half a cosine.

        >>> recipe = Recipe(1.0, warmup_steps=2)
        >>> [round(recipe.rate(step, 6), 3) for step in range(1, 7)]
        [0.5, 1.0, 0.868, 0.55, 0.232, 0.1]
        """
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        share = (step - self.warmup_steps) / (steps - self.warmup_steps)
        return self.learning_rate * (self.final_share + (1 - self.final_share) * (1 + cos(pi * share)) / 2)


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError for a setting out of its range."""
    whole(recipe.warmup_steps, "warmup_steps", least=0)
    for name, low, high in (("beta1", 0.0, 1.0), ("beta2", 0.0, 1.0)):
        if not low <= getattr(recipe, name) < high:
            raise InputError(f"{name} must be at least {low:g} and below {high:g}; got {getattr(recipe, name)}")
    if not 0 < recipe.learning_rate < float("inf"):
        raise InputError(f"learning_rate must be a positive number; got {recipe.learning_rate}")
    if not 0 <= recipe.final_share <= 1:
        raise InputError(f"final_share must be from 0 to 1; got {recipe.final_share}")
    if not (recipe.eps > 0 and recipe.weight_decay >= 0):
        raise InputError(f"eps must be above 0 and weight_decay at least 0; got {recipe.eps} and {recipe.weight_decay}")
    if recipe.clip is not None and not recipe.clip > 0:
        raise InputError(f"clip must be above 0, or none; got {recipe.clip}")
