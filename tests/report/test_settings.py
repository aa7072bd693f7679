"""The script's formulas against Python's, over random settings, and what the page gives it to compute with."""

import dataclasses
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import run_times
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates, moved_bytes
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import elsewhere, predicted_workload, run_s
from llamalab.hardware import WIDELY_USED, find_hardware
from llamalab.presets import PRESETS
from llamalab.records.record import Record
from llamalab.records.roof import Roof
from llamalab.report.layout import TEMPLATE_FOLDER
from llamalab.report.settings import page_settings, script_knows
from tests.report.conftest import Browser
from tests.report.sample import sample_record

SETTINGS = 500
RUN = """
const data = %s, asked = %s;
const answer = JSON.stringify(asked.map(([page, place, set]) => ({
  times: Model.times(data[page], data[page].places[place], set),
  memory: Model.memory(data[page], data[page].places[place], set),
  ops: Model.forwardOps(data[page], set, data[page].places[place].dtype, set.prompt, set.prompt).map(
    op => [op.rate, op.count, op.flops, op.bytes, op.moved]),
})));
"""


# Windows, biases and tied heads, norms of heads wider than dim, heads that are turned in part.
FAMILIES = ("mistral-7b-v0.1", "qwen2.5-0.5b", "qwen3-0.6b", "phi-4-mini")


def mixed(record: Record) -> Record:
    """Windows in some layers, and biases everywhere."""
    arch = record.llama_arch.replace(window=300, full_layers=(1, 2, 9), qkv_bias=True, o_bias=True, ffn_bias=True)
    return dataclasses.replace(record, arch=arch.as_dict())


def quantised(record: Record, storage: str, rows: int | None) -> Record:
    """Calibrated on kernels of quantised weights."""
    known = calibrated(record, "gemm_row", "gemm_few", "gemm_widened")
    return dataclasses.replace(known, weight_dtype=storage, kernel_rows=rows)


def calibrated(record: Record, *more: str) -> Record:
    noise = random.Random(5)
    rates = {
        name: Rates(10 ** noise.uniform(11, 13), 10 ** noise.uniform(9.5, 11), 1e-5 * noise.random(),
                    noise.uniform(0.3, 1), noise.uniform(0.3, 1), noise.uniform(1, 9))
        for name in sorted({*CLASSES, *more})
    }  # fmt: skip
    text = constants_to_json("cpu", record.dtype, "2026-01-02", rates, {"prefill_error": 0.04, "decode_error": 0.02})
    return dataclasses.replace(record, constants=json.loads(text))


@pytest.fixture(scope="module")
def comparisons(record: Record) -> list[Comparison]:
    """Roofs alone, calibrated, grouped heads, a model in a cache, an untrusted roof of attention; other families."""
    cache = Roof(kind="cache", dtype="bf16", per_second=2.1e11, capacity_bytes=2**27)
    tiny = sample_record("stories260k")
    untrusted = [dataclasses.replace(roof, trusted=roof.kind != "attention") for roof in record.roofs]
    return [
        Comparison(one) for one in (
            record, calibrated(record), sample_record("70b"), calibrated(sample_record("tiny")),
            dataclasses.replace(tiny, roofs=[*tiny.roofs, cache]), dataclasses.replace(record, roofs=untrusted),
            *map(sample_record, FAMILIES), mixed(record), quantised(record, "int8", 16),
            quantised(record, "int4", None), quantised(sample_record("qwen2.5-0.5b"), "q8_0", 4),
        )
    ]  # fmt: skip


