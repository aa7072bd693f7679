"""The check of a probe: doubled work must take twice the time, or the rate is not trusted.

A clock that does not wait for the device, a product that was optimised away, or data that stayed in a cache all give
a ratio far from 2.
"""

from typing import NamedTuple

from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.deadline import Deadline
from llamalab.measure.timing.timer import Call, Plan, time_variants

SOUND_RATIOS = (1.8, 2.2)
TRIES = 4


class Checked(NamedTuple):
    """Times of the work and of doubled work, round by round, and whether the two agree."""

    once_s: list[float]
    twice_s: list[float]
    trusted: bool
    reason: str | None = None

    @property
    def ratio(self) -> float:
        """Best time of doubled work over best time of the work, since a disturbance only ever adds time."""
        return min(self.twice_s) / min(self.once_s)

    @property
    def unit_s(self) -> float:
        """The best time of the work, which may be half of the doubled work's."""
        return min(*self.once_s, min(self.twice_s) / 2)


def check_doubling(once: Call, twice: Call, clock: Clock, plan: Plan, deadline: Deadline | None = None) -> Checked:
    """Time work and doubled work in the same rounds, until the ratio is about 2 or the time is over."""
    least, most = SOUND_RATIOS
    checked, tries = Checked([], [], trusted=False), 0
    while tries < TRIES and not (tries and deadline and not deadline.left_s):
        tries += 1
        times = time_variants({"once": once, "twice": twice}, clock, plan.within(deadline) if deadline else plan)
        checked = Checked(checked.once_s + times["once"], checked.twice_s + times["twice"], trusted=False)
        if least <= checked.ratio <= most:
            return checked._replace(trusted=True)
    reason = f"doubled work took {checked.ratio:.2f} times the time in {tries} tries, not {least} to {most}"
    return checked._replace(reason=reason)
