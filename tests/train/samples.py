"""A model, a text and a plan that train in milliseconds."""

import torch

from llamalab import LlamaArch, build
from llamalab.train.recipe import Recipe
from llamalab.train.token_stream import TokenStream
from llamalab.train.trainer import Trainer, TrainingPlan

ARCH = LlamaArch(16, 2, 4, 2, 32, 29)
PLAN = TrainingPlan(steps=10, batch=2, seq=8, accumulate=2)
RECIPE = Recipe(1e-2, warmup_steps=3)


def stream(tokens: int = 400) -> TokenStream:
    """Ids that repeat with a period, so that there is something to learn."""
    ids_N = torch.arange(tokens) * 7 % 29
    return TokenStream(ids_N[:-60], ids_N[-60:])


def trainer(dtype: str = "fp32", plan: TrainingPlan = PLAN, recipe: Recipe = RECIPE, seed: int = 0) -> Trainer:
    return Trainer(build(ARCH, dtype=dtype, seed=seed), stream(), plan, recipe)
