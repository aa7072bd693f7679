"""The cache that a process really has: from rates of faked machines, in bounds of time and memory."""

import pytest
import torch

from llamalab.measure.device import cache_size
from llamalab.measure.device.cache_size import largest_cached, reader, sweep_working_sets, swept_sizes
from tests.measure.fakes import FakeClock, StepClock

MIB = 2**20
FULL = swept_sizes(512 * MIB)


def machine(cache_mib, fast=40e9, slow=10e9):
    """Byte/s of a machine with a cache: what does not fit into it comes from memory."""
    return lambda size: fast if size <= cache_mib * MIB else slow


@pytest.mark.parametrize("cache_mib", [1, 2, 16, 32, 96, 128, 256])
def test_a_cache_is_found_whatever_is_reported(cache_mib):
    assert sweep_working_sets(FULL, machine(cache_mib), 1e9) == cache_mib * MIB


def test_between_two_sizes_the_smaller_is_known_to_fit():
    assert sweep_working_sets(FULL, machine(260), 1e9) == 256 * MIB
    assert sweep_working_sets(FULL, machine(40), 1e9) == 32 * MIB


def test_a_second_level_does_not_hide_the_last():
    levels = {2: 120e9, 48: 35e9}
    rate = lambda size: next((rate for mib, rate in levels.items() if size <= mib * MIB), 8e9)  # noqa: E731
    assert sweep_working_sets(FULL, rate, 1e9) == 48 * MIB


def test_no_cache_that_makes_a_difference():
    assert sweep_working_sets(FULL, machine(0), 1e9) == MIB
    assert largest_cached({MIB: 11e9, 2 * MIB: 10e9}) == MIB


def test_a_disturbed_sample_is_measured_again():
    seen = []

    def rate(size):
        seen.append(size)
        disturbed = seen.count(size) == 1 and size in (24 * MIB, 32 * MIB)
        return 2e8 if disturbed else machine(32)(size)

    assert sweep_working_sets(FULL, rate, 1e9) == 32 * MIB


@pytest.mark.parametrize("slower", [1, 10, 100, 10_000])
def test_a_slow_machine_tries_fewer_sizes_in_the_same_time(slower):
    spent, most = [], max

    def rate(size):
        found = machine(32)(size) / slower
        spent.append(most(size, 2**24) / found)
        return found

    sweep_working_sets(FULL, rate, 1.0)
    assert sum(spent[:-1]) <= 1.0 or len(spent) == 2


def test_sizes_stay_within_the_budget():
    for most in (0, MIB - 1, MIB, 5 * MIB, 128 * MIB, 512 * MIB):
        sizes = swept_sizes(most)
        assert sizes == sorted(set(sizes))
        assert sizes[0] == MIB
        assert sizes[-1] <= max(most, MIB)
        assert 3 * sizes[-1] >= 2 * min(most, 512 * MIB) or sizes == [MIB]


def test_rates_come_from_the_clock_given():
    assert reader(4 * MIB, StepClock())(2 * MIB) == 16 * MIB
    assert reader(MIB, FakeClock())(MIB) > 0  # no time at all is no division by 0


def test_the_whole_asks_for_the_budget_at_most(monkeypatch):
    asked = []
    monkeypatch.setattr(cache_size, "probe_budget_bytes", lambda device: 10 * MIB)
    monkeypatch.setattr(cache_size, "reader", lambda most, clock: asked.append(most) or machine(2))
    measured = cache_size.effective_cache_bytes.__wrapped__(torch.device("cpu"))
    assert (measured, asked) == (2 * MIB, [8 * MIB])


@pytest.mark.parametrize(("reported", "expected"), [(50 * MIB, 50 * MIB), (0, MIB), (2**30, 256 * MIB)])
def test_a_gpu_is_believed(monkeypatch, reported, expected):
    monkeypatch.setattr(cache_size, "cache_bytes", lambda device: reported)
    assert cache_size.effective_cache_bytes.__wrapped__(torch.device("cuda", 0)) == expected
