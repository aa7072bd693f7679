import json
from pathlib import Path

import pytest
import torch

from experiments import kv_cache_onoff as lab
from llamalab.analytic.roofline import Rates
from llamalab.measure.timing.timer import Plan

RATES = dict.fromkeys(("gather", "gemm", "elementwise", "attention"), Rates(1e11, 1e10, 1e-6))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "POSITIONS", (5, 96))
    monkeypatch.setattr(lab, "PLAN", Plan(0.0, 1, 1, 1, 0.0))


@pytest.mark.usefixtures("small")
def test_what_is_predicted_is_what_is_counted() -> None:
    for said, seen in zip(lab.predict(RATES), lab.measure(), strict=True):
        assert (said.kind, said.position, said.flops) == (seen.kind, seen.position, seen.flops)
        # Bytes: the table leaves out what RoPE and the norm make on their way.
        assert said.bytes == pytest.approx(seen.bytes, rel=0.25 if said.kind == "none" else 0.01)


@pytest.mark.shared
def test_on_the_trained_checkpoint(shared_real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "GREEDY_TOKENS", 40)
    texts = lab.compare_texts(shared_real)
    assert texts["equal_to_none_static"] == texts["equal_to_none_dynamic"] == 40
    assert texts["scored_tokens"] == 256
    assert texts["perplexity_fp32"] == pytest.approx(1.5799, abs=1e-3)
    assert texts["perplexity_int8"] == pytest.approx(texts["perplexity_fp32"], rel=0.02)
    assert 0 < texts["logit_error_rms"] < 0.05 * texts["logit_rms"]
    assert (texts["bytes_per_token_fp32"], texts["bytes_per_token_int8"]) == (1280, 320 + 2 * 5 * 4 * 4)


@pytest.mark.shared
@pytest.mark.usefixtures("small", "shared_real")
def test_the_last_line_is_the_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lab, "GREEDY_TOKENS", 8)
    monkeypatch.setattr(lab, "roofs", lambda: RATES)
    monkeypatch.setattr("sys.argv", ["kv_cache_onoff"])
    lab.main()
    *words, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert len(result["predicted"]) == len(result["measured"]) == 8
    assert any(line.startswith("The greedy tokens are equal") for line in words)


def test_traffic_counts_what_moves_and_no_views() -> None:
    x, table = torch.ones(6, 4), torch.ones(100, 4)
    with lab.Traffic() as traffic:
        y = x.t()[1:]
        z = y + 1
        z.copy_(y)
        torch.nn.functional.embedding(torch.tensor([3, 5]), table)
    rows = 3 * 6 * 4
    assert traffic.bytes == 2 * rows + 2 * rows + 2 * (2 * 4 * 4)
