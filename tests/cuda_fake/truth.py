"""Simulated devices of several proportions, and what is true of each by construction."""

from dataclasses import replace

import pytest

from llamalab.arch import LlamaArch
from llamalab.records.phase_profile import OpProfile
from llamalab.records.record import Record, unmeasured
from llamalab.records.roof import Roof
from tests.cuda_fake.costs import Costs
from tests.report.sample import environment

WIDE = LlamaArch(4096, 2, 32, 8, 11008, 2048)
_SLOW_HOST = {
    "call_s": 20e-6, "product_call_s": 30e-6, "attention_call_s": 50e-6, "event_call_s": 6e-6,
    "replay_call_s": 35e-6, "wait_s": 15e-6,
}  # fmt: skip
_SMALL = Costs(
    cache_bytes=6_291_456, cached_bytes=3_000_000, cache_bytes_per_s=3e12, memory_bytes_per_s=1e12, flops_per_s=150e12,
    attention_flops_per_s=90e12, multiprocessors=72,
)  # fmt: skip
_FASTEST = Costs(
    cache_bytes=132_120_576, cached_bytes=100_000_000, cache_bytes_per_s=12e12, memory_bytes_per_s=7.5e12,
    flops_per_s=2000e12, attention_flops_per_s=1200e12, multiprocessors=148,
)  # fmt: skip
DEVICES = {
    "large cache": Costs(),
    "large cache, slow host": replace(Costs(), **_SLOW_HOST),
    "small cache": _SMALL,
    "small cache, slow host": replace(_SMALL, **_SLOW_HOST),
    "fastest memory, slow host": replace(_FASTEST, **_SLOW_HOST),
}


def rates_of(costs: Costs) -> dict[str, float]:
    """Roofs of a device by kind, per second."""
    return {
        "gemm": costs.flops_per_s, "stream": costs.memory_bytes_per_s, "copy": costs.memory_bytes_per_s,
        "cache": costs.best_cached_copy_bytes_per_s(), "attention": costs.attention_flops_per_s,
    }  # fmt: skip


def roofs_of(costs: Costs) -> list[Roof]:
    """The same as a record has them, and the least time of a launch."""
    roofs = [
        Roof(kind=kind, dtype="bf16", per_second=rate, trusted=True, doubling_ratio=2.0)
        for kind, rate in rates_of(costs).items()
    ]
    least_s = costs.kernel_s + costs.gap_s
    return [
        *roofs,
        Roof(kind="launch", dtype="bf16", per_second=None, seconds=least_s, trusted=True, doubling_ratio=2.0),
    ]


def record_of(costs: Costs, arch: LlamaArch = WIDE) -> Record:
    """A record of such a device that has its roofs alone."""
    return unmeasured("wide", arch, "bf16", environment(device="cuda"), roofs_of(costs))


def kernel_seconds(costs: Costs, arch: LlamaArch, name: str, new: int, context: int) -> float | None:
    """What the simulator charges for the kernels of an operation; None where they are several."""
    dim, kv, ffn = arch.dim, arch.kv_dim, arch.ffn_dim
    weights = {"wq": (dim, dim), "wk": (kv, dim), "wv": (kv, dim), "wo": (dim, dim),
               "w1": (ffn, dim), "w3": (ffn, dim), "w2": (dim, ffn)}  # fmt: skip
    last = name.rpartition(".")[2]
    if last in weights:
        out, inner = weights[last]
        return costs.product_s(new, out, inner, 2)
    if last == "flash":
        return costs.attention_s((1, arch.n_heads, new, arch.head_dim), context, arch.n_kv_heads, 2)
    return None


def check_rows(costs: Costs, rows: list[OpProfile], new: int, context: int, arch: LlamaArch = WIDE) -> None:
    """Each row is at most its roof, and takes what its kernels take."""
    known = 0
    for row in rows:
        assert row.roof_fraction is None or row.roof_fraction <= 1.0, row.name
        assert row.device_s is not None
        truth_s = kernel_seconds(costs, arch, row.name, new, context)
        if truth_s is not None:
            known += 1
            assert row.device_s == pytest.approx(truth_s, rel=0.05), row.name
            assert row.time_s == pytest.approx(truth_s + costs.gap_s, rel=0.05), row.name
        assert not any("layers." in kernel for kernel in row.kernels)  # a range is no kernel
    assert known == 8
