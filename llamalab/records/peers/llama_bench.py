"""llama.cpp's llama-bench: JSON, JSON lines, CSV, SQL or Markdown; a row a test.

Source: files that a llama-bench of 2026 wrote, and fields of struct test in llama.cpp's tools/llama-bench.
"""

import csv
import io
import re
from typing import Any

from llamalab.records.peers.llama_bench_markdown import is_markdown, rows_of_markdown
from llamalab.records.run import Run, RunPhase

TOOL = "llama-bench"
_NS = 1e-9
# llama.cpp's names of weight storage, by ours; k-quants of about 4 bits count as int4.
_DTYPES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "Q8_0": "int8", "Q4_0": "int4", "Q4_1": "int4"}


def recognises(data: Any) -> bool:
    """Whether it is a table of llama-bench."""
    if isinstance(data, str):
        head = data[:4000]
        if is_markdown(head):
            return True
        return ("model_n_params" in head and "n_gen" in head) and ("," in head)
    rows = data if isinstance(data, list) else [data]
    return bool(rows) and all(isinstance(row, dict) and {"n_prompt", "n_gen", "avg_ts"} <= row.keys() for row in rows)


def read(data: Any, name: str) -> list[Run]:
    """A run for every model and build in the table."""
    rows = _of_text(data) if isinstance(data, str) else data if isinstance(data, list) else [data]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(str(row.get(part, "")) for part in ("model_type", "model_filename", "build_commit", "n_gpu_layers"))
        groups.setdefault(key, []).append(row)
    several = len(groups) > 1
    return [_run(group, f"{name}: {group[0]['model_type']}" if several else name) for group in groups.values()]


def _run(rows: list[dict[str, Any]], name: str) -> Run:
    first = rows[0]
    # In a build for several backends, gpu_info is empty where none of them ran.
    device = first.get("gpu_info") or first.get("cpu_info") or None
    settings: dict[str, Any] = {
        key: first[key]
        for key in ("build_commit", "backends", "n_threads", "n_gpu_layers", "flash_attn", "type_k", "n_ubatch")
        if key in first
    }
    stored = re.search(r"\b(I?Q\d\w*|B?F16|F32)\b", str(first["model_type"]))
    return Run(
        name,
        TOOL,
        tuple(_phase(row) for row in rows),
        settings,
        model=_model(first),
        device=device,
        dtype=_dtype(stored[1]) if stored else None,
    )


def _dtype(stored: str) -> str | None:
    if stored.startswith(("Q4_K", "IQ4")):
        return "int4"
    return _DTYPES.get(stored)


def _model(row: dict[str, Any]) -> str:
    """The type, such as `llama 7B Q4_0`, with the count of parameters, which separates models of one type."""
    if not row["model_n_params"]:
        return str(row["model_type"])
    return f"{row['model_type']} ({int(row['model_n_params'])})"


def _phase(row: dict[str, Any]) -> RunPhase:
    prompt, made, depth = int(row["n_prompt"]), int(row["n_gen"]), int(row.get("n_depth") or 0)
    samples = [float(one) * _NS for one in row.get("samples_ns") or ()]
    total_s = float(row["avg_ns"]) * _NS
    parts = [f"{kind}{size}" for kind, size in (("pp", prompt), ("tg", made)) if size]
    test = "+".join(parts) + (f" @ d{depth}" if depth else "")
    if made and not prompt:
        return RunPhase(
            name=test,
            kind="decode",
            total_s=total_s / made,
            samples_s=tuple(one / made for one in samples),
            batch=1,
            new_tokens=1,
            context_tokens=depth + made,
        )
    kind = "prefill" if not made else "other"
    return RunPhase(
        name=test,
        kind=kind,
        total_s=total_s,
        samples_s=tuple(samples),
        batch=1,
        new_tokens=prompt + made,
        context_tokens=depth + prompt + made,
    )


def _of_text(text: str) -> list[dict[str, Any]]:
    return rows_of_markdown(text) if is_markdown(text) else _rows_of_text(text)


def _rows_of_text(text: str) -> list[dict[str, Any]]:
    if "INSERT INTO" in text.upper():
        return _rows_of_sql(text)
    rows = list(csv.DictReader(io.StringIO(text)))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has another number of cells than the first line")
    return [dict(row) for row in rows]


def _rows_of_sql(text: str) -> list[dict[str, Any]]:
    """The rows of its INSERT statements, whose values are quoted and have commas only inside of quotes."""
    rows = []
    for names, values in re.findall(
        r"INSERT INTO \w+ \(([^)]*)\)\s*VALUES\s*\((.*?)\);", text, re.DOTALL | re.IGNORECASE
    ):
        keys = [key.strip() for key in names.split(",")]
        cells = next(csv.reader([values.strip()], quotechar="'", skipinitialspace=True))
        if len(keys) != len(cells):
            raise ValueError(f"an INSERT has {len(keys)} names and {len(cells)} values")
        rows.append(dict(zip(keys, cells, strict=True)))
    return rows
