"""Thousands of damaged files that somebody else wrote: each is usable or ends in one of our errors."""

import json
import random
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from llamalab.analytic.calibration_files import constants_to_json, read_constants
from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import forecast
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.analytic.workload import Workload
from llamalab.arch.files import read_arch
from llamalab.cli import main
from llamalab.cli.devices import chosen_devices
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import verdict
from llamalab.errors import LlamaLabError
from llamalab.hardware import find_hardware
from llamalab.presets import PRESETS
from llamalab.records.profile import profiles_from_json, profiles_to_json
from llamalab.records.record import Record
from llamalab.records.record_json import EMBEDDED, record_from_json, record_to_json, shown_text
from llamalab.report import csv_files, embedded, profile_csv_files
from llamalab.report.profile_captions import largest_parts
from tests.checkpoints.test_fuzz import damaged
from tests.report.sample import sample_record
from tests.report.sample_profile import sample_profile

CASES = 2_000
PRINTED = 6  # of the accepted ones, in every form that costs more
TINY = PRESETS["tiny"].arch
META = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "multiple_of": 32, "norm_eps": 1e-5, "vocab_size": 99,
        "ffn_dim_multiplier": 1.3, "rope_theta": 10_000.0}  # fmt: skip
HF = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 99,
      "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "head_dim": 16, "rope_scaling": None,
      "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "tie_word_embeddings": True,
      "hidden_act": "silu", "attention_bias": False, "max_position_embeddings": 128}  # fmt: skip
# Keys of several families at once: experts, windows by layer, a stretched RoPE.
FAMILY = {"model_type": "qwen2_moe", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
          "vocab_size": 99, "num_hidden_layers": 2, "num_key_value_heads": 2, "num_experts": 4,
          "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
          "decoder_sparse_step": 1, "mlp_only_layers": [1], "first_k_dense_replace": 0, "n_shared_experts": 1,
          "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None,
          "max_position_embeddings": 128, "original_max_position_embeddings": 64, "attn_logit_softcapping": 50.0,
          "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "mscale": 1.0,
                              "mscale_all_dim": 0.7}}  # fmt: skip
RATES = dict.fromkeys(CLASSES, Rates(1e12, 1e11, 1e-6, 0.5, 0.5, 2.0))
CHECKED = {"prefill_error": 0.1, "decode_error": 0.1, "points": []}
CONSTANTS = constants_to_json("box", "bf16", "2026-01-02", RATES, CHECKED)

