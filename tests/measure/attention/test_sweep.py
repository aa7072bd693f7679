import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.measure.attention.sweep import Limits, sweep_attention
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.clock import HostClock
from llamalab.measure.timing.timer import Plan

ARCH = LlamaArch(48, 3, 6, 2, 80, 96)
PLAN = Plan(0.0, 2, 2, 1, 0.0)
NO_LIMIT = Limits(1e9, 10**15)


@pytest.fixture
def machine():
    return Machine(torch.device("cpu"), HostClock(), "fp32")


def by_key(points):
    return {(point.backend, point.new_tokens): point for point in points}


def test_all_backends_at_all_lengths(machine):
    points = by_key(sweep_attention(machine, ARCH, [64, 16], NO_LIMIT, PLAN))
    assert list(points) == [(name, tokens) for tokens in (16, 64) for name in ("naive", "chunked", "sdpa")]
    point = points["naive", 64]
    assert (point.n_heads, point.n_kv_heads, point.head_dim, point.context_tokens) == (6, 2, 8, 64)
    assert [len(one.samples_s) for one in points.values()] == [2] * 6
    assert points["sdpa", 64].kernel == "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert "aten::_softmax" in point.kernel
    # Scores and pattern in fp32: naive attention cannot hold less.
    assert point.peak_bytes >= 2 * 4 * 6 * 64 * 64 > points["sdpa", 64].peak_bytes


def test_what_would_hold_too_much_is_left_out_with_the_reason(machine):
    limit = Limits(1e9, 2 * 4 * 6 * 64 * 64 - 1)
    points = by_key(sweep_attention(machine, ARCH, [16, 32, 64, 128], limit, PLAN))
    assert points["naive", 32].samples_s
    for tokens in (64, 128):
        left_out = points["naive", tokens]
        assert (left_out.samples_s, left_out.peak_bytes, left_out.kernel) == ([], None, None)
        assert "192.00 KiB, more than the 192.00 KiB allowed" in left_out.reason
        assert points["sdpa", tokens].samples_s


def test_what_would_take_too_long_is_left_out_with_the_reason(machine):
    points = sweep_attention(machine, ARCH, [16, 32], Limits(1e-12, 10**15), PLAN)
    assert [bool(point.samples_s) for point in points] == [True] * 3 + [False] * 3
    assert all("would take about" in point.reason for point in points[3:])
