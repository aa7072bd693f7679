"""Every kind of run against every other: differences add up and are explained, in every form, of two runs or three."""

import json
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest

from llamalab.cli import main
from llamalab.records.profile import profiles_to_json
from llamalab.records.record_json import record_to_json
from tests.cli.calls import Capture, loaded, printed
from tests.records.peers import files
from tests.report.sample import sample_record
from tests.report.sample_profile import sample_profile


def bench(seconds: float) -> str:
    """Two tests of a bench."""
    row = {
        "model": "7b", "depth_tokens": 0, "batch": 1, "basis": "measured", "device": "cpu", "threads": 2,
        "dtype": "bf16", "attention": "sdpa", "compiled": "none", "blocks": "32",
    }  # fmt: skip
    tests: tuple[dict[str, Any], ...] = (
        {"test": "pp512", "prompt_tokens": 512, "generated_tokens": 0},
        {"test": "tg8", "prompt_tokens": 0, "generated_tokens": 8},
    )
    passes = [[seconds * (1 + 0.01 * turn)] for turn in range(5)]
    return "".join(json.dumps(row | test | {"passes_s": passes}) + "\n" for test in tests)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Two runs of each kind, the second of another time."""
    folder = tmp_path_factory.mktemp("runs")
    records = [sample_record("7b", seed=seed) for seed in (7, 8)]
    texts: dict[str, tuple[str, str]] = {
        "record": (record_to_json(records[0]), record_to_json(records[1])),
        "profile": tuple(profiles_to_json([sample_profile(record)]) for record in records),  # type: ignore[dict-item]
        "bench": (bench(0.1), bench(0.2)),
        "trace": (files.trace_of_kernels(), files.trace_of_kernels().replace('"dur": 300.0', '"dur": 400.0')),
        "llama-bench": (files.llama_bench_json(), files.llama_bench_json()),
        "vLLM": (files.vllm_serve(), files.vllm_serve(mean_ttft_ms=40.0)),
        "GuideLLM": (files.guidellm(), files.guidellm()),
        "AIPerf": (files.aiperf(), files.aiperf()),
        "optimum": (files.optimum(), files.optimum()),
    }
    found = {"prediction": ("7b@h100-80gb-sxm", "7b@a100-80gb-sxm")}
    for kind, pair in texts.items():
        paths = [folder / f"{kind}-{place}.json" for place in (1, 2)]
        for path, text in zip(paths, pair, strict=True):
            path.write_text(text)
        found[kind] = (str(paths[0]), str(paths[1]))
    kept = folder / "prediction.json"
    assert main(["predict", "--model", "7b", "--hardware", "l4", "--format", "json", "--out", str(kept)]) == 0
    return found | {"kept prediction": (str(kept), str(kept))}


KINDS = (
    "record", "profile", "bench", "trace", "llama-bench", "vLLM", "GuideLLM", "AIPerf", "optimum", "prediction",
    "kept prediction",
)  # fmt: skip
OPERATIONS = {"record", "profile", "prediction", "kept prediction"}  # which tell the same operations by name


@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(KINDS, 2)))
def test_differences_add_up_and_are_explained(
    capsys: Capture, runs: dict[str, tuple[str, str]], one: str, other: str
) -> None:
    data = loaded(capsys, "compare", runs[one][0], runs[other][1], "--model", "7b", "--hardware", "h100")
    assert data["rows"]
    for comparison in data["comparisons"]:
        assert comparison["phases"] or comparison["unmatched"]
        for phase in comparison["phases"]:
            assert phase["delta_s"] == pytest.approx(phase["b_s"] - phase["a_s"])
            assert phase["verdict"]
            if phase["ops"]:
                assert sum(row["delta_s"] for row in phase["ops"]) == pytest.approx(phase["delta_s"], abs=1e-12)
                assert sum(row["share"] for row in phase["ops"]) == pytest.approx(1.0) or not phase["delta_s"]
                assert all(row["why"] for row in phase["ops"])
        if {one, other} <= OPERATIONS:
            assert all(phase["ops"] for phase in comparison["phases"])
            assert {phase["phase"] for phase in comparison["phases"]} == {"prefill", "decode"}


@pytest.mark.parametrize("kind", KINDS)
def test_three_of_a_kind_in_every_form(
    capsys: Capture, tmp_path: Path, runs: dict[str, tuple[str, str]], kind: str
) -> None:
    before, after = runs[kind]
    argv, page = ("compare", before, after, before, "--model", "7b", "--hardware", "h100"), tmp_path / "page.html"
    data = loaded(capsys, *argv)
    assert len(data["comparisons"]) == len(data["runs"]) - 1 >= 2
    text, markdown = printed(capsys, *argv), printed(capsys, *argv, "--format", "md")
    for comparison in data["comparisons"]:
        assert f"{comparison['letter']} against A: " in text
        assert f"{comparison['letter']} against A: " in markdown
    assert "| run | phase |" in markdown
    assert main([*argv, "--page", str(page)]) == 0
    assert all(run["name"].rpartition("/")[2] in page.read_text() for run in data["runs"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "prediction" not in kind])
def test_what_was_measured_has_our_prediction_beside(
    capsys: Capture, runs: dict[str, tuple[str, str]], kind: str
) -> None:
    rows = loaded(capsys, "compare", runs[kind][0], "--model", "7b", "--hardware", "h100")["rows"]
    assert rows
    for row in rows:
        assert row["predicted_from"]
        if row["predicted_s"] is not None:
            assert row["error"] == pytest.approx(row["predicted_s"] / row["time_s"] - 1)
    if kind != "trace":  # of whose calls the sample has no whole pass
        assert any(row["predicted_s"] for row in rows)