def draw(noise: random.Random, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A place and a setting that a reader could choose."""
    place = noise.randrange(len(data["places"]))
    dtype, start = data["places"][place]["dtype"], data["dtype"]
    chosen = {key: noise.choice(values) for key, values in data["choices"].items()}
    for key in ("weight", "kv"):
        chosen[key] = dtype if chosen[key] == start else chosen[key]
    counts = {key: round(2 ** noise.uniform(0, most)) for key, most in (("prompt", 15), ("generate", 12), ("batch", 7))}
    return place, {**chosen, **counts, "fused": noise.random() < 0.5}


def expected(comparison: Comparison, place: int, set_: dict[str, Any], device: dict[str, Any]) -> dict[str, Any]:
    """What Python predicts for a setting."""
    arch: LlamaArch = comparison.arch.replace(n_kv_heads=set_["kv_heads"])
    dtype, run = device["dtype"], {"weight_dtype": set_["weight"], "kv_dtype": set_["kv"], "fused": set_["fused"],
                                   "attention": set_["attention"]}  # fmt: skip
    work = Workload(set_["prompt"], set_["generate"], set_["batch"], dtype=dtype, **run)
    if place == 0:
        own_weights = set_["weight"] == comparison.record.weight_dtype
        plain = PassShape(new_tokens=1, dtype=dtype, **run | {"weight_dtype": None} if own_weights else run)
        basis = comparison.basis
        total_s, prefill_s = (run_s(basis, arch, one, plain) for one in (work, work._replace(generate=1)))
        times = None if total_s is None else (prefill_s, total_s)
    else:
        spec = find_hardware(device["name"])
        constants = choose(spec, "shipped", dtype, set_["weight"])
        found = run_times(arch, work, constants.rates, constants.host)
        times = (found.prefill_s, found.total_s)
    ops = forward_ops(arch, PassShape(new_tokens=work.prompt, batch=work.batch, dtype=dtype, **run))
    table = [[op.rate_class, op.count, op.flops_causal, op.bytes, moved_bytes(op)] for op in ops]
    return {"times": times, "memory": memory_needed(arch, work)._asdict(), "ops": table}


def ran(code: str, browse: Browser, folder: Path) -> Any:
    """What the script's functions give, in node, or in a browser where there is none."""
    script = (TEMPLATE_FOLDER / "model.js").read_text(encoding="utf-8") + code
    if node := shutil.which("node"):
        done = subprocess.run([node, "-"], input=script + "\nconsole.log(answer);", capture_output=True, text=True,
                              timeout=120, check=True)  # fmt: skip
        return json.loads(done.stdout)
    page = folder / "model.html"
    page.write_text(
        f"<!doctype html><pre></pre><script>{script}\ndocument.querySelector('pre').textContent = answer;</script>"
    )
    return json.loads(browse(page, "--dump-dom").stdout.partition("<pre>")[2].partition("</pre>")[0])


def test_the_script_computes_what_python_computes(
    comparisons: list[Comparison], browse: Browser, tmp_path: Path
) -> None:
    noise = random.Random(11)
    data = [page_settings(one, elsewhere(one.arch, predicted_workload(one), names=WIDELY_USED)) for one in comparisons]
    asked = []
    for number in range(SETTINGS):
        page = number % len(data)
        place, chosen = draw(noise, data[page])
        chosen["fused"] &= not comparisons[page].record.weight_dtype  # its kernels have no fused products
        asked.append((page, place if number % 4 else 0, chosen))
        if not number % 4:  # this machine, in its own dtype
            own = data[page]["places"][0]["dtype"]
            chosen.update({key: own for key in ("weight", "kv") if chosen[key] not in data[page]["choices"][key]})
    given = ran(RUN % (json.dumps(data), json.dumps(asked)), browse, tmp_path)
    unknown = 0
    for answer, (page, place, chosen) in zip(given, asked, strict=True):
        wanted = expected(comparisons[page], place, chosen, data[page]["places"][place])
        where = (data[page]["places"][place]["name"], chosen)
        assert answer["memory"] == wanted["memory"], where
        assert answer["ops"] == wanted["ops"], where
        if wanted["times"] is None:
            unknown += 1
            assert answer["times"] is None, where
            continue
        seconds = answer["times"]["prefill_s"], answer["times"]["total_s"]
        assert seconds == pytest.approx(wanted["times"], rel=1e-9), where
        tokens = chosen["batch"] * chosen["generate"]
        assert answer["times"]["tokens_per_s"] == pytest.approx(tokens / wanted["times"][1], rel=1e-9)
    assert 0 < unknown < SETTINGS / 10


def test_settings_begin_with_the_measured_run(comparisons: list[Comparison]) -> None:
    for comparison in comparisons:
        data = page_settings(comparison, elsewhere(comparison.arch, predicted_workload(comparison), names=WIDELY_USED))
        start = data["start"]
        assert (start["prompt"], start["batch"], start["kv_heads"]) == (512, 1, comparison.arch.n_kv_heads)
        assert start["kv"] == comparison.record.dtype
        assert start["weight"] == (comparison.record.weight_dtype or comparison.record.dtype)
        assert data["places"][0]["name"] == "this machine"
        assert all(start[key] in data["choices"][key] for key in data["choices"])


def test_a_page_has_settings_only_where_the_script_knows_the_model() -> None:
    assert all(script_knows(PRESETS[name].arch) for name in FAMILIES)
    assert not any(script_knows(PRESETS[name].arch) for name in ("mixtral-8x7b", "gemma-2-2b", "gpt-oss-20b"))
