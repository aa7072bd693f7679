"""Decode series, attention backends and memory peaks: predictions, rows and conclusions on little work."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import attention_backends, decode_series, memory_peaks
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.analytic.params import weight_bytes
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.clock import HostClock
from llamalab.measure.timing.timer import Plan
from llamalab.records.record import AttentionPoint
from tests.report.sample import ATTENTION, LAUNCH, sample_record

CPU = torch.device("cpu")
ARCH = LlamaArch(48, 3, 6, 2, 80, 96)
ONCE = Plan(0.0, 2, 2, 1, 0.0)


def test_a_decode_step_reads_weights_and_cache_once() -> None:
    kv_read = 2 * 2 * ARCH.n_layers * ARCH.kv_dim * 40 * 2  # keys and values of 40 tokens of 2 sequences
    weights = weight_bytes(ARCH, "bf16") - 2 * ARCH.vocab_size * ARCH.dim  # the table is gathered from
    assert kv_read + weights < decode_series.predict(ARCH, 2, 40) < 1.2 * (kv_read + weights)


def test_series_are_measured_in_the_same_rounds() -> None:
    scale = decode_series.Scale(2, ((1, 6), (3, 4)), ONCE)
    rows = list(decode_series.measure("mine", ARCH, CPU, scale))
    assert [(row["series"], row["batch"], row["context"]) for row in rows] == [
        ("plain", 1, 8), ("loop", 1, 8), ("plain", 3, 6), ("loop", 3, 6),
    ]  # fmt: skip
    assert all(len(row["samples_s"]) == 2 and min(row["samples_s"]) > 0 for row in rows)
    assert {row["blocks"] for row in rows} == {"3 blocks"}


def test_what_does_not_fit_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_series, "available_bytes", lambda place: 0)
    rows = list(decode_series.measure("mine", ARCH, CPU, decode_series.Scale(1, ((64, 4000),), ONCE)))
    assert [row["reason"] for row in rows] == ["does not fit beside the weights"] * 2


def test_a_series_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str, arch: LlamaArch, *_: object, **__: object) -> list[dict[str, Any]]:
        if name == "tiny":
            raise RuntimeError("capture failed")
        return [{"model": name, "series": "loop", "batch": 1, "context": 8, "samples_s": [1.0], "read_bytes": 90}]

    monkeypatch.setattr(decode_series, "measure", measure)
    rows = decode_series._rows(["tiny", "7b"], CPU, decode_series.SCALES["cpu"], compiled=False)
    decode_series.add_rates(rows, 100.0)
    said = decode_series.conclude(rows, 100.0)
    assert "7b at 8 tokens, loop: 1.0 tokens/s, 0 GB/s, 90% of it." in said
    assert "tiny, loop: RuntimeError." in said


@pytest.mark.parametrize(("step_s", "verdict"), [(1.0, "loop: 1.0 tokens/s, 0 GB/s, 90% of it."), (1.1, "82% of it.")])
def test_what_is_told_is_of_batch_1(step_s: float, verdict: str) -> None:
    rows: list[dict[str, Any]] = [
        {"model": "7b", "batch": batch, "context": 8, "series": series, "samples_s": [seconds], "read_bytes": 90}
        for batch in (1, 4)
        for series, seconds in (("plain", 2.0), ("loop", step_s))
    ]
    decode_series.add_rates(rows, 100.0)
    said = decode_series.conclude(rows, 100.0)
    assert verdict in said
    assert said.count("of it.") == 2
    assert f"The loop is {2.0 / step_s:.2f} times as fast as plain steps (2 sizes)." in said


def test_memory_is_as_counted_on_a_cpu() -> None:
    model = memory_peaks.build(ARCH, dtype="bf16").eval()
    rows = []
    with torch.inference_mode():
        for case in (BenchCase(40, 0), BenchCase(0, 1, 20, 3)):
            told = {"model": "mine", "test": case.test, "batch": case.batch}
            rows.append(told | memory_peaks.predict(ARCH, case) | memory_peaks.measure(model, case, CPU))
    assert all(row["resident_bytes"] == row["predicted_resident_bytes"] for row in rows)
    said = memory_peaks.conclude(rows)
    assert said.startswith("Weights and cache are exactly as counted in 2 passes.")
    rows[0]["predicted_peak_bytes"] *= 100
    held = rows[0]["resident_bytes"] + rows[0]["peak_bytes"]
    said_bytes = rows[0]["predicted_resident_bytes"] + rows[0]["predicted_peak_bytes"]
    assert f"worst error {abs(said_bytes / held - 1):.2%}" in memory_peaks.conclude(rows)
    unknown = [row | {"peak_bytes": None, "reason": "none"} for row in rows]
    assert "No peak was measured: none." in memory_peaks.conclude(unknown)


def point(backend: str, seconds: float | None, context: int = 512, new: int = 512, reason: str | None = None) -> Any:
    return AttentionPoint(
        backend=backend, algorithm="naive" if backend == "naive" else "flash", batch=1, new_tokens=new,
        context_tokens=context, n_heads=32, n_kv_heads=32, head_dim=128, dtype="bf16", kernel=None,
        samples_s=[] if seconds is None else [seconds], peak_bytes=1, reason=reason,
    )  # fmt: skip


def test_the_conclusion_on_backends() -> None:
    absent = [point("cudnn", None, new=new, reason="none here") for new in (512, 1)]
    points = [
        point("naive", 4.0), point("flash", 1.0), absent[0], point("sdpa", 1.5),
        point("naive", 1.0, new=1), point("flash", 2.0, new=1), absent[1], point("sdpa", 2.0, new=1),
    ]  # fmt: skip
    said = attention_backends.conclude(points, [None, None, None, 1.8, *[None] * 4])
    assert said.startswith("Fastest in prefill, of 1 shapes: flash 1. Fastest in decode, of 1 shapes: naive 1.")
    assert "What sdpa chooses takes 1.75 times the fastest, at worst 2.00." in said
    assert said.endswith("Fused attention is predicted with a median error of 20%. cudnn did not run: none here.")


def test_predictions_come_from_a_record() -> None:
    points = [point("sdpa", 1.0), point("naive", 1.0)]
    assert attention_backends.predict(points, None) == [None, None]
    fused, naive = attention_backends.predict(points, sample_record())
    flops = 4 * 32 * 128 * (512 * 513 // 2)  # 2 products over the pairs at or below the diagonal
    assert fused == pytest.approx(LAUNCH + flops / ATTENTION)
    assert naive is not None
    assert naive > 3 * LAUNCH


def test_a_backend_that_fails_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no kernel in /usr/lib/thing.so")

    broken = get_backend("sdpa")._replace(name="broken", attend=attend)
    known = {"naive": get_backend("naive"), "broken": broken}
    monkeypatch.setattr(attention_backends, "get_backend", known.__getitem__)
    machine, shape = Machine(CPU, HostClock(), "bf16"), AttentionShape(1, 4, 8, 4, 2, 16, "bf16", "bf16")
    scale = attention_backends.Scale(("naive", "broken"), (), (), ONCE)
    naive, failed = attention_backends.measure(machine, [shape], scale)
    assert len(naive.samples_s) == 2
    assert failed.reason == "failed: RuntimeError: no kernel in (a path)"


def test_a_failure_in_the_rounds_leaves_out_only_who_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention_backends.measure_attention

    def measure(machine: Machine, shape: AttentionShape, backends: Any, plan: Plan, *, left_out: Any) -> Any:
        if any(backend.name == "chunked" and "chunked" not in left_out for backend in backends):
            raise RuntimeError("capture failed")
        return real(machine, shape, backends, plan, left_out=left_out)

    monkeypatch.setattr(attention_backends, "measure_attention", measure)
    machine, shape = Machine(CPU, HostClock(), "bf16"), AttentionShape(1, 4, 8, 4, 2, 16, "bf16", "bf16")
    scale = attention_backends.Scale(("naive", "chunked", "sdpa"), (), (), ONCE)
    found = attention_backends.measure(machine, [shape], scale)
    assert [one.backend for one in found if one.samples_s] == ["naive", "sdpa"]
    assert found[1].reason == "failed: RuntimeError: capture failed"


def test_backends_end_in_one_json_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = attention_backends.Scale(("naive", "sdpa"), (16,), ((1, 32),), ONCE)
    monkeypatch.setattr(attention_backends, "SCALES", {"cpu": small})
    monkeypatch.setattr(attention_backends, "lab_machine", lambda *_: (Machine(CPU, HostClock(), "bf16"), None))
    monkeypatch.setattr(sys, "argv", ["attention_backends", "--out", str(tmp_path / "a.json")])
    attention_backends.main()
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(answer["measured"]) == 8
    assert answer == json.loads((tmp_path / "a.json").read_text())
    assert dataclasses.fields(AttentionPoint)[0].name in answer["measured"][0]
