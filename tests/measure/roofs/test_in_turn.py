"""Roofs by a deadline: a slow machine measures fewer of them, and says which are lacking."""

import itertools
import time

import pytest
import torch

from llamalab.measure.device.machine import clock_for
from llamalab.measure.roofs import quick
from llamalab.measure.roofs.in_turn import NO_TIME, RoofStep, roofs_in_turn
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import Deadline
from llamalab.records.roof import Roof
from tests.model.shrunk import ARCHES

CPU = torch.device("cpu")


class Hours:
    """A clock that moves by what steps say they take."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def step(self, name: str, needs_s: float) -> RoofStep:
        """It takes so long, or all the time that it is given where that is less."""

        def find(machine: Machine) -> Roof:
            assert machine.deadline is not None
            self.at_s += min(needs_s, machine.deadline.left_s)
            return Roof(kind=name, dtype=machine.dtype, per_second=1.0)

        return RoofStep(name, name, "fp32", find)


@pytest.mark.parametrize("needs_s", [0.1, 1.0, 20.0, 1000.0])
def test_steps_share_the_time_and_never_take_more(needs_s: float) -> None:
    hours = Hours()
    deadline = Deadline(10.0, now=lambda: hours.at_s)
    steps = [hours.step(name, needs_s) for name in "abcdef"]
    found = roofs_in_turn(Machine(CPU, clock_for(CPU), "bf16", deadline), steps)
    assert hours.at_s <= 10.0 + 1e-9
    assert [roof.kind for roof in found] == list("abcdef")
    measured = [roof for roof in found if roof.per_second]
    assert len(measured) == (6 if needs_s <= 1.0 else len(measured)) >= 3
    assert all(NO_TIME in (roof.reason or "") for roof in found if not roof.per_second)


def test_short_roofs_keep_a_deadline_of_their_own_on_a_slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock stands for work of 5 s: nothing is timed twice, and the last roofs are absent."""
    looks = itertools.count(1)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(looks) * 5 * 10**9)
    monkeypatch.setattr(time, "perf_counter", lambda: next(looks) * 5.0)
    began = time.perf_counter()
    with torch.inference_mode():
        found = quick.quick_roofs(Machine(CPU, clock_for(CPU), "fp32"), ARCHES["GQA"])
    assert {roof.kind for roof in found} == {"gemm", "stream", "copy", "cache", "attention", "launch"}
    assert any(NO_TIME in (roof.reason or "") for roof in found)
    assert time.perf_counter() - began < 40 * quick.SHORT_ROOFS_S  # a single sample of one probe is some looks
