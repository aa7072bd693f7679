"""Calls that run something: they measure this machine, and make text."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import llamalab
from llamalab.errors import InputError
from llamalab.measure.bench.run import measure_bench
from llamalab.records.record_json import record_from_json

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example-7b-cpu.json"


def test_a_bench_has_rows_times_and_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    # A disturbed machine repeats for ten seconds, which shows nothing more here.
    monkeypatch.setattr("llamalab.measure.bench.run.measure_bench", partial(measure_bench, repeat_s=0.0))
    result = llamalab.bench("stories260k", prompt=6, generate=0, repetitions=2, device="cpu")
    (row,) = result.rows
    assert row["test"] == "pp6"
    assert len(row["passes_s"]) >= 2
    assert result.to_frame().tokens_per_s[0] == row["tokens_per_s"]
    axes = Figure().subplots()
    assert result.plot(axes).has_data()


def test_a_report_is_made_of_a_record(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    record = replace(record_from_json(EXAMPLE.read_text()), constants=None)
    result = llamalab.report(record=record, out=page)
    assert page.read_text().startswith("<!")
    assert result.path == str(page)
    assert result.decode_s == record.phase("decode").total_s
    assert result.passes == record.passes
    assert {row["phase"] for row in result.ops} == {"prefill", "decode"}
    assert result.to_frame().shape[0] == len(result.ops)
    assert result.plot(Figure().subplots()).has_data()


def test_a_profile_by_name() -> None:
    options = {"prompt": 8, "device": "cpu", "phase": "decode"}
    result = llamalab.profile("stories260k", **options)
    assert [phase.phase for phase in result.phases] == ["decode"]
    assert result.to_frame().shape[0] == len(result.phases[0].ops)
    assert dir(result)


@pytest.mark.shared
def test_text_and_what_it_cost(shared_real: Path) -> None:
    result = llamalab.generate(
        shared_real / "stories260K.bin", "Lily has", generate=12, tokenizer=shared_real / "tok512.bin", temperature=0
    )
    assert result.text.strip()
    assert result.generated_tokens <= 12
    # 2 (K, V) x 5 layers x 4 KV heads x 8 each, in fp32
    assert result.kv_bytes == (result.prompt_tokens + result.generated_tokens) * 2 * 5 * 4 * 8 * 4
    assert result.ttft_s <= result.total_s
    model, tokenizer = (
        llamalab.load(shared_real / "stories260K.bin"),
        llamalab.load_tokenizer(shared_real / "tok512.bin"),
    )
    assert llamalab.generate(model, "Lily has", generate=12, tokenizer=tokenizer, temperature=0).text == result.text
    with pytest.raises(InputError, match="text must be a text; got 5"):
        llamalab.generate(model, 5, tokenizer=tokenizer)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must come with its tokenizer"):
        llamalab.generate(model, "Lily has")
