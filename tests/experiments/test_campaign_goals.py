"""Goals of a campaign on a GPU: read from what it left, and told beside what was asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.common.campaign_goals import GOALS, reached

DECODE, PREFILL, OURS_PREFILL, OURS_DECODE = GOALS


def attention(backend: str, new: int, context: int, *samples_s: float, reason: str | None = None) -> dict[str, Any]:
    return {
        "backend": backend, "batch": 1, "new_tokens": new, "context_tokens": context, "n_heads": 32, "n_kv_heads": 32,
        "samples_s": list(samples_s), "reason": reason,
    }  # fmt: skip


def series(model: str, batch: int, of_copy: float, name: str = "loop") -> dict[str, Any]:
    return {"model": model, "batch": batch, "series": name, "context": 512, "of_copy": of_copy}


def bench(test: str, batch: int, fraction: float | None, reason: str | None = None) -> dict[str, Any]:
    return {"test": test, "batch": batch, "gemm_fraction": fraction, "reason": reason}


SAID = {
    "decode_series.json": {
        "measured": [series("7b", 1, 0.7), series("7b", 1, 0.9, "fused"), series("7b", 4, 0.99),
                     series("70b", 1, 0.95), {"model": "7b", "batch": 1, "series": "loop", "reason": "failed"}],
    },
    "bench-7b.json": {"rows": [bench("pp512", 1, 0.9), bench("pp2048", 16, 0.9), bench("pp2048", 1, 0.74)]},
    "attention_backends.json": {
        "measured": [attention("flash", 2048, 2048, 3.0, 2.0, 4.0), attention("cudnn", 2048, 2048, 1.5),
                     attention("triton", 2048, 2048, 2.0), attention("sdpa", 2048, 2048, 0.1),
                     attention("naive", 2048, 2048, 0.1), attention("triton", 1024, 1024, 1.0),
                     attention("flash", 1024, 1024, 1.0), attention("flash", 1, 4096, 1.0),
                     attention("cudnn", 1, 4096, reason="a plan a length"), attention("triton", 1, 4096, 0.8)],
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, answer in SAID.items():
        (tmp_path / name).write_text(json.dumps(answer))
    return tmp_path


def test_goals_are_held_against_what_was_measured(folder: Path) -> None:
    found = {one.goal: one for one in reached(folder)}
    assert {goal: (one.share, one.verdict) for goal, one in found.items()} == {
        DECODE: (0.9, "reached"),
        PREFILL: (0.74, "missed"),
        OURS_PREFILL: (0.75, "reached"),  # at the worst shape, of the fastest kernel of PyTorch
        OURS_DECODE: (1.25, "reached"),
    }
    assert found[DECODE].line == (
        "goal reached: decode of 7b at batch 1, of the bandwidth of a copy: 90.0% measured, 88% asked "
        "(fused at 512 tokens, of a copy's bytes per second)"
    )
    assert found[OURS_PREFILL].about == "least of 2 shapes, at 32/32 heads, batch 1, 2048 of 2048 tokens"


def test_what_was_not_measured_has_its_reason(folder: Path) -> None:
    (folder / "decode_series.json").unlink()
    (folder / "bench-7b.json").write_text(json.dumps({"rows": [bench("pp2048", 1, None, "one pass does not fit")]}))
    without = [attention("flash", 2048, 2048, 1.0), attention("triton", 2048, 2048, reason="needs an NVIDIA GPU")]
    (folder / "attention_backends.json").write_text(json.dumps({"measured": without}))
    found = reached(folder)
    assert [one.verdict for one in found] == ["not measured"] * 4
    assert [one.about for one in found] == [
        "decode_series.json was not made", "one pass does not fit", *["needs an NVIDIA GPU"] * 2
    ]  # fmt: skip
    (folder / "bench-7b.json").write_text(json.dumps({"rows": [bench("pp512", 1, 0.5)]}))
    (folder / "decode_series.json").write_text(json.dumps({"measured": [series("13b", 1, 0.9)]}))
    (folder / "attention_backends.json").write_text(json.dumps({"measured": without[:1]}))
    assert [one.about for one in reached(folder)] == [
        "7b at batch 1 was not run", "pp2048 was not run", *["triton was not run beside a kernel of PyTorch"] * 2
    ]  # fmt: skip
    assert reached(folder)[0].line.startswith("goal not measured: decode of 7b at batch 1")
