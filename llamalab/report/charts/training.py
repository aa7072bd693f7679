"""The steps of a training run: loss, the norm of the gradient and the rate, from the data of `llamalab train`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import MaxNLocator

from llamalab.report.charts.base import INK, Plot, canvas, heading, mark

TITLE = "Loss over the steps"


def loss_curve(run: Mapping[str, Any]) -> Plot:
    """Left: every step's loss, their running mean, the held-out text's at the end. Right: the gradient's norm."""
    rows = run["steps"]
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    figures, (loss, gradient) = canvas(2.9, 2)
    loss.plot(steps, losses, color=INK["projections"], linewidth=0.8, alpha=0.45)
    loss.plot(steps, running_mean(losses), color=INK["projections"], linewidth=1.8)
    loss.plot(steps[-1:], [run["held_out_loss"]], marker="D", markersize=6, color=INK["attention"], linestyle="")
    heading(loss, "Loss, nats a token")
    gradient.plot(steps, [row["gradient_norm"] for row in rows], color=INK["feed_forward"], linewidth=1.0)
    gradient.set_ylim(bottom=0)
    heading(gradient, "Norm of the gradient before clipping")
    for axes in (loss, gradient):
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    description = (
        f"Loss from {losses[0]:.2f} to {losses[-1]:.2f} in {len(rows)} steps, {run['held_out_loss']:.2f} held out."
    )
    key = (
        mark("a step, and their running mean", "", "projections", line="-"),
        mark("held-out text", "D", "attention"),
        mark("norm of the gradient", "", "feed_forward", line="-"),
    )
    return Plot(figures, TITLE, description, {}, key)


def running_mean(values: list[float]) -> list[float]:
    """Each value's mean with those before it, as far back as a twentieth of all.

    >>> running_mean([4.0, 2.0])
    [4.0, 2.0]
    >>> running_mean([float(one) for one in range(40)])[-1]
    38.5
    """
    width = max(1, len(values) // 20)
    return [sum(own) / len(own) for end in range(1, len(values) + 1) if (own := values[max(0, end - width) : end])]
