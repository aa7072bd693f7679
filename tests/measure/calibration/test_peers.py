"""Calibrations in step: one decides what fits for all, every pass begins together, and the median counts."""

import queue
import threading
from typing import Any

import pytest

from llamalab.measure.calibration import run as module
from llamalab.measure.calibration.peers import AgreedDeadline, InStep
from llamalab.measure.calibration.result import Calibration
from llamalab.measure.calibration.run import calibrate
from llamalab.measure.calibration.trials import ENOUGH_ROUNDS
from tests.measure.calibration.test_run import OTHERS, SMALL


class Threads(InStep):
    """Two peers in two threads of this process, of which the first decides."""

    sharing = 2

    def __init__(self, first: bool, told: "queue.Queue[Any]", barrier: threading.Barrier) -> None:
        self.first, self._told, self._barrier, self.met = first, told, barrier, 0

    def agree(self, value: Any) -> Any:
        if not self.first:
            return self._told.get(timeout=15)
        self._told.put(value)
        return value

    def meet(self) -> None:
        self.met += 1
        self._barrier.wait(timeout=15)


def test_peers_of_unequal_speed_run_the_same_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has all the time that it needs, the other has none by its own clock, and follows."""
    monkeypatch.setattr(module, "effective_cache_bytes", lambda _: 0)
    monkeypatch.setattr(module, "MOST_ROUNDS", 2)
    told, barrier = queue.Queue[Any](), threading.Barrier(2)
    peers, found = [Threads(first, told, barrier) for first in (True, False)], dict[bool, Calibration]()

    def work(own: Threads) -> None:
        deadline = AgreedDeadline(600.0 if own.first else 1e-3, own)
        found[own.first] = calibrate(
            device="cpu", dtype="fp32", fit=SMALL, check=OTHERS, peers=own, deadline=deadline, copies_bytes=0
        )

    threads = [threading.Thread(target=work, args=(own,)) for own in peers]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=120)
    passes = sum(len(block.shapes) for block in (*SMALL, *OTHERS))
    assert [own.met for own in peers] == 2 * [
        2 * passes + ENOUGH_ROUNDS
    ]  # the first of all runs until one run foretells the others
    assert [found[first].rounds for first in (True, False)] == [2, 2]
    assert found[True].fitted_on == found[False].fitted_on == SMALL
    assert not found[False].left_out


def test_a_best_time_is_of_a_moment_when_a_peer_did_not_disturb() -> None:
    assert InStep().typical([1.0, 5.0, 4.0]) == 4.0
