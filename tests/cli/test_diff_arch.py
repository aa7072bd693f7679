"""`llamalab diff-arch`: what differs, and what each difference costs."""

import json
from pathlib import Path

import torch

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import parameter_count
from llamalab.checkpoints.config_json import config_json
from llamalab.cli import main
from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, printed


def test_llama_2_and_3_1_term_by_term(capsys: Capture) -> None:
    data = loaded(capsys, "diff-arch", "7B", "meta-llama/Llama-3.1-8B", "--prompt", "8k", "--batch", "2")
    assert (data["one"], data["other"], data["hardware"]) == ("7b", "llama-3.1-8b", "h100-80gb-sxm")
    added = {"+".join(term["fields"]): term["added"] for term in data["terms"]}
    assert list(added) == ["n_kv_heads", "ffn_dim", "vocab_size", "rope_theta", "max_positions", "rope_scaling"]
    assert added["n_kv_heads"]["kv_bytes"] == -3 * kv_bytes(PRESETS["llama-3.1-8b"].arch, seq=8192, batch=2)
    assert sum(term["parameters"] for term in added.values()) == 8_030_261_248 - 6_738_415_616
    assert data["terms"][-1]["after"][0]["kind"] == "llama3"
    assert data["costs"]["llama-3.1-8b"]["parameters"] == parameter_count(PRESETS["llama-3.1-8b"].arch)


def test_operations_of_both_stand_side_by_side(capsys: Capture) -> None:
    rows = loaded(capsys, "diff-arch", "7b", "qwen3-8b")["operations"]
    by_name = {(row["phase"], row["operation"]): row for row in rows}
    normed = by_name["decode", "layers.*.attention.q_norm"]
    assert normed["one_flops"] is None
    assert normed["other_bytes"] > 0
    assert by_name["prefill", "output"]["other_flops"] == 2 * 4096 * 151_936


def test_it_says_what_costs_nothing_and_what_the_model_does_not_run(capsys: Capture) -> None:
    text = printed(capsys, "diff-arch", "7b", "mixtral-8x7b")
    assert "of no cost: rope_theta, max_positions" in text
    assert "the built-in model runs dense Llamas; it has no mixture of experts" in text
    assert "2 of 8" in text
    assert printed(capsys, "diff-arch", "7b", "llama-2-7b").startswith("7b and 7b have the same architecture")


def test_a_model_that_nobody_knows_is_refused(capsys: Capture) -> None:
    assert main(["diff-arch", "7b", "llama-9"]) == 2
    assert "model must be one of" in capsys.readouterr().err


def test_models_devices_and_answers_are_those_of_every_verb(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_json(PRESETS["qwen3-8b"].arch, torch.bfloat16)))
    there = tmp_path / "answer.json"
    argv = ["diff-arch", "qwen3-8b", str(folder), "--hardware", "h100", "--kv-dtype", "fp8", "--format", "json"]
    assert main([*argv, "--out", str(there)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "h100 is taken for h100-80gb-sxm" in err
    data = json.loads(there.read_text())
    assert data["terms"] == []
    assert data["costs"]["qwen3-8b"]["kv_bytes"] == kv_bytes(PRESETS["qwen3-8b"].arch, seq=2048, dtype="fp8")
    assert main(["diff-arch", "7b", "13b", "--hardware", "l4,h200"]) == 2
    assert "--hardware must name one device here; got 2" in capsys.readouterr().err
