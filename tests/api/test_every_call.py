"""What each call of `import llamalab` gives back: attributes, a frame, a drawing, HTML for a notebook, a repr."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import llamalab
from llamalab.measure.bench.run import measure_bench
from llamalab.records.record_json import record_from_json
from llamalab.text import PieceTokenizer
from llamalab.text.tokenizer import Kind
from tests.text.samples import byte_level_folder

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example-7b-cpu.json"
MODEL = "stories260k"
# One figure of each, by the name that its attribute has.
CALLS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "kv": (lambda folder: llamalab.kv(MODEL, context=64), "kv_bytes"),
    "params": (lambda folder: llamalab.params(MODEL), "parameters"),
    "flops": (lambda folder: llamalab.flops(MODEL, prompt=8), "flops_causal"),
    "fit": (lambda folder: llamalab.fit(MODEL, memory="1GiB", context=64), "total_bytes"),
    "predict": (lambda folder: llamalab.predict(MODEL, "l4", prompt=8, generate=4), "total_s"),
    "roofline": (lambda folder: llamalab.roofline(MODEL, "l4", prompt=8), "ops"),
    "measure": (lambda folder: llamalab.measure("7b"), "decode_s"),
    "bench": (lambda folder: llamalab.bench(MODEL, prompt=[4, 6], generate=0, repetitions=2, device="cpu"), "rows"),
    "profile": (lambda folder: llamalab.profile(MODEL, prompt=8, phase="decode", device="cpu"), "phases"),
    "report": (lambda folder: llamalab.report(record=EXAMPLE, out=folder / "page.html"), "path"),
    "compare": (lambda folder: llamalab.compare("7b@l4", "7b@h200"), "comparisons"),
    "generate": (
        lambda folder: llamalab.generate(llamalab.build(MODEL), "a", generate=3, tokenizer=letters(), temperature=0),
        "generated_tokens",
    ),
    "load": (lambda folder: llamalab.load(checkpoint(folder)), "arch"),
    "load_tokenizer": (lambda folder: llamalab.load_tokenizer(tokenizer(folder)), "vocab_size"),
}
OBJECTS = ("load", "load_tokenizer")  # which give a model and a tokenizer, to be used and not to be read


def letters() -> PieceTokenizer:
    """As many pieces as the model has, of which most are never used."""
    pieces = ["<unk>", "<s>", "</s>", "a", "b", *(f"piece{index}" for index in range(5, 512))]
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.NORMAL] * 509]
    return PieceTokenizer(pieces, [0.0] * 512, kinds, bos_id=1, eos_id=2)


def tokenizer(folder: Path) -> Path:
    byte_level_folder(folder / "tokenizer")
    return folder / "tokenizer"


def checkpoint(folder: Path) -> Path:
    from llamalab.checkpoints import write_llama2c

    write_llama2c(folder / "model.bin", llamalab.build(MODEL, dtype="fp32"))
    return folder / "model.bin"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of this test are the record of the example, or not repeated."""
    record = replace(record_from_json(EXAMPLE.read_text()), constants=None)
    monkeypatch.setattr("llamalab.measure.report.run.measure_report", lambda *_, **__: record)
    monkeypatch.setattr("llamalab.measure.bench.run.measure_bench", partial(measure_bench, repeat_s=0.0))


def test_every_call_is_tried_here() -> None:
    assert {*CALLS, "PRESETS", "HARDWARE"} == set(llamalab.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_something_to_read_draw_and_compute_with(name: str, tmp_path: Path) -> None:
    call, figure = CALLS[name]
    result = call(tmp_path)
    assert getattr(result, figure)
    assert figure in dir(result)
    assert "object at 0x" not in repr(result)
    assert "\n" not in repr(result).splitlines()[0]
    if name in OBJECTS:
        return
    frame = result.to_frame()
    assert len(frame) >= 1
    assert result.plot(Figure().subplots()).has_data()
    html = result._repr_html_()
    assert html.count("<table>") == html.count("</table>") >= 1
    assert html.count("<tr>") > 1


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: llamalab.kv(MODEL, context=[64, 128], batch="1-4*2"), 6),
        (lambda: llamalab.params([MODEL, "7b"]), 2),
        (lambda: llamalab.flops(MODEL, prompt=(8, 16), batch=range(1, 3)), 4),
        (lambda: llamalab.fit(MODEL, memory="1GiB", context=[64, 128]), 2),
        (lambda: llamalab.predict([MODEL, "7b"], ["l4", "h200"], prompt="8-16*2", generate=4), 8),
        (lambda: llamalab.roofline(MODEL, ["l4", "h200"], prompt=8), 2),
    ],
)
def test_lists_and_ranges_make_a_row_for_each_combination(make: Callable[[], Any], rows: int) -> None:
    result = make()
    assert len(result.rows) == len(result.to_frame()) == rows
    assert result.plot(Figure().subplots()).has_data()
    assert len(repr(result).splitlines()) >= rows
