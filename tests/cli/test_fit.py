"""`llamalab fit`: everything that a run holds, and the largest that fits."""

import csv
import io
import json
import re
import struct
from pathlib import Path

import pytest

from llamalab.analytic.params import parameter_count
from llamalab.presets import PRESETS
from tests.cli.calls import Capture, loaded, printed, refused

MEMORY = ("fit", "--memory", "24GiB")
WEIGHTS = 13_476_831_232


def test_the_cache_alone(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--free", "10GB", "--dtype", "fp16")
    assert data["max_tokens"] == 19_073
    assert (data["free_bytes"], data["weight_bytes"], data["memory_bytes"]) == (10**10, None, None)
    assert printed(capsys, "fit", "--free", "10GB", "--dtype", "fp16").startswith("19,073 cached tokens fit (7b,")
    assert "at most 19,073 tokens fit" in refused(capsys, "fit", "--free", "10GB", "--context", "20k", code=3)
    assert "at most 1 tokens fit" in refused(capsys, "fit", "--free", "1MB", "--batch", "2", code=3)
    assert "at most 0 tokens fit" in refused(capsys, "fit", "--free", "1kB", code=3)


def test_the_terms_add_up_and_say_what_they_rest_on(capsys: Capture) -> None:
    data = loaded(capsys, *MEMORY, "--context", "4096", "--batch", "2")
    terms = {term["term"]: term for term in data["terms"]}
    assert sum(term["bytes"] for term in data["terms"]) == data["total_bytes"]
    assert data["total_bytes"] + data["margin_bytes"] + data["left_bytes"] == 24 * 2**30
    assert (terms["weights"]["bytes"], terms["weights"]["basis"]) == (WEIGHTS, "exact")
    assert (terms["KV cache"]["bytes"], terms["KV cache"]["basis"]) == (2 * 2**31, "exact")
    assert terms["activations"]["bytes"] >= 2 * 4096 * (3 * 4096 + 4 * 11008) * 2
    assert terms["device context"]["basis"] == "estimated"
    assert {term["basis"] for term in data["terms"]} <= {"exact", "estimated", "measured"}


@pytest.mark.parametrize(
    ("solve", "one_more"),
    [
        (("--context", "4096"), lambda data: ("--context", "4096", "--batch", str(data["batch"] + 1))),
        (("--batch", "3"), lambda data: ("--batch", "3", "--context", str(data["context"] + 1))),
        (("--context", "2048", "--chunk", "256", "--kv-dtype", "int8"),
         lambda data: ("--context", "2048", "--chunk", "256", "--kv-dtype", "int8", "--batch", str(data["batch"] + 1))),
    ],
)  # fmt: skip
def test_the_largest_fits_and_one_more_does_not(capsys: Capture, solve: tuple[str, ...], one_more) -> None:
    data = loaded(capsys, *MEMORY, *solve)
    assert data["left_bytes"] >= 0
    sentence = refused(capsys, *MEMORY, *one_more(data), code=3)
    assert re.search(r"\([\d,]+ bytes\) too little; try ", sentence)


def test_chunks_leave_more_for_the_cache(capsys: Capture) -> None:
    whole, chunked = (loaded(capsys, *MEMORY, "--context", "4096", *more) for more in ((), ("--chunk", "512")))
    assert chunked["batch"] > whole["batch"]


def test_a_change_that_is_named_is_enough(capsys: Capture) -> None:
    asked = (*MEMORY, "--model", "13b", "--context", "4096", "--batch", "2")
    sentence = refused(capsys, *asked, code=3)
    assert "weights in int4" in sentence
    assert loaded(capsys, *asked, "--weight-dtype", "int4")["left_bytes"] >= 0
    assert loaded(capsys, *asked, "--solve", "weights")["weight_dtype"] in sentence
    ranks = loaded(capsys, *asked, "--solve", "ranks")["ranks"]
    assert f"{ranks} devices" in sentence


def test_a_device_of_the_table(capsys: Capture) -> None:
    data = loaded(capsys, "fit", "--solve", "device", "--context", "4096", "--batch", "8")
    assert all(row["left_bytes"] >= 0 for row in data["devices"])
    assert [row["memory_bytes"] for row in data["devices"]] == sorted(row["memory_bytes"] for row in data["devices"])
    assert loaded(capsys, "fit", "--hardware", "h200", "--context", "4096")["memory_bytes"] >= 141 * 10**9
    assert "too little; try" in refused(capsys, "fit", "--solve", "device", "--model", "70b", "--context", "1m", code=3)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--solve", "device", "--hardware", "l4", "--context", "9"), "must come without one; got --hardware"),
        (("--memory", "9GB", "--solve", "batch"), "--solve batch must come with --context"),
        (("--memory", "9GB", "--context", "9", "--host", "ryzen-7950x"), "--host must come with --gpu-layers"),
        (("--free", "9GB", "--solve", "batch"), "does not depend on --solve"),
        (("--free", "9GB", "--block-tokens", "16"), "does not depend on --block-tokens"),
        (("--hardware", "ryzen-7950x", "--context", "9"), "is a CPU; give --memory"),
    ],
)
def test_questions_without_an_answer_are_refused(capsys: Capture, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused(capsys, "fit", *argv)


def test_ranks_share_the_cache_that_is_alone(capsys: Capture) -> None:
    asked = ("fit", "--free", "10GB", "--model", "70b")
    one, four = (loaded(capsys, *asked, "--tp", ranks)["max_tokens"] for ranks in ("1", "4"))
    assert one * 4 <= four < one * 4 + 4


def test_weights_are_looked_for_beside_the_storage_of_a_file(capsys: Capture, tmp_path: Path) -> None:
    write_quantised(tmp_path, {"model.layers.0.mlp.up_proj.qweight": ("I32", [9, 700], 25_200)})
    asked = ("fit", "--memory", "8GB", "--context", "64", "--model", str(tmp_path), "--solve", "weights")
    found, untied = loaded(capsys, *asked), PRESETS["tiny"].arch.replace(tied_embeddings=False)
    assert (found["weight_dtype"], found["weight_bytes"]) == ("bf16", 2 * parameter_count(untied))


def test_scales_and_blocks_of_the_cache_are_terms_of_their_own(capsys: Capture) -> None:
    data = loaded(capsys, *MEMORY, "--context", "1000", "--batch", "2", "--kv-dtype", "int8", "--block-tokens", "16")
    terms = {term["term"]: term["bytes"] for term in data["terms"]}
    assert terms["KV cache"] == 2000 * 262_144
    assert terms["KV scales"] == 2000 * 2 * 32 * 32 * 4
    assert terms["KV blocks"] == 2 * 8 * (262_144 + 2 * 32 * 32 * 4)


def test_csv_has_a_row_for_each_term(capsys: Capture) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, *MEMORY, "--context", "512", "--format", "csv"))))
    assert rows[0]["term"] == "weights"
    assert int(rows[0]["bytes"]) == WEIGHTS


