"""A plausible record, made from the analytic numbers times seeded noise, for tests that need no run."""

import random
from typing import Any

from llamalab.analytic.activations import attention_bytes, peak_activation_bytes
from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps, total
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.presets import resolve_model
from llamalab.records.environment import Environment
from llamalab.records.phase_profile import Telemetry
from llamalab.records.record import AttentionPoint, MeasuredMemory, Measurement, Pass, Record
from llamalab.records.roof import Roof
from tests.report.sample_profile import sample_phase

GEMM, STREAM, COPY, ATTENTION, LAUNCH = 1.62e12, 25.1e9, 18.4e9, 0.41e12, 4.2e-6


def sample_record(
    model: str = "7b", *, dtype: str = "bf16", layers_measured: int | None = 2, seed: int = 7, **changes: Any
) -> Record:
    """A CPU run of `model` as it might have been; `layers_measured=None` is a full run."""
    _, arch = resolve_model(model)
    layers = min(layers_measured or arch.n_layers, arch.n_layers)
    noise = random.Random(seed)
    shapes = (("prefill", 512, 512), ("decode", 1, 513))
    passes = [_pass(noise, arch, dtype, layers, *shape) for shape in shapes]
    fields: dict[str, Any] = {
        "model": model,
        "arch": arch.as_dict(),
        "dtype": dtype,
        "environment": environment(),
        "roofs": roofs(dtype),
        "passes": passes,
        "profile": [sample_phase(one, arch) for one in passes],
        "attention": _attention(noise, arch, dtype),
        "parameters_measured": parameter_count(arch),
        "kv_bytes_measured": kv_bytes(arch, seq=513, dtype=dtype),
        "elapsed_s": 83.4,
    }
    return Record(**(fields | changes))


def environment(**changes: Any) -> Environment:
    """A two-core machine."""
    fields: dict[str, Any] = {
        "llamalab": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0+cpu",
        "device": "cpu",
        "device_name": "Intel Xeon (Sapphire Rapids), AVX-512, AMX",
        "memory_bytes": 24 * 2**30,
        "threads": 2,
        "interop_threads": 1,
        "os": "Linux 6.1",
        "command": "llamalab report --model 7b --device cpu",
        "started_at": "2026-01-15T09:30:00+00:00",
        "git_revision": "4f2a9c1",
        "git_dirty": False,
        "before": Telemetry(load_average=0.2, missing={"power_w": "no sensor"}),
        "after": Telemetry(load_average=1.9, missing={"power_w": "no sensor"}),
    }
    return Environment(**(fields | changes))


def roofs(dtype: str) -> list[Roof]:
    """The measured ceilings of that machine."""
    rates = {"gemm": GEMM, "stream": STREAM, "copy": COPY, "attention": ATTENTION}
    shapes = {
        "gemm": "512x4096 @ 4096x11008",
        "stream": "1x4096 @ 4096x11008",
        "copy": "256 MiB",
        "attention": "S=2048",
    }
    made = [
        Roof(kind=kind, dtype=dtype, per_second=rate, shape=shapes[kind], doubling_ratio=2.02, samples_s=[0.1, 0.101])
        for kind, rate in rates.items()
    ]
    return [*made, Roof(kind="launch", dtype=dtype, per_second=None, seconds=LAUNCH, doubling_ratio=2.0)]


def _seconds(op: Op) -> float:
    peak = {"gemm": GEMM, "attention": ATTENTION}.get(op.kind)
    bandwidth = STREAM if op.kind in ("gemm", "attention") else COPY
    return LAUNCH + max(op.flops_causal / peak if peak else 0.0, op.bytes / bandwidth)


def _samples(noise: random.Random, seconds: float, rounds: int = 12) -> list[float]:
    return [round(seconds * noise.lognormvariate(0.0, 0.04), 9) for _ in range(rounds)]


def _pass(
    noise: random.Random, arch: Any, dtype: str, layers: int, phase: str, new_tokens: int, context_tokens: int
) -> Pass:
    ops = forward_ops(arch, PassShape(new_tokens=new_tokens, context_tokens=context_tokens, dtype=dtype))
    factors = {op.name: noise.lognormvariate(0.17, 0.13) for op in ops}
    times = {op.name: _seconds(op) * factors[op.name] for op in ops}
    basis = "measured" if layers == arch.n_layers else "extrapolated"
    parts = [
        Measurement(
            name=part,
            samples_s=_samples(noise, sum(times[op.name] for op in ops if op.section == part)),
            count=arch.n_layers if part == "block" else 1,
            basis=basis if part == "block" else "measured",
        )
        for part in ("embedding", "block", "head")
    ]
    rows = [
        Measurement(
            name=op.name,
            samples_s=_samples(noise, times[op.name] * 1.01),
            count=op.count,
            basis=basis if op.count > 1 else "measured",
        )
        for op in ops
    ]
    peak = (
        peak_activation_bytes(arch, PassShape(new_tokens=new_tokens, context_tokens=context_tokens, dtype=dtype)).bytes
        + 69_632
    )
    return Pass(
        phase=phase, batch=1, new_tokens=new_tokens, context_tokens=context_tokens, dtype=dtype, attention="sdpa",
        algorithm="flash", kernel="flash_attention_cpu", layers_measured=layers, layers_total=arch.n_layers,
        parts=parts, ops=rows, memory=MeasuredMemory(peak_bytes=peak, method="allocations seen by the profiler"),
        observer_ratio=1.03,
    )  # fmt: skip


def _attention(noise: random.Random, arch: Any, dtype: str) -> list[AttentionPoint]:
    points = []
    for tokens in (128, 256, 512, 1024, 2048, 4096):
        shape = AttentionShape(1, tokens, tokens, arch.n_heads, arch.n_kv_heads, arch.head_dim, dtype, dtype)
        naive, flash = total(naive_steps(shape)), flash_step(shape)
        naive_s = 3 * LAUNCH + naive.flops_full / (0.8 * GEMM) + (naive.read_bytes + naive.written_bytes) / (0.9 * COPY)
        output, scores = attention_bytes(shape, "flash"), attention_bytes(shape, "naive")
        timed = {
            ("naive", "naive"): (naive_s, scores),
            ("tiled", "flash"): (30 * LAUNCH + flash.flops_causal / (0.35 * ATTENTION), 2 * output),
            ("sdpa", "flash"): (12 * LAUNCH + flash.flops_causal / (0.92 * ATTENTION), output),
        }
        for (backend, algorithm), (seconds, peak) in timed.items():
            skipped = backend == "naive" and tokens > 2048
            points.append(
                AttentionPoint(
                    backend=backend,
                    algorithm=algorithm,
                    batch=1,
                    new_tokens=tokens,
                    context_tokens=tokens,
                    n_heads=arch.n_heads,
                    n_kv_heads=arch.n_kv_heads,
                    head_dim=arch.head_dim,
                    dtype=dtype,
                    kernel=None,
                    samples_s=[] if skipped else _samples(noise, seconds, 8),
                    peak_bytes=None if skipped else int(peak * 1.02),
                    reason="4.0 GiB of scores exceed the memory that may be used" if skipped else None,
                )
            )
    return points
