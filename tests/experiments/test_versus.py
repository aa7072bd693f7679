"""The race: every contestant runs and is counted the same way; the words follow from the numbers."""

import json
from pathlib import Path

import pytest
import torch

from experiments import versus as lab
from experiments.common import contestants
from experiments.common.race import ratio
from llamalab.arch import LlamaArch
from llamalab.choices import PHASES

RECORDS = sorted((Path(lab.__file__).parent / "records").glob("*/versus.json"))
ARCH = LlamaArch(64, 2, 4, 4, 96, 512)


def test_what_must_move_is_counted() -> None:
    counted = lab.predict(ARCH, "bf16")
    matrices = 2 * (4 * 64 * 64 + 3 * 64 * 96) + 512 * 64
    assert counted["prefill_flops"] >= 2 * (matrices - 512 * 64) * lab.PROMPT
    cache = 2 * 2 * 2 * 64 * lab.PROMPT
    assert counted["decode_read_bytes bf16"] >= 2 * matrices + cache
    assert counted["decode_read_bytes bf16"] - counted["decode_read_bytes int8"] == pytest.approx(matrices, rel=0.04)
    assert counted["decode_read_bytes int4"] < counted["decode_read_bytes q4_0"] < counted["decode_read_bytes q8_0"]


def run_all(turns: contestants.Turns) -> None:
    for _ in range(2):  # the second time on caches that hold a text already
        for name in sorted(turns, key=lambda name: name.startswith("decode")):
            turns[name].before()
            turns[name].work()


@pytest.mark.reference
@pytest.mark.slow
def test_their_variants_run_with_either_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)  # what is tested is the way round, not inductor
    monkeypatch.setattr(contestants, "PROMPT", 7)
    with torch.inference_mode():
        assert len(contestants.theirs(ARCH, "fp32", tmp_path)) == 8
        turns = contestants.theirs(ARCH, "fp32", tmp_path, compiled=True)
        assert len(turns) == 16
        run_all(turns)


def test_ours_run_in_every_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contestants, "PROMPT", 7)
    monkeypatch.setattr(contestants, "READ_BYTES", 1 << 12)
    monkeypatch.setattr(contestants, "kernel_rows_here", lambda *_: 4)
    names = []
    with torch.inference_mode():
        for entry in contestants.entries("fp32", ["llamalab"]):
            turns = entry.turns(ARCH, "fp32", tmp_path)
            assert {"prefill, ready", "decode, ready"} <= turns.keys()
            names.append(entry.name)
            run_all(turns)
    assert names == ["llamalab fp32", "llamalab int8", "llamalab int4", "llamalab q8_0", "llamalab q4_0"]


@pytest.mark.reference
@pytest.mark.slow
def test_llama_cpp_tells_the_times_of_its_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(contestants, "PROMPT", 7)
    turns = contestants.llama_cpp(ARCH, "bf16", tmp_path, kind="q4_0")
    assert all(turn.work() > 0 for turn in turns.values())  # type: ignore[operator]


def samples(times_s: dict[str, float], read_s: float) -> dict[str, dict[str, list[float]]]:
    slower = (("a", 1.5), ("b", 1.0))
    found = {
        side: {f"{phase}, {name}": [seconds * share] * 3 for phase in PHASES for name, share in slower}
        for side, seconds in times_s.items()
    }
    found["llamalab bf16"][contestants.READ] = [read_s] * 3
    return found


def counted(storage_bytes: dict[str, float]) -> dict[str, float]:
    return {f"decode_read_bytes {storage}": size for storage, size in storage_bytes.items()}


def test_the_best_variant_of_a_contestant_counts() -> None:
    runs = samples({"llamalab bf16": 1.0, "transformers": 1.3}, 0.5)
    found = lab.summary(runs, counted({"bf16": float(lab.READ_BYTES)}), "bf16")
    assert found["variants"]["transformers"]["decode"] == "decode, b"
    assert [one["middle"] for one in found["ratios"]] == [pytest.approx(1.3)] * 2
    assert found["of_best_read"] == {"bf16": pytest.approx(0.5)}


def test_ways_far_from_the_best_of_their_contestant_are_not_raced() -> None:
    slow, quick = "decode, eager attention, dynamic cache", "decode, sdpa attention, compiled, static cache"
    warm = {("llamalab bf16", "prefill, ready"): 9.0, ("llamalab bf16", lab.READ): 99.0, ("transformers", slow): 3.0,
            ("transformers", quick): 1.0, ("transformers", quick.replace("sdpa", "eager")): 1.6}  # fmt: skip
    assert lab.near_the_best(warm) == list(warm)[:4]


def test_no_yardstick_leaves_a_way_out_however_fast_it_is() -> None:
    warm = {("llamalab bf16", "decode, ready"): 90.0, ("llamalab bf16", lab.PRODUCTS): 9.0}
    assert lab.near_the_best(warm) == list(warm)


def test_compiled_transformers_is_a_contestant_of_its_own_and_products_alone_are_the_ceiling() -> None:
    runs = samples({"llamalab bf16": 1.0, "transformers": 1.3}, 0.5)
    theirs = {f"{phase}, sdpa attention, compiled, static cache": [1.1] * 3 for phase in PHASES}
    runs["transformers"] |= theirs
    runs["llamalab bf16"][contestants.PRODUCTS] = [0.9] * 3
    found = lab.summary(runs, counted({"bf16": 1.0}), "bf16")
    rivals = {(one["phase"], one["rival"]): one["middle"] for one in found["ratios"]}
    assert rivals == {
        (phase, rival): pytest.approx(share)
        for phase in PHASES
        for rival, share in (("transformers", 1.3), ("transformers compiled", 1.1))
    }
    assert found["ceilings"]["transformers compiled"]["middle"] == pytest.approx(1.1 / 0.9)
    assert "The GEMM ceiling: a prompt's products alone are 1.22" in lab.conclude(found)


@pytest.mark.parametrize("int8_s", [0.5, 0.6, 1.0])
def test_the_conclusion_says_where_no_difference_is_seen(int8_s: float) -> None:
    runs = samples({"llamalab bf16": 1.0, "llamalab int8": int8_s}, 0.5)
    found = lab.summary(runs, counted({"bf16": 1.0, "int8": 1.0}), "bf16")
    assert ("times llamalab bf16, no difference seen." in lab.conclude(found)) == (int8_s == 1.0)
    (bar,) = (one["bar"] for one in found["ratios"] if one["ours"] == "llamalab int8")
    assert bar == 1.8


def test_the_interval_of_a_ratio_holds_its_median_and_shrinks_with_agreement() -> None:
    loose, firm = ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5), ratio([2.9, 3.0, 3.1], [1.0] * 3)
    assert loose.low < loose.middle == 3.0 < loose.high
    assert firm.high - firm.low < loose.high - loose.low


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_committed_record_says_what_its_samples_say(path: Path) -> None:
    answer = json.loads(path.read_text(encoding="utf-8"))
    found = lab.summary(answer["samples_s_per_token"], answer["predicted"], answer["dtype"])
    assert found == answer["found"]
    assert answer["conclusion"] == lab.conclude(found)
