"""The page of a bench: curves over depth and batch, and what it says of rows that cannot be drawn."""

import json
from pathlib import Path
from typing import Any

import pytest

from llamalab.cli import main
from llamalab.errors import FormatError
from llamalab.measure.bench.rows import BenchRow, grid
from llamalab.report import OURS, render_bench
from llamalab.report.bench_page import bench_table, rows_of_bench
from llamalab.report.charts.bench import curves
from tests.report.test_report import HOSTILE, Page


def row(prompt: int, generate: int, depth: int, batch: int, **changes: Any) -> BenchRow:
    (case,) = grid([prompt] if prompt else [], [generate] if generate else [], depths=[depth], batches=[batch])
    fields: dict[str, Any] = {
        "model": "tiny", "size_bytes": 1, "parameters": 1, "backend": "cpu", "device": "CPU", "threads": 2,
        "dtype": "bf16", "attention": "sdpa", "kernel": None, "compiled": "none", "blocks_distinct": 6,
        "blocks_total": 6, "blocks": "6 blocks", "test": case.test, "prompt_tokens": prompt,
        "generated_tokens": generate, "depth_tokens": depth, "batch": batch, "basis": "measured",
        "passes_s": [[0.01 * (1 + depth / 512) * (1 + batch / 8)] * max(1, generate)] * 3,
        "predicted_tokens_per_s": 100.0 * batch,
    }  # fmt: skip
    return BenchRow(**(fields | changes))


def bench_json() -> str:
    """What llamalab bench -o json writes."""
    made = [row(p, g, depth, batch) for p, g in ((512, 0), (0, 8)) for depth in (0, 512, 1024) for batch in (1, 4)]
    made.append(row(512, 0, 4096, 1, passes_s=[], basis=None, reason="no memory", predicted_tokens_per_s=None))
    return json.dumps({"schema_version": 1, "rows": [one.to_dict() for one in made]})


@pytest.fixture(scope="module")
def written() -> str:
    return bench_json()


def test_every_row_is_on_a_curve_over_each_size_that_varies(written: str) -> None:
    rows = [one for one in rows_of_bench(written) if one["tokens_per_s"]]
    drawn = curves(rows)
    assert {(one.kind, one.axis) for one in drawn} == {
        (kind, axis) for kind in ("prompt", "generate") for axis in ("depth_tokens", "batch")
    }
    over_depth = [one for one in drawn if one.axis == "depth_tokens"]
    assert sum(len(one.rows) for one in over_depth) == len(rows)
    assert all(len({(r["prompt_tokens"], r["batch"]) for r in one.rows}) == 1 for one in over_depth)
    assert all([r["depth_tokens"] for r in one.rows] == [0, 512, 1024] for one in over_depth)


def test_the_page_has_every_test_and_says_what_was_not_measured(written: str) -> None:
    rows = rows_of_bench(written)
    page = Page(render_bench(rows))
    assert page.open == []
    assert sum(tag == "svg" for tag, _ in page.elements) == 4
    assert "pp512 @ d4096, batch 1: no memory" in page.text()
    assert len(bench_table(rows).rows) == len(rows) == 13
    assert "no two tests differ in depth or batch alone" in Page(render_bench(rows[:1])).text()


def test_hostile_rows_stay_text(written: str) -> None:
    rows = [one | {"model": HOSTILE, "device": HOSTILE, "test": HOSTILE} for one in rows_of_bench(written)]
    page = Page(render_bench(rows))
    assert sum(tag == "script" for tag, _ in page.elements) == 4
    assert "img" not in {tag for tag, _ in page.elements}


@pytest.mark.parametrize(("key", "value"), [("batch", "4"), ("tokens_per_s", "fast"), ("test", None), ("device", 3)])
def test_a_row_that_is_none_is_refused(written: str, key: str, value: Any) -> None:
    data = json.loads(written)
    data["rows"][2][key] = value
    with pytest.raises(FormatError, match=f"row 2 of the bench must be one that llamalab bench wrote; {key} is wrong"):
        rows_of_bench(json.dumps(data))


def test_the_command_draws_what_bench_wrote(written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, page = tmp_path / "bench.json", tmp_path / "bench.html"
    source.write_text(written)
    assert main(["report", "--from", str(source), "--out", str(page)]) == 0
    assert OURS in page.read_text()[:2_000]
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert main(["report", "--from", str(page), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == page.read_text()


def test_what_is_alike_but_for_its_numbers_is_told_once() -> None:
    made = [row(512, 0, depth, 1, disturbances=[f"load average {depth}.5 on 2 processors"]) for depth in (0, 512, 1024)]
    made.append(row(0, 8, 0, 1, disturbances=["the clock fell"]))
    page = Page(render_bench([one.to_dict() for one in made]))
    told = "pp512, batch 1: load average 0.5 on 2 processors; 2 others alike, with their own figures"
    assert told in page.text()
    assert "tg8, batch 1: the clock fell" in page.text()
    assert "load average 512.5" not in page.text()
