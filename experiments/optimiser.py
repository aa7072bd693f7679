"""Llama 2's recipe with each of its parts left out, and AdamW against Adam with L2.

    python -m experiments.optimiser [--full] [--corpus FOLDER]

First weights that decay under nothing but noise: every gradient is drawn around 0 with a deviation s, from far below
to far above decay x weight. Predicted: AdamW takes rate x decay of a weight at every step whatever s; Adam with L2
divides the decay by the gradient's own size, so that it takes rate x decay / s of it where gradients are large, and
a fixed rate, not a share, where they are small. Then the recipe (betas 0.9 and 0.95, eps 1e-5, cosine to 10 %, warm-up,
decay 0.1, clipping at 1.0; Touvron et al. 2023, arXiv 2307.09288) and the same with each of its parts left out, at its
own rate and at one ten times as high, where a part that only makes training safe shows.
"""

from collections.abc import Sequence
from math import exp
from statistics import mean
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common import training_runs as runs_of
from llamalab.train.recipe import Recipe
from llamalab.train.trainer import MakeOptimizer

QUESTION = "What does each part of Llama 2's recipe do, and why AdamW and not Adam with L2?"

DECAY_STEPS, DECAY_RATE, DECAY, COUNT = 400, 1e-3, 0.1, 4096
SCALES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # deviations of the gradient; decay x weight is 0.1
STEPS = 48  # of each of 33 runs, without --full
HIGH = 10.0  # times the rate
LEFT_OUT: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no warm-up": {"warmup_steps": 0},
    "constant rate": {"final_share": 1.0},
    "no decay": {"weight_decay": 0.0},
    "no clipping": {"clip": None},
    "beta2 0.999": {"beta2": 0.999},
    "eps 1e-8": {"eps": 1e-8},
}
COUPLED = "Adam with L2"


def predict_decay(scale: float, *, coupled: bool) -> float:
    """What is left of weights of 1 after the steps, from the update rule.

    With L2 the moments see s and decay x w together: each step takes rate x d w / sqrt(s^2 + (d w)^2).
    """
    if not coupled:
        return (1 - DECAY_RATE * DECAY) ** DECAY_STEPS
    left = 1.0
    for _ in range(DECAY_STEPS):
        left -= DECAY_RATE * DECAY * left / (scale**2 + (DECAY * left) ** 2) ** 0.5
    return left


def measure_decay(scale: float, make: MakeOptimizer) -> float:
    """The same, by the optimiser: the mean of weights whose gradients are noise."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.nn.Parameter(torch.ones(COUNT))
    optimizer = make([weights], lr=DECAY_RATE, betas=(0.9, 0.95), eps=1e-12, weight_decay=DECAY)
    for _ in range(DECAY_STEPS):
        weights.grad = torch.randn(COUNT, generator=generator) * scale
        optimizer.step()
    return float(weights.detach().mean())


def decays() -> list[dict[str, Any]]:
    """Both optimisers at every scale of the gradient."""
    return [
        {
            "optimizer": name,
            "gradient": scale,
            "predicted_left": predict_decay(scale, coupled=make is torch.optim.Adam),
            "measured_left": measure_decay(scale, make),
        }
        for name, make in (("AdamW", torch.optim.AdamW), (COUPLED, torch.optim.Adam))
        for scale in SCALES
    ]


def variants(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The keywords of every run."""
    made: dict[str, dict[str, Any]] = {name: {"recipe": recipe._replace(**change)} for name, change in LEFT_OUT.items()}
    made[COUPLED] = {"recipe": recipe, "optimizer": torch.optim.Adam}
    return made


def conclude(rows: list[dict[str, Any]], runs: dict[str, list[runs_of.Run]], high: dict[str, list[runs_of.Run]]) -> str:
    """What decayed, and which parts matter with every seed."""
    left = {(row["optimizer"], row["gradient"]): row["measured_left"] for row in rows}
    worst = max(abs(row["measured_left"] - row["predicted_left"]) for row in rows)
    small, large = SCALES[0], SCALES[-1]
    changes = [f"{name} {_against(name, runs)}" for name in runs if name != "recipe"]
    harder = [f"{name} {_against(name, high)}" for name in high if name != "recipe"]
    return (
        f"After {DECAY_STEPS} steps AdamW has left {left['AdamW', small]:.3f} of a weight under gradients of {small:g} "
        f"and {left['AdamW', large]:.3f} under {large:g} ({exp(-DECAY_RATE * DECAY * DECAY_STEPS):.3f} by e^(-rate x "
        f"decay x steps)); Adam with L2 {left[COUPLED, small]:.3f} and {left[COUPLED, large]:.3f}: what has large "
        f"gradients hardly decays. Largest difference from the prediction {worst:.3f}. Held-out loss of the recipe "
        f"{runs_of.shown([run.held_out for run in runs['recipe']])}; against it: {'; '.join(changes)}. At {HIGH:g} times "  # noqa: E501
        f"the rate {runs_of.shown([run.held_out for run in high['recipe']])}; against it: {'; '.join(harder)}."
    )


def _against(name: str, runs: dict[str, list[runs_of.Run]]) -> str:
    """A part left out against the recipe: the mean difference where the order holds over the seeds."""
    ours, whole = ([run.held_out for run in runs[key]] for key in (name, "recipe"))
    if None in ours or None in whole:
        return f"({runs_of.shown(ours)})"
    difference = mean(a - b for a, b in zip(ours, whole, strict=True) if a is not None and b is not None)
    holds = runs_of.lower_in_all(whole, ours) or runs_of.lower_in_all(ours, whole)
    return f"{difference:+.3f}{' with every seed' if holds else ', the sign changes with the seed'}"


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = runs_of.parser(__doc__).parse_args(argv)
    plan = runs_of.shortened(args, STEPS)
    rows = decays()
    print(f"{'':14}{'gradient':>9}{'left, said':>12}{'seen':>8}")
    for row in rows:
        print(f"{row['optimizer']:14}{row['gradient']:9g}{row['predicted_left']:12.4f}{row['measured_left']:8.4f}")
    base = runs_of.RECIPE._replace(warmup_steps=plan.steps // 10)
    raised = base._replace(learning_rate=HIGH * base.learning_rate)
    safe = {name: own for name, own in variants(raised).items() if name in ("recipe", "no warm-up", "no clipping")}
    both = variants(base) | {f"{name} x{HIGH:g}": own for name, own in safe.items()}
    every = runs_of.over_seeds(args, plan, both)
    runs, high = {name: every[name] for name in variants(base)}, {name: every[f"{name} x{HIGH:g}"] for name in safe}
    for name, own in every.items():
        print(f"{name:18}{runs_of.shown([run.held_out for run in own]):>18}")
    answers.finish(
        QUESTION,
        "optimiser",
        args.out,
        conclude(rows, runs, high),
        text=runs_of.text_of(args),
        plan=plan._asdict(),
        recipe=base._asdict(),
        predicted=rows,
        measured=runs_of.rows_of(every),
    )


if __name__ == "__main__":
    main()