def write_quantised(folder: Path, tensors: dict[str, tuple[str, list[int], int]]) -> int:
    """A folder with a config and the header of a quantised checkpoint over a hole; the bytes of its tensors."""
    arch, at, header = PRESETS["tiny"].arch, 0, {}
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    config = {
        "model_type": "llama", "hidden_size": arch.dim, "num_hidden_layers": arch.n_layers,
        "num_attention_heads": arch.n_heads, "num_key_value_heads": arch.n_kv_heads,
        "intermediate_size": arch.ffn_dim, "vocab_size": arch.vocab_size, "rms_norm_eps": 1e-5,
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return at


def test_a_quantised_folder_is_as_large_as_its_header_says(capsys: Capture, tmp_path: Path) -> None:
    size = write_quantised(
        tmp_path,
        {
            "model.layers.0.self_attn.q_proj.qweight": ("I32", [36, 288], 36 * 288 * 4),
            "model.layers.0.self_attn.q_proj.scales": ("F16", [3, 288], 3 * 288 * 2),
            "model.layers.0.self_attn.q_proj.qzeros": ("I32", [3, 36], 3 * 36 * 4),
        },
    )
    assert loaded(capsys, "fit", "--memory", "8GB", "--model", str(tmp_path), "--context", "64")["weight_bytes"] == size
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(200)
    assert "safetensors header" in refused(capsys, "fit", "--memory", "8GB", "--model", str(tmp_path))


def test_every_verb_gives_a_file_the_bytes_that_it_has(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    size = write_quantised(tmp_path, {f"model.layers.{layer}.mlp.up_proj.qweight": ("I32", [9, 700], 25_200)
                                      for layer in range(6)})  # fmt: skip
    for model in (tmp_path, path):
        if model == path:  # without its weights, by the layout of its method
            (tmp_path / "model.safetensors").unlink()
            size = loaded(capsys, "params", "--model", str(path))["stored_bytes"]
        found = [
            loaded(capsys, "fit", "--memory", "8GB", "--context", "64", "--model", str(model))["weight_bytes"],
            loaded(capsys, "kv", "--model", str(model))["weight_bytes"],
            loaded(capsys, "params", "--model", str(model))["stored_bytes"],
            loaded(capsys, "predict", "--model", str(model), "--hardware", "l4")["memory"]["weight_bytes"],
        ]
        assert found == [size] * 4
    assert loaded(capsys, "flops", "--model", str(path))["weight_dtype"].endswith("bpw")
    assert loaded(capsys, "flops", "--model", str(path), "--weight-dtype", "fp8")["weight_dtype"] == "fp8"


def test_ranks_share_the_bytes_of_a_file(capsys: Capture, tmp_path: Path) -> None:
    write_quantised(tmp_path, {"model.layers.0.mlp.up_proj.qweight": ("I32", [9, 700], 25_200)})
    options = ("fit", "--memory", "8GB", "--context", "64", "--batch", "1", "--model", str(tmp_path))
    one, two = (loaded(capsys, *options, "--tp", ranks)["weight_bytes"] for ranks in ("1", "2"))
    assert one / 2 <= two < 0.55 * one


def test_gpu_layers_solved_and_asked(capsys: Capture) -> None:
    options = ("fit", "--model", "13b", "--weight-dtype", "int4", "--context", "4096", "--batch", "1")
    found = loaded(capsys, *options, "--memory", "6GB", "--solve", "gpu-layers")
    layers = found["gpu_layers"]
    assert 0 < layers < 40
    again = loaded(capsys, *options, "--memory", "6GB", "--gpu-layers", str(layers))
    assert again["total_bytes"] == found["total_bytes"]
    assert f"{layers} of 40 layers" in refused(
        capsys, *options, "--memory", "6GB", "--gpu-layers", str(layers + 1), code=3
    )
    assert found["reason"]
    assert found["decode_s_per_token"] is None
    whole = loaded(capsys, *options, "--memory", "99GB")
    for number in ("0", "1", "40"):
        split = loaded(capsys, *options, "--memory", "99GB", "--gpu-layers", number)
        held = split["weight_bytes"] + split["kv_bytes"] + split["host_bytes"]
        assert held == whole["weight_bytes"] + whole["kv_bytes"]
    assert "gpu_layers" in refused(capsys, *options, "--memory", "99GB", "--gpu-layers", "41")
    assert refused(capsys, *options, "--memory", "99GB", "--gpu-layers", "3", "--tp", "2")


def test_what_a_split_costs_lies_between_host_and_device(capsys: Capture) -> None:
    options = ("fit", "--hardware", "rtx4090", "--host", "ryzen-7950x", "--context", "700", "--prompt", "600",
               "--batch", "1", "--dtype", "fp16", "--weight-dtype", "q4_0")  # fmt: skip
    times = [loaded(capsys, *options, "--gpu-layers", str(n))["decode_s_per_token"] for n in (0, 1, 16, 31, 32)]
    assert times == sorted(times, reverse=True)
    assert times[-1] == loaded(capsys, *options, "--gpu-layers", "5")["all_on_device_s_per_token"]


def test_a_window_keeps_no_more_than_it_sees(capsys: Capture) -> None:
    """The same question to kv and to fit: Mistral's cache stops at 4,096 tokens."""
    asked = ("--model", "mistral-7b-v0.1", "--context", "20000", "--batch", "3")
    assert loaded(capsys, "fit", "--memory", "80GB", *asked)["kv_bytes"] == loaded(capsys, "kv", *asked)["kv_bytes"]
