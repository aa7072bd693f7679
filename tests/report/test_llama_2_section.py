"""The section on what differs from Llama 2: its terms lead from one model to the other, on this machine's times."""

import csv
import io

import pytest

from llamalab.analytic.difference import cost_of, nearest_llama_2
from llamalab.analytic.params import parameter_count
from llamalab.analytic.workload import Workload
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import as_measured, predicted_workload, run_s
from llamalab.presets import PRESETS
from llamalab.report import csv_files, render
from llamalab.report.page import report_tables
from tests.report.sample import sample_record

FAMILIES = ("llama-3.1-8b", "mistral-7b-v0.1", "qwen2.5-0.5b", "qwen3-8b", "phi-3-mini-4k")
ANCHOR = 'id="llama-2"'


@pytest.mark.parametrize("model", FAMILIES)
def test_terms_lead_from_the_nearest_llama_2_to_the_model(model: str) -> None:
    record = sample_record(model)
    comparison = Comparison(record)
    rows = list(csv.DictReader(io.StringIO(csv_files(record)["llama2"])))
    first, *terms, last = rows
    near = PRESETS[nearest_llama_2(comparison.arch)]
    assert (first["term"], last["term"]) == (near.title, model)
    for key in ("parameters", "kv_bytes", "weight_bytes", "prefill_flops", "prefill_bytes", "decode_bytes"):
        assert int(first[key]) + sum(int(term[key]) for term in terms) == int(last[key]), key
    assert (int(first["parameters"]), int(last["parameters"])) == (
        parameter_count(near.arch), parameter_count(comparison.arch),
    )  # fmt: skip
    for key in ("prefill_s", "decode_s"):
        assert float(first[key]) + sum(float(term[key]) for term in terms) == pytest.approx(float(last[key]), rel=1e-9)
    work = predicted_workload(comparison)
    own_s = run_s(comparison.basis, comparison.arch, work._replace(generate=1), as_measured(comparison))
    assert float(last["prefill_s"]) == pytest.approx(own_s, rel=1e-9)
    exact = cost_of(comparison.arch, Workload(work.prompt, dtype=record.dtype))
    assert int(last["decode_flops"]) == exact.decode_flops


def test_the_page_says_what_differs_and_a_llama_2_has_no_such_section() -> None:
    html = render(sample_record("qwen3-8b"))
    assert ANCHOR in html
    assert "qwen3-8b is unlike any Llama 2 in vocab_size, rope_theta, qk_norm; Llama 2 7B is the nearest" in html
    assert "Of no cost: norm_eps, rope_theta, max_positions." in html
    for model in ("7b", "70b", "tinyllama-1.1b"):
        assert "llama2" not in report_tables(Comparison(sample_record(model)))


def test_without_roofs_the_terms_have_no_times() -> None:
    record = sample_record("qwen3-8b", roofs=[])
    rows = list(csv.DictReader(io.StringIO(csv_files(record)["llama2"])))
    assert {row["prefill_s"] for row in rows} == {""}
    assert "is the nearest" in render(record)
