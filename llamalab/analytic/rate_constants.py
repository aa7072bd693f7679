"""The constants of a prediction: rates by class of operation, the host's overhead, and the spread of the result."""

from collections.abc import Mapping
from types import MappingProxyType

from llamalab.analytic.grades import Grade
from llamalab.analytic.op import Op
from llamalab.analytic.roofline import Rates, moved_bytes
from llamalab.startup.hints import NamedTuple

CLASSES = {"gather", "gemm", "elementwise", "attention_prefill", "attention_decode"}  # classes of every pass
STRETCH = 4.0  # factor beyond the fitted work up to which constants hold: 7B's products are up to 3 times larger


class Host(NamedTuple):
    """A stack's overhead on the host: per request, per sequence of the batch and token, and per decode step."""

    request_s: float = 0.0
    sequence_s: float = 0.0
    step_s: float = 0.0


class Range(NamedTuple):
    """The smallest and largest work of the fitted kernels of a class."""

    flops: tuple[int, int]
    bytes: tuple[int, int]

    def distance(self, op: Op) -> float:
        """The factor by which an op is outside of the range, beyond STRETCH; 1 where it is inside.

        >>> Range((0, 0), (1000, 8000)).distance(Op("x", "gather", 1, read_bytes=64_000 * STRETCH))
        8.0
        """
        factors = [1.0]
        for amount, (low, high) in ((op.flops_causal, self.flops), (moved_bytes(op), self.bytes)):
            if amount and high:
                factors += [amount / high / STRETCH, max(1, low) / amount / STRETCH]
        return max(factors)


class Constants(NamedTuple):
    """Rates by class for one device and dtype, the basis of a prediction with them, and its usual error.

    `spread` is the relative half-width within which about 9 of 10 scored points lie; None for a bound. `ranges`
    tell what calibrated classes were fitted on, where that is known.
    """

    rates: Mapping[str, Rates]
    basis: str
    spread: float | None
    host: Host = Host()
    grade: Grade | None = None
    ranges: Mapping[str, Range] = MappingProxyType({})

    @property
    def lacking(self) -> tuple[str, ...]:
        """Classes of every pass without constants."""
        return tuple(sorted(CLASSES - self.rates.keys()))

    def distance(self, op: Op) -> float:
        """The factor by which an op is outside of its class's range; 1 where it is inside, or the range is unknown."""
        found = next((self.ranges[name] for name in op.rate_classes if name in self.ranges), None)
        return found.distance(op) if found else 1.0

    def interval_of(self, op: Op, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """As `interval`; down to the bound, and as much wider upwards as the op is outside of what was fitted."""
        far = self.distance(op)
        low, high = self.interval(time_s, bound_s)
        return (low, high) if far <= 1 or high is None else (min(bound_s, low), high * far)

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time, never below its bound; a bound has no high end."""
        if self.spread is None:
            return time_s, None
        return max(bound_s, time_s * (1 - self.spread)), time_s * (1 + self.spread)
