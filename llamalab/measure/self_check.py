"""Is a probe to be believed? Doubled work must take doubled time, or the rate is no roof.

A clock that does not wait for the device, a product that was optimised away, or data that stayed in
a cache all show as a ratio far from 2.
"""

from typing import NamedTuple

from llamalab.measure.clock import Clock
from llamalab.measure.timer import Plan, Work, paired_ratio, time_variants

SOUND_RATIOS = (1.8, 2.2)
TRIES = 3


class Checked(NamedTuple):
    """Times of the work and of doubled work, round by round, and whether the two agree."""

    once_s: list[float]
    twice_s: list[float]
    ratio: float
    trusted: bool
    reason: str | None

    @property
    def unit_s(self) -> float:
        """The best time seen for the work, be it half of the doubled one's."""
        return min(*self.once_s, min(self.twice_s) / 2)


def check_doubling(once: Work, twice: Work, clock: Clock, plan: Plan) -> Checked:
    """Time work and doubled work in the same rounds, again where the ratio is not about 2."""
    least, most = SOUND_RATIOS
    tries: list[Checked] = []
    while len(tries) < TRIES:
        times = time_variants({"once": once, "twice": twice}, clock, plan)
        ratio = paired_ratio(times["twice"], times["once"])
        if least <= ratio <= most:
            return Checked(times["once"], times["twice"], ratio, True, None)
        tries.append(Checked(times["once"], times["twice"], ratio, False, None))
    nearest = min(tries, key=lambda one: abs(one.ratio - 2))
    reason = f"doubled work took {nearest.ratio:.2f} times the time in the best of {TRIES} tries, not {least} to {most}"
    return nearest._replace(reason=reason)
