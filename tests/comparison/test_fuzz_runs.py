"""Thousands of damaged files of measured runs: each is scored row by row, or ends in one of our errors."""

import csv
import io
import json
import random
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from llamalab.cli import main
from llamalab.comparison.measured_runs import COLUMNS, read_rows
from llamalab.comparison.scoring import grouped, predict_row, summary
from llamalab.errors import LlamaLabError
from tests.checkpoints.test_fuzz import damaged

CASES, PRINTED = 2_000, 6
ROWS = [
    ("h100-80gb-sxm", 1, "vllm 0.8.5", "llama3-8b", "fp16", 16, 128, 128, "run_s", 1.5, "s", "a | b"),
    ("rtx4090-24gb", 2, "llama.cpp b3000", "7b", "q4_0", 1, 512, 1, "prefill_tok_s", 4000, "tok/s", "a, b"),
    ("threadripper-5975wx", 1, "llama.cpp b3441", "7b", "fp16", 1, 1, 128, "decode_ms", 250, "ms", ""),
]
ODD = [
    "", "0", "-1", "1.5", "1e9", "1e400", "nan", "inf", "9" * 400, "=1+2", "\x1b[2J", "\x00", "x" * 9999, "h100", "7B",
    "llama-2-70b", "int4", "awq int4 g128", "exl2 99bpw", "HF transformers", "tpot_ms", "peak_memory_gb", "١", "all",
    "this", "cpu", "rtx4090.json", "8 ", "TRUE",
]  # fmt: skip


def text_of(rows: list[list[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue()


def mutant(draw: random.Random) -> bytes:
    """Odd cells, a column that is gone or doubled, a row too long, or damaged text."""
    table = [[*COLUMNS, "unit", "source"], *([str(cell) for cell in row] for row in ROWS)]
    kind = draw.random()
    if kind < 0.2:
        return damaged(text_of(table).encode(), draw)
    if kind < 0.25:
        gone = draw.randrange(len(table[0]))
        return text_of([row[:gone] + row[gone + 1 :] for row in table]).encode()
    if kind < 0.3:
        table[0][draw.randrange(len(table[0]))] = draw.choice(COLUMNS)
    for _ in range(draw.randint(1, 3)):
        row = draw.choice(table[1:])
        row[draw.randrange(len(row))] = draw.choice(ODD)
    if draw.random() < 0.1:
        draw.choice(table).append("more")
    return text_of(table).encode("utf-8", "surrogatepass")


def test_measured_runs(tmp_path: Path) -> None:
    path, draw, accepted = tmp_path / "runs.csv", random.Random(7), 0
    for _ in range(CASES):
        path.write_bytes(mutant(draw))
        with suppress(LlamaLabError):
            scored = [predict_row(row) for row in read_rows(str(path))]
            assert all((one.predicted is None) == (one.reason is not None) for one in scored)
            json.dumps([summary(scored), *map(summary, grouped(scored).values())], allow_nan=False)
            accepted += 1
            if accepted <= PRINTED:
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    assert main(["score", str(path), "--format", "json"]) in (0, 2, 3)
    assert 0 < accepted < CASES
