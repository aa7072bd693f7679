"""The race against transformers: every variant runs and is counted the same way; the words follow from the numbers."""

import json
from pathlib import Path

import pytest
import torch

from experiments import versus_transformers as lab
from experiments.common import contestants
from llamalab.arch import LlamaArch

RECORD = Path(lab.__file__).parent / "records" / "cpu-amd-epyc-2-threads" / "versus_transformers.json"
ARCH = LlamaArch(48, 2, 6, 6, 80, 96)


def test_what_must_move_is_counted() -> None:
    counted = lab.predict(ARCH, "bf16")
    block = 4 * 48 * 48 + 3 * 48 * 80
    assert counted["prefill_flops"] >= 2 * 2 * block * lab.PROMPT
    assert counted["decode_read_bytes"] >= 2 * (2 * block + 96 * 48)


@pytest.mark.reference
@pytest.mark.slow
def test_their_variants_run_with_either_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)  # what is tested is the way round, not inductor
    monkeypatch.setattr(contestants, "PROMPT", 7)
    with torch.inference_mode():
        turns = contestants.theirs(ARCH, "fp32")
        assert len(turns) == 16
        for _ in range(2):  # the second time on caches that hold a text already
            for name in sorted(turns, key=lambda name: name.startswith("decode")):
                turns[name].before()
                turns[name].work()


def samples(ours_s: float, theirs_s: float, read_s: float) -> dict[str, dict[str, list[float]]]:
    ours = {f"{phase}, {what}": [ours_s * share] * 3 for phase in lab.BARS for what, share in (
        (lab.OURS, 1.0), ("its products alone", 0.9))}  # fmt: skip
    ours["decode, sum of 2 GiB"] = [read_s] * 3
    theirs = {f"{phase}, {name}": [theirs_s * slower] * 3 for phase in lab.BARS for name, slower in (
        ("sdpa attention", 1.5), ("eager attention", 1.0))}  # fmt: skip
    return {"llamalab": ours, "transformers": theirs}


def test_the_best_rival_counts() -> None:
    found = lab.summary(samples(1.0, 1.3, 0.5), {"prefill_flops": 1.0, "decode_read_bytes": float(lab.READ_BYTES)})
    assert found["decode"]["rival"] == "decode, eager attention"
    assert found["decode"]["ratio"] == pytest.approx(1.3)
    assert found["prefill"]["of_its_products"] == pytest.approx(0.9)
    assert found["decode"]["of_best_read"] == pytest.approx(0.5)


@pytest.mark.parametrize(("theirs_s", "verdict"), [(1.19, "misses 1.2"), (1.21, "meets 1.2")])
def test_the_conclusion_says_which_bars_are_met(theirs_s: float, verdict: str) -> None:
    counted = {"prefill_flops": 1.0, "decode_read_bytes": 1.0}
    assert verdict in lab.conclude(lab.summary(samples(1.0, theirs_s, 0.5), counted))


def test_the_committed_record_says_what_its_samples_say() -> None:
    answer = json.loads(RECORD.read_text(encoding="utf-8"))
    found = lab.summary(answer["samples_s_per_token"], answer["predicted"])
    assert found == answer["found"]
    assert answer["conclusion"] == lab.conclude(found)
