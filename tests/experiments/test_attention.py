"""The attention experiments' predictions and conclusions; their times are not looked at."""

import json
import sys

import pytest

from experiments import attention_arithmetic, flash_vs_naive, gqa_groups
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.measure.attention.lab import LabRow
from llamalab.records.record import AttentionPoint


def test_arithmetic_ends_in_one_json_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["attention_arithmetic"])
    attention_arithmetic.main()
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(row["bytes_moved"] == row["bytes_predicted"] for row in answer["measured"])
    decode = {(row["group"], row["tokens"]): row["flash"] for row in answer["predicted"] if row["phase"] == "decode"}
    # 2 FLOPs per element of K and V and query head that shares it, over 2 bytes of bf16.
    assert decode[1, 32768] == pytest.approx(1.0, rel=1e-4)
    assert decode[32, 32768] == pytest.approx(32.0, rel=2e-3)
    assert "no group size reaches a ridge" in answer["conclusion"]


def test_groups_fit_in_proportion_to_their_kv_heads() -> None:
    rows = gqa_groups.predict(context=1024, memory_bytes=2**28, dtype="bf16")
    assert [(row["kind"], row["largest_batch"]) for row in rows] == [
        ("MHA", 16), ("GQA-8", 32), ("GQA-4", 64), ("GQA-2", 128), ("MQA", 256),
    ]  # fmt: skip


def test_bytes_of_naive_outgrow_those_of_flash() -> None:
    ratios = [row["ratio"] for row in flash_vs_naive.predict(flash_vs_naive.shapes(8, 8192, "fp32"))]
    assert len(ratios) == 6
    assert ratios == sorted(ratios)


def test_conclusion_names_crossover_and_bars() -> None:
    rows = [row for tokens, ratio in ((256, 0.5), (512, 1.5), (1024, 3.0)) for row in _pair(tokens, ratio)]
    said = flash_vs_naive.conclude(rows)
    assert said.startswith("Flash is faster from 512 tokens on (predicted: 512). At 1024 tokens it takes 1/3.00")
    assert "worst error 10%; peak memory: worst error 0.0%. " in said


def _pair(tokens: int, ratio: float) -> list[LabRow]:
    shape = AttentionShape(1, tokens, tokens, 2, 2, 16, "fp32", "fp32")
    return [
        LabRow(
            shape,
            AttentionPoint(
                backend=name, algorithm=algorithm, batch=1, new_tokens=tokens, context_tokens=tokens, n_heads=2,
                n_kv_heads=2, head_dim=16, dtype="fp32", kernel="k", samples_s=[1.0], peak_bytes=100,
            ),
            1.0, 100, speed, speed * 1.1,
        )
        for name, algorithm, speed in (("naive", "naive", 1.0), ("sdpa", "flash", ratio))
    ]  # fmt: skip