# Spelled, as JSON cannot hold what some of them spell.
ODD = [
    "null", "true", "false", "0", "1", "-1", "3", "-0.0", "1e-320", "1e-30", "1e29", "1e300", "1e308", "1e309",
    "-1e400", "NaN", "Infinity", "-Infinity", "9" * 30, "9" * 300, "9" * 400, "9" * 5000, "1.5", "2.0",
    '""', '"8"', '"bf16"',
    '"\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"=1+2"', '"</script><b>"', '"' + "x" * 999 + '"', "[]", "{}", "[8]",
    "[[]]", '{"a": 1}', '{"a": 1, "a": 2}', "[" * 99 + "]" * 99, "[" * 9999 + "]" * 9999, '{"rope_type": "yarn"}',
    "[null]", '["x"]', "[-1.0]",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


def mutant(text: str, draw: random.Random, known: list[tuple[Any, ...]]) -> bytes:
    """An odd value in one or two places, a key that is gone, doubled or new, or damaged text."""
    if draw.random() < 0.2:
        return damaged(text.encode(), draw)
    data, odd = json.loads(text), draw.choice(ODD)
    for _ in range(draw.randint(1, 2)):
        *path, key = draw.choice(known[1:])
        holder = data
        with suppress(KeyError, IndexError, TypeError):
            for step in path:
                holder = holder[step]
            if draw.random() < 0.15:
                del holder[key]
            elif draw.random() < 0.1 and isinstance(holder, dict):
                holder[draw.choice(["x", "measured", "kind", "note", "fused", key + key])] = "@odd@"
            else:
                holder[key] = "@odd@"
    return json.dumps(data).replace('"@odd@"', odd).encode("utf-8", "surrogatepass")


def fuzz(path: Path, text: str, use: Callable[[], object], seed: int, cases: int = CASES) -> int:
    """How many of the mutants are accepted; `use` reads the file and computes with what it holds."""
    draw, known, accepted = random.Random(seed), places(json.loads(text)), 0
    path.write_text(text)
    use()
    for _ in range(cases):
        path.write_bytes(mutant(text, draw, known))
        with suppress(LlamaLabError):
            use()
            accepted += 1
    assert 0 < accepted < cases
    return accepted


def printed(*argv: str) -> None:
    """Every answer can be printed: the command ends with 0, 2 or 3 and nothing is raised."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        assert main(argv) in (0, 2, 3)


@pytest.mark.parametrize("data", [META, HF, FAMILY], ids=["params", "config", "family"])
def test_models(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "model.json"

    def use() -> None:
        arch = read_arch(str(path))
        assert kv_bytes(arch, seq=9) > 0
        assert weight_bytes(arch) > 0
        json.dumps([add_up(forward_ops(arch, PassShape(new_tokens=3))).intensity, *arch], allow_nan=False)

    fuzz(path, json.dumps(data), use, seed=1)


def test_constants(tmp_path: Path) -> None:
    path, spec = tmp_path / "constants.json", find_hardware("h200")

    def use() -> None:
        found = forecast(TINY, Workload(5, 3), spec, read_constants(path, "bf16"))
        json.dumps([found.times, found.bound, found.interval, found.basis], allow_nan=False)

    fuzz(path, CONSTANTS, use, seed=2)


@pytest.mark.parametrize("name", ["h200", "l4", None])
def test_hardware(tmp_path: Path, name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "device.json"
    if name is None:
        text = json.dumps({"name": "mine", "peak_flops_per_s": {"bf16": 1e14, "fp16": None},
                           "bandwidth_bytes_per_s": 1e12, "memory_bytes": 8 * 10**10})  # fmt: skip
    else:
        assert main(["hardware", name, "--format", "json"]) == 0
        text = capsys.readouterr().out
    count = 0

    def use() -> None:
        nonlocal count
        for spec in chosen_devices(str(path)):
            for tier in ("bound", "shipped"):
                found = forecast(TINY, Workload(5, 3), spec, choose(spec, tier, "bf16"))
                json.dumps([found.times, found.bound, found.interval, found.basis], allow_nan=False)
        count += 1
        if count <= PRINTED:
            for verb in ("predict", "roofline", "compare-hardware", "train-memory"):
                printed(verb, "--hardware", str(path), "--format", "json")

    fuzz(path, text, use, seed=3, cases=CASES // 2)


def brief(one: Any) -> Any:
    """Two samples of each time: as many kinds of places, in less time."""
    return replace(one, samples_s=one.samples_s[:2])


def brief_record() -> Record:
    record = replace(sample_record("tiny"), profile=None, constants=json.loads(CONSTANTS))
    passes = [replace(one, parts=list(map(brief, one.parts)), ops=list(map(brief, one.ops)), whole_s=one.whole_s[:2])
              for one in record.passes]  # fmt: skip
    return replace(record, passes=passes, roofs=list(map(brief, record.roofs)),
                   attention=list(map(brief, record.attention[:2])))  # fmt: skip


def test_records(tmp_path: Path) -> None:
    path, text = tmp_path / "record.json", record_to_json(brief_record())
    count = 0

    def use() -> None:
        nonlocal count
        read = record_from_json(shown_text(path, "record"), source="record.json")
        assert record_from_json(record_to_json(read)) == read
        assert verdict(Comparison(read)).text
        count += 1
        if count <= PRINTED:
            assert csv_files(read)

    fuzz(path, text, use, seed=4)


def test_profiles(tmp_path: Path) -> None:
    path, text = tmp_path / "profile.json", profiles_to_json([sample_profile(sample_record("tiny"))])

    def use() -> None:
        read = profiles_from_json(shown_text(path, "profile"), source="profile.json")
        assert profile_csv_files(read)
        assert [largest_parts(phase) for profile in read for phase in profile.phases]

    fuzz(path, text, use, seed=5)


def test_pages(tmp_path: Path) -> None:
    """The record inside a page, damaged like any text; and the page without its record."""
    record, path, draw = brief_record(), tmp_path / "page.html", random.Random(6)
    page = f"<!doctype html>\n<html><body><p>1 &lt; 2</p>{EMBEDDED}{embedded(record)}</script></body></html>"
    path.write_text(page, encoding="utf-8")
    assert record_from_json(shown_text(path, "page")) == record
    inside, accepted = page.index(EMBEDDED), 0
    for _ in range(CASES):
        where = inside if draw.random() < 0.7 else 0
        path.write_bytes(page[:where].encode() + damaged(page[where:].encode(), draw))
        with suppress(LlamaLabError):
            assert verdict(Comparison(record_from_json(shown_text(path, "page")))).text
            accepted += 1
    assert 0 < accepted < CASES
