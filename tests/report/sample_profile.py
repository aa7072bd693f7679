"""A plausible profile of a sample's pass, made from its times, for tests that need no run."""

from dataclasses import replace
from statistics import median
from typing import Any

from llamalab.analytic.activations import live_steps
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.records.phase_profile import (
    Energy,
    Holding,
    Instrument,
    MemoryMoment,
    MemoryProfile,
    OpProfile,
    PhaseProfile,
    StepMemory,
    Telemetry,
    Usage,
)
from llamalab.records.profile import Profile, profile_in
from llamalab.records.record import Pass, Record

REASON = "not readable on a CPU without privileges"
MISSING = dict.fromkeys(("memory_clock_hz", "power_w", "temperature_c", "throttle_reasons"), REASON)
PEAK = 60 * 2**20


def sample_phase(run: Pass, arch: LlamaArch, **changes: Any) -> PhaseProfile:
    """What looking closely at a pass might have shown: the second block is a fifth slower than the first."""
    ops = _ops(run, arch)
    named = sum(op.time_s * op.calls for op in ops)
    fields: dict[str, Any] = {
        "phase": run.phase, "batch": run.batch, "new_tokens": run.new_tokens, "context_tokens": run.context_tokens,
        "layers_measured": run.layers_measured, "layers_total": run.layers_total, "kernel": run.kernel,
        "wall_s": named / 1.01, "wall_samples_s": [], "named_s": named * 0.99, "outside_s": named * 0.01,
        "outside": "the turns of RoPE, once per pass", "closure": 0.01, "missing": None, "ops": ops,
        "memory": _memory(run, arch),
        "instruments": [Instrument(name="op clock", ratio=1.01, about="a timestamp at every point"),
                        Instrument(name="profiler", ratio=1.3, about="ranges, kernels; one pass")],
        "before": Telemetry(clock_hz=2_600_000_000, load_average=0.3, missing=MISSING),
        "during": Telemetry(clock_hz=2_900_000_000, load_average=1.2, missing=MISSING),
        "after": Telemetry(clock_hz=2_900_000_000, load_average=1.4, missing=MISSING),
        "throttled": None,
        "energy": Energy(joules_per_token=None, reason="this system has no energy counter of the CPU (RAPL)"),
        "usage": Usage(resident_bytes=2**30, peak_resident_bytes=3 * 2**29, device_bytes_by_process=None,
                       missing={"device_bytes_by_process": "not an NVIDIA device"}),
    }  # fmt: skip
    return PhaseProfile(**(fields | changes))


def sample_profile(record: Record, **changes: Any) -> Profile:
    """The profile of a sample record by itself."""
    profile = profile_in(record)
    assert profile is not None
    return replace(profile, **changes)


def _ops(run: Pass, arch: LlamaArch) -> list[OpProfile]:
    table = forward_ops(arch, PassShape(new_tokens=run.new_tokens, context_tokens=run.context_tokens, dtype=run.dtype))
    total = sum(one.median_s * one.count for one in run.ops)
    found = []
    for op, one in zip(table, run.ops, strict=True):
        time_s = median(one.samples_s)
        layers = run.layers_measured if "*" in op.name else 0
        found.append(OpProfile(
            name=op.name, calls=layers or 1, count=op.count, time_s=time_s, total_s=time_s * op.count,
            share=time_s * op.count / total, device_s=0.9 * time_s, gap_s=0.1 * time_s, flops=op.flops_causal,
            bytes=op.bytes, flops_per_s=op.flops_causal / time_s, bytes_per_s=op.bytes / time_s, roof_fraction=None,
            predicted_s=None, error=None, kernels=["aten::mm"] if op.kind == "gemm" else ["aten::mul", "aten::add"],
            samples_s=[], layers_s=[time_s * (1.2 if layer == 1 else 1.0) for layer in range(layers)],
            reason="not predicted in this sample",
        ))  # fmt: skip
    return found


def _memory(run: Pass, arch: LlamaArch) -> MemoryProfile:
    names = ("tok_embeddings", "layers.0.attention.wq", "layers.0.feed_forward.w1", "norm", "output")
    shapes = ((8, 0, 0), (24, 0, 16), (40, 0, 20), (8, 0, 0), (4, 12, 0))
    timeline = [
        MemoryMoment(op=name, kv_bytes=0, activation_bytes=held * 2**20, logits_bytes=logits * 2**20,
                     workspace_bytes=scratch * 2**20)
        for name, (held, logits, scratch) in zip(names, shapes, strict=True)
    ]  # fmt: skip
    steps = live_steps(arch, PassShape(new_tokens=run.new_tokens, context_tokens=run.context_tokens, dtype=run.dtype))
    return MemoryProfile(
        method="profiler: allocator events", weight_bytes=2**30, kv_bytes=2**24, peak_bytes=PEAK,
        peak_op="layers.0.feed_forward.w1", timeline=timeline,
        at_peak=[Holding(op="layers.0.feed_forward.w1", category="activation", bytes=40 * 2**20),
                 Holding(op="layers.0.feed_forward.w1", category="workspace", bytes=20 * 2**20)],
        steps=[StepMemory(step=one.step, measured_bytes=PEAK, predicted_bytes=one.bytes, error=one.bytes / PEAK - 1)
               for one in steps],
    )  # fmt: skip
