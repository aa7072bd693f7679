"""Roofs one after another by a deadline: each has its share of the remaining time, and states where there is none."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llamalab.measure.device.machine import release_memory
from llamalab.measure.roofs.best import absent_roof
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import ProgressCallback
from llamalab.records.roof import Roof

NO_TIME = "there was no time left for it"


class RoofStep(NamedTuple):
    """A roof to be measured: its label, kind and dtype, and its probe."""

    label: str
    kind: str
    dtype: str
    find: Callable[[Machine], Roof]


def roofs_in_turn(
    machine: Machine, steps: Sequence[RoofStep], progress: ProgressCallback = lambda label, done: None
) -> list[Roof]:
    """The roof of each step, on plain weights; an absent one where the machine's time is over."""
    roofs = []
    for done, step in enumerate(steps):
        progress(step.label, done / len(steps))
        # Most steps need less than their share: twice the share lets large ones use the remainder.
        part = None if machine.deadline is None else machine.deadline.part(min(1.0, 2 / (len(steps) - done)))
        own = machine._replace(dtype=step.dtype, weight_dtype=None, deadline=part)
        roofs.append(absent_roof(step.kind, step.dtype, NO_TIME) if own.late else step.find(own))
        release_memory(machine.device)
    return roofs
