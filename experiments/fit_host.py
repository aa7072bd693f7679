"""Fits what an inference server's host adds to a request and to every token of it.

    python -m experiments.fit_host

Two constants: seconds per request, and seconds per sequence and token. Kernel tables cannot know them.
They are fitted on whole-model measurements of TensorRT-LLM 0.5 (experiments/published.csv, group "older
revision"), which are not scored: the scored ones are of release 0.9. The points of 0.8 are left out
although they are not scored either, because they repeat those of 0.9 to about 1 %: fitting on them would be
fitting on what is scored. Of 0.5 the first-token latencies and the runs of 128 + 128 tokens count:
at long contexts its attention kernels, which its authors replaced, hide the host.

Minimised is the mean |log(predicted / measured)|, with the kernels' time as shipped.
"""

import json
import sys

import numpy as np

from experiments.accuracy import Point, read_points
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import run_times
from llamalab.analytic.rate_constants import Host
from llamalab.measure.calibration.fit import minimum_within

RELEASE = "(v0.5.0)"
SHORT = 128
LOW, HIGH, START = np.array([0.0, 0.0]), np.array([10e-3, 100e-6]), np.array([1e-3, 5e-6])


def fitting_points() -> list[Point]:
    """First tokens and short runs of release 0.5."""
    old = [point for point in read_points() if not point.scored and RELEASE in point.revision]
    return [
        point
        for point in old
        if point.quantity == "prefill_ms" or (point.work.prompt, point.work.generate) == (SHORT, SHORT)
    ]


def fit(points: list[Point]) -> tuple[Host, float]:
    """The two constants, and the mean |log error| that is left."""
    kernels_s = np.array([_s(point, Host()) for point in points])
    per_request = np.array([_s(point, Host(1.0, 0.0)) for point in points]) - kernels_s
    per_sequence = np.array([_s(point, Host(0.0, 1.0)) for point in points]) - kernels_s
    measured_s = np.array([point.measured_s for point in points])

    def loss(host: np.ndarray) -> float:
        predicted_s = kernels_s + host[0] * per_request + host[1] * per_sequence
        return float(np.mean(np.abs(np.log(predicted_s / measured_s))))

    best = minimum_within(loss, START, low=LOW, high=HIGH)
    return Host(float(best[0]), float(best[1])), loss(best)


def _s(point: Point, host: Host) -> float:
    constants = choose(point.spec, "shipped", point.work.dtype, point.work.weight_dtype)
    return point.of(run_times(point.arch, point.work, constants.rates, host))


def main() -> int:
    """Print the constants as llamalab/analytic/shipped_constants.py holds them; the last line is the result as JSON."""
    points = fitting_points()
    host, error = fit(points)
    print(f"SHIPPED_HOST = Host({host.request_s:.2g}, {host.sequence_s:.2g})")
    print(json.dumps({"points": [point.id for point in points], **host._asdict(), "mean_log_error": round(error, 4)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
