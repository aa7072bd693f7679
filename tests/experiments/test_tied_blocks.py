"""The experiment on tied blocks, on little work: what is compared with what."""

import json
from pathlib import Path

import pytest

from experiments import tied_blocks as lab
from llamalab.arch import LlamaArch
from llamalab.measure.timing.timer import Plan

ARCH = LlamaArch(48, 7, 6, 2, 80, 96)
RECORD = Path(lab.__file__).parent / "records" / "cpu-amd-epyc-2-threads" / "tied_blocks.json"


def test_all_variants_are_measured_in_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    block_bytes = lab.bytes_of_block(ARCH, lab.DTYPE)
    monkeypatch.setattr(lab, "cache_bytes", lambda device: int(0.03 * 2.5 * block_bytes))
    found = lab.measure(ARCH, dict.fromkeys(lab.CASES, Plan(0.0, 3, 3, 1, 0.0)))
    assert [(one["phase"], one["rounds"]) for one in found] == [("prefill", 3), ("decode", 3)]
    names = {"tied 2 of 7 blocks", "tied 3 of 7 blocks", lab.AGAIN}
    assert all(set(one["ratios"]) == names and one["untied_s"] > 0 for one in found)
    assert [one["blocks"] for one in lab.predict(ARCH)] == ["tied 2 of 7 blocks", "tied 3 of 7 blocks"]
    assert lab.predict(ARCH)[0]["least_ratio"] == pytest.approx(1 - 0.03 * 2.5 / 2, abs=1e-3)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.98, ", within 3%"), (0.96, ", NOT within 3%"), (1.04, "NOT within")])
def test_the_conclusion_looks_at_the_worst(ratio: float, verdict: str) -> None:
    ratios = {
        "tied 2 of 6 blocks": {"median": ratio},
        "tied 3 of 6 blocks": {"median": 1.0},
        lab.AGAIN: {"median": 1.1},
    }
    assert verdict in lab.conclude([{"phase": "decode", "ratios": ratios}])


def test_the_committed_record_is_within_the_limit() -> None:
    answer = json.loads(RECORD.read_text(encoding="utf-8"))
    assert answer["arch"] == lab.ARCH.as_dict()
    assert answer["conclusion"] == lab.conclude(answer["measured"])
    assert "NOT" not in answer["conclusion"]
