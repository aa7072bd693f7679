"""Hugging Face folders, held against transformers in both directions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load, read, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.errors import FormatError
from tests.checkpoints.samples import ARCH, TIED, pairs_to_halves_by_index, random_model, write_config
from tests.checkpoints.test_fuzz import write_safetensors_sample
from tests.model.hf_reference import hf_model

TOKENS_BT = torch.tensor([[1, 2, 37, 5, 9], [3, 3, 3, 3, 0]])
EXTENDED = LlamaArch(24, 1, 6, 2, 20, 55_296, max_positions=11)  # the vocabulary of Chinese-LLaMA-2


def hf_named(model: torch.nn.Module, arch: LlamaArch) -> dict[str, torch.Tensor]:
    names = {
        "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "layers.": "model.layers.", "tok_embeddings": "model.embed_tokens", "output": "lm_head",
    }  # fmt: skip
    state = {}
    for name, weight in model.state_dict().items():
        heads = {"wq": arch.n_heads, "wk": arch.n_kv_heads}.get(name.split(".")[-2])
        theirs = "model.norm.weight" if name == "norm.weight" else name
        for ours, other in names.items():
            theirs = theirs.replace(ours, other, 1)
        state[theirs.replace("model.model.", "model.")] = (
            weight if heads is None else pairs_to_halves_by_index(weight, heads)
        )
    return state


@pytest.mark.reference
@pytest.mark.parametrize("arch", [ARCH, TIED, EXTENDED], ids=["untied", "tied", "extended"])
@pytest.mark.parametrize("shard_size", ["5GB", "9KB"])
def test_what_transformers_saves_loads_with_its_logits(tmp_path: Path, arch: LlamaArch, shard_size: str) -> None:
    if arch is EXTENDED and shard_size != "5GB":
        shard_size = "4MB"
    model = random_model(arch)
    reference = hf_model(model)
    reference.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").is_file() == (shard_size != "5GB")
    loaded = load(tmp_path)
    assert loaded.arch == arch.replace(max_positions=4096)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(loaded(TOKENS_BT), reference(TOKENS_BT).logits, rtol=1e-4, atol=2e-5)


@pytest.mark.reference
@pytest.mark.parametrize(
    "arch", [ARCH, TIED, ARCH.replace(rope_theta=1e6, norm_eps=1e-6)], ids=["untied", "tied", "theta"]
)
def test_transformers_loads_what_is_written(tmp_path: Path, arch: LlamaArch) -> None:
    from transformers import LlamaForCausalLM

    model = random_model(arch)
    write_huggingface(tmp_path, weights_of(model), dtype=None, shard_bytes=9_000)
    reference, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert reference.dtype is torch.float32
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS_BT), reference.eval()(TOKENS_BT).logits, rtol=1e-4, atol=2e-5)


@pytest.mark.reference
def test_what_is_written_is_what_the_safetensors_package_reads(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = random_model(ARCH, torch.bfloat16)
    write_huggingface(tmp_path, weights_of(model), dtype=None)
    expected = hf_named(model, ARCH)
    torch.testing.assert_close(load_file(tmp_path / "model.safetensors"), expected, rtol=0, atol=0)


def test_bin_and_both_spellings_of_rope(tmp_path: Path) -> None:
    model = random_model(ARCH.replace(rope_theta=5e5), torch.float16)
    torch.save(hf_named(model, ARCH), tmp_path / "pytorch_model.bin")
    for rope in (
        {"rope_theta": 5e5, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ):
        write_config(tmp_path, ARCH, **{"rope_theta": 1.0} | rope)
        arch, state = read(tmp_path)
        assert arch.rope_theta == 5e5
        torch.testing.assert_close(state, dict(model.state_dict()), rtol=0, atol=0)


def test_old_files_with_frequencies_and_without_an_index(tmp_path: Path) -> None:
    model = random_model(ARCH)
    write_config(tmp_path, ARCH)
    state = list(hf_named(model, ARCH).items())
    write_safetensors_sample(tmp_path / "a.safetensors", dict(state[:5]))
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    write_safetensors_sample(tmp_path / "b.safetensors", dict(state[5:]) | frequencies)
    torch.testing.assert_close(read(tmp_path)[1], dict(model.state_dict()), rtol=0, atol=0)


def test_the_head_of_a_tied_model_may_be_repeated_or_another(tmp_path: Path) -> None:
    write_config(tmp_path, TIED)
    state = hf_named(random_model(TIED), TIED)
    embedding = state["model.embed_tokens.weight"]
    for head in (embedding, embedding.clone()):
        torch.save(state | {"lm_head.weight": head}, tmp_path / "pytorch_model.bin")
        assert load(tmp_path).arch.tied_embeddings
        assert not survey(tmp_path).remarks
    torch.save(state | {"lm_head.weight": embedding + 1}, tmp_path / "pytorch_model.bin")
    model = load(tmp_path)
    assert not model.arch.tied_embeddings
    torch.testing.assert_close(model.output.weight.detach(), embedding + 1, rtol=0, atol=0)
    assert "lm_head differs" in survey(tmp_path).remarks[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks 'low_freq_factor'"),
        ({"quantization_config": {"bits": 4}}, "must be of gptq in 4 or 8 bits"),
        ({"vocab_size": 39}, r"embed_tokens\.weight must have the shape 39 × 24 .* got 38 × 24"),
        ({"num_hidden_layers": 3}, r"must hold model\.layers\.2"),
        ({"num_hidden_layers": 1}, "nothing else; 9 tensors"),
        ({"tie_word_embeddings": None, "num_key_value_heads": 0}, "n_kv_heads"),
    ],
)
def test_what_is_no_llama_2(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_config(tmp_path, ARCH, **changes)
    write_safetensors_sample(tmp_path / "model.safetensors", hf_named(random_model(ARCH), ARCH))
    assert len(survey(tmp_path).stored) == 21  # the headers are sound
    with pytest.raises(FormatError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "none.safetensors", ".."]
)
def test_an_index_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    write_config(folder, ARCH)
    for where in (tmp_path, folder / "sub"):
        where.mkdir(exist_ok=True)
        write_safetensors_sample(where / "model.safetensors", hf_named(random_model(ARCH), ARCH))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(FormatError, match="name files of its own folder"):
        load(folder)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    for name in ("a", "b"):
        write_safetensors_sample(tmp_path / f"{name}.safetensors", {"lm_head.weight": torch.ones(2)})
    with pytest.raises(FormatError, match=r"lm_head\.weight is in two"):
        load(tmp_path)


def test_a_file_of_weights_alone_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors_sample(path, {"a": torch.ones(2)})
    with pytest.raises(FormatError, match="give the folder"):
        load(path)


def test_weights_that_need_no_change_are_mapped(tmp_path: Path) -> None:
    write_config(tmp_path, ARCH)
    path = tmp_path / "model.safetensors"
    write_safetensors_sample(path, hf_named(random_model(ARCH), ARCH))
    data, state = path.read_bytes(), read(tmp_path)[1]
    mapped = [name for name in state if not name.endswith(("wq.weight", "wk.weight"))]
    places = {state[name].untyped_storage().data_ptr() for name in mapped}
    assert max(places) - min(places) < len(data)
    state["norm.weight"].fill_(3.0)
    assert path.read_bytes() == data
