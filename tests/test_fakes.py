"""The machines that are not here do what they say."""

import time

import pytest
import torch

from llamalab.measure.bench import run as bench
from llamalab.measure.device import cache_size, machine
from llamalab.measure.device.machine import clock_for
from tests.fakes import FakeMachine, GiB, MiB, no_memory

CPU = torch.device("cpu")


def test_every_module_is_told_of_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.cache_bytes(CPU)
    with monkeypatch.context() as patched:
        FakeMachine(cache_bytes=7 * MiB, free_bytes=3 * GiB).install(patched)
        for module in (machine, bench):
            assert module.available_bytes(CPU) == 3 * GiB
        for module in (machine, cache_size):
            assert module.cache_bytes(CPU) == 7 * MiB
        for module in (cache_size, bench):
            assert module.effective_cache_bytes(CPU) == 7 * MiB
        assert machine.memory_bytes(CPU) == 6 * GiB
    assert machine.cache_bytes(CPU) == here


def test_a_slower_machine_has_a_clock_that_runs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**9, 10**6))  # a millisecond between two looks
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    FakeMachine(slower=20.0).install(monkeypatch)
    clock = clock_for(CPU)
    for _ in range(3):
        clock.mark()
    assert clock.read() == pytest.approx([0.02, 0.02])


def test_tensors_without_memory_are_counted_while_they_live(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_memory(monkeypatch) as asked:
        large = torch.empty(1 << 30, 1 << 10, dtype=torch.bfloat16)
        view = large[:5]
        assert asked.live_bytes == 2 << 40
        del large
        assert asked.live_bytes == 2 << 40
        del view
        assert (asked.live_bytes, asked.peak_bytes) == (0, 2 << 40)
        assert (torch.empty(3, 5) @ torch.empty(5, 7)).shape == (3, 7)
