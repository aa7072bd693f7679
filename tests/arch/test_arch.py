"""An architecture is right or refused, whichever file it comes from."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.arch import LlamaArch, attention_kind
from llamalab.arch.fields import valid_kv_heads
from llamalab.arch.files import read_arch
from llamalab.arch.parts import Experts, RopeScaling
from llamalab.errors import FormatError, InputError, MissingError
from llamalab.presets import PRESETS

META_7B = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1}
META_70B = {
    "dim": 8192,
    "multiple_of": 4096,
    "ffn_dim_multiplier": 1.3,
    "n_heads": 64,
    "n_kv_heads": 8,
    "n_layers": 80,
    "norm_eps": 1e-05,
    "vocab_size": -1,
}
HF_7B = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_kv_heads": 5}, r"n_kv_heads of LlamaArch must divide n_heads=32; got 5; try one of 32, 16, 8, 4, 2, 1"),
        ({"n_heads": 30}, "dim of LlamaArch must be n_heads=30 times an even head size"),
        ({"dim": 32, "n_kv_heads": 32}, "an even head size"),
        ({"n_layers": 0}, "n_layers of LlamaArch must be a whole number from 1 to 1,000; got 0"),
        ({"n_layers": 1001}, "got 1001"),
        ({"vocab_size": -1}, "vocab_size .* got -1"),
        ({"ffn_dim": 11008.0}, "ffn_dim .* got 11008.0"),
        ({"dim": True}, "dim .* got True"),
        ({"dim": 10**9}, "dim .* from 1 to 10,000,000"),
        ({"norm_eps": 0}, "norm_eps of LlamaArch must be a positive number; got 0"),
        ({"norm_eps": float("nan")}, "norm_eps"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": "10000"}, "rope_theta .* got '10000'"),
        ({"head_dim": 127}, "head_dim of LlamaArch must be even; got 127"),
        ({"head_dim": 0}, "head_dim .* got 0"),
        ({"rotary_fraction": 0.09}, "rotary_fraction of LlamaArch must turn an even part of head_dim=128; got 0.09"),
        ({"rotary_fraction": 1.5}, "rotary_fraction .* got 1.5"),
        ({"tied_embeddings": "no"}, "tied_embeddings of LlamaArch must be true or false; got 'no'"),
        ({"qk_norm": 1}, "qk_norm .* got 1"),
        ({"window": 0}, "window of LlamaArch must be a whole number from 1 to 10,000,000; got 0"),
        ({"full_layers": (1,)}, "full_layers of LlamaArch must go with a window"),
        ({"window": 8, "full_layers": (32,)}, "full_layers of LlamaArch must be layers from 0 to 31, rising"),
        ({"window": 8, "full_layers": (2, 1)}, "rising; got"),
        ({"activation": "relu"}, "activation of LlamaArch must be one of silu, gelu, gelu_tanh, relu2; got 'relu'"),
        ({"logits_softcap": -1.0}, "logits_softcap .* got -1.0"),
        ({"rope_scaling": RopeScaling("ntk", 2.0, 4096)}, "kind of RopeScaling must be one of linear"),
        ({"rope_scaling": RopeScaling("linear", 0.0, 4096)}, "factor of RopeScaling .* got 0.0"),
        ({"rope_scaling": RopeScaling("llama3", 8.0, 4096, low_freq_factor=4)}, "must differ; got 4"),
        ({"rope_scaling": RopeScaling("longrope", 8.0, 4096)}, "must be 64 numbers; got"),
        ({"rope_scaling": RopeScaling("yarn", 8.0, 4096, short_factors=(1.0,))}, "must be 0 numbers; got"),
        ({"experts": Experts(8, 9, 64)}, "n_active of Experts must be a whole number from 1 to 8; got 9"),
        ({"experts": Experts(8, 2, 64, dense_layers=(40,))}, "dense_layers of Experts must be layers from 0 to 31"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        PRESETS["7b"].arch.replace(**change)


def test_an_architecture_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PRESETS["7b"].arch.dim = 1  # type: ignore[misc]


def test_derived_sizes() -> None:
    arch = LlamaArch(dim=120, n_layers=3, n_heads=6, n_kv_heads=2, ffn_dim=77, vocab_size=101)
    assert (arch.head_dim, arch.group_size, arch.kv_dim) == (20, 3, 40)


@given(st.integers(1, 512))
def test_valid_kv_heads_are_the_divisors_from_mha_to_mqa(n_heads: int) -> None:
    heads = valid_kv_heads(n_heads)
    assert heads == sorted({d for d in range(1, n_heads + 1) if n_heads % d == 0}, reverse=True)
    assert attention_kind(n_heads, heads[0]) == "MHA"
    assert n_heads == 1 or attention_kind(n_heads, heads[-1]) == "MQA"
    assert all(attention_kind(n_heads, one) == f"GQA-{one}" for one in heads[1:-1])


def write(folder: Path, content: str, name: str = "params.json") -> str:
    path = folder / name
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize("data", [META_70B, HF_7B])
def test_a_file_is_told_apart_by_its_content(tmp_path: Path, data: dict[str, Any]) -> None:
    arch = PRESETS["7b" if "hidden_size" in data else "70b"].arch
    assert read_arch(write(tmp_path, json.dumps(data), "any.json")) == arch


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no file"):
        read_arch(str(tmp_path / "absent.json"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "must be a readable JSON file"),
        ('{"dim": 4096', "must be a readable JSON file"),
        ("\x00\xff", "must be a readable JSON file"),
        ('{"dim": 1, "dim": 1}', "an object has a key twice"),
        ("[" * 5000, "must be a readable JSON file"),
        ("[" * 99 + "]" * 99, "nested deeper than 64 levels"),
        (json.dumps(META_7B | {"dim": 10**400}), "larger than any double"),
        (json.dumps(META_7B).replace("4096", "1e999"), "1e999 is larger than any double"),
        (json.dumps(META_7B | {"note": "\ud800"}), "half of a surrogate pair"),
        (json.dumps(HF_7B | {"head_dim": [8], "num_attention_heads": 10**7}), "head_dim of config.json must be"),
        (json.dumps(HF_7B | {"tie_word_embeddings": "no"}), "tie_word_embeddings .* true or false; got 'no'"),
        ("[1, 2]", "must hold a JSON object; got list"),
        ("{}", "it lacks 'dim'"),
        (json.dumps(META_7B | {"dim": None}), "dim must be a whole number; got None"),
        (json.dumps(META_7B | {"dim": "4096"}), "must"),
        (json.dumps(META_7B | {"multiple_of": 0}), "multiple_of must be at least 1; got 0"),
        (json.dumps(META_7B | {"ffn_dim_multiplier": "wide"}), "ffn_dim_multiplier must be a positive number"),
        (json.dumps(META_7B | {"ffn_dim_multiplier": float("nan")}), "NaN is not a JSON number"),
        (json.dumps(META_7B | {"ffn_dim_multiplier": float("inf")}), "Infinity is not a JSON number"),
        (json.dumps(META_7B | {"n_kv_heads": 0}), "n_kv_heads .* got 0"),
        (json.dumps(META_7B | {"n_kv_heads": 3}), "must divide n_heads=32; got 3"),
        (json.dumps(HF_7B | {"num_attention_heads": 0}), "num_attention_heads .* at least 1; got 0"),
        (json.dumps(HF_7B | {"rope_scaling": [1]}), "must hold"),
        (json.dumps(HF_7B | {"num_key_value_heads": 0}), "n_kv_heads .* got 0"),
    ],
)
def test_a_file_that_cannot_be_a_model_is_refused_by_its_name(tmp_path: Path, content: str, sentence: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(FormatError, match=sentence) as caught:
        read_arch(path)
    assert path in str(caught.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"must be a regular file; .* is a folder"):
        read_arch(str(tmp_path))


MANY = LlamaArch(
    120, 5, 6, 2, 77, 101, head_dim=32, qk_norm=True, window=8, full_layers=(1, 4),
    rope_scaling=RopeScaling("longrope", 2.0, 64, 1.1, short_factors=(1.0,) * 16, long_factors=(2.0,) * 16),
    experts=Experts(8, 2, 40, dense_layers=(0, 3)), logits_softcap=30.0,
)  # fmt: skip


def test_an_architecture_survives_json() -> None:
    assert LlamaArch.from_dict(json.loads(json.dumps(MANY.as_dict()))) == MANY
    assert pickle.loads(pickle.dumps(MANY)) == MANY


def test_a_llama_2_is_stored_as_it_always_was() -> None:
    assert json.dumps(PRESETS["7b"].arch.as_dict()) == (
        '{"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "ffn_dim": 11008, "vocab_size": 32000, '
        '"norm_eps": 1e-05, "rope_theta": 10000.0, "tied_embeddings": false, "max_positions": 4096}'
    )


def test_fewer_layers_keep_what_is_said_of_them() -> None:
    few = MANY.replace(n_layers=3)
    assert few.full_layers == (1,)
    assert few.experts is not None
    assert few.experts.dense_layers == (0,)
    assert [MANY.window_of(layer) for layer in range(5)] == [8, None, 8, 8, None]
    assert few.windows == ((None, 1), (8, 2))


def test_a_head_size_stays_derived_until_it_is_given() -> None:
    plain = PRESETS["7b"].arch
    assert plain.replace(n_heads=16, n_kv_heads=16).head_dim == 256
    assert plain.replace(head_dim=64).replace(n_heads=16, n_kv_heads=16).head_dim == 64
    assert (MANY.query_dim, MANY.kv_dim) == (192, 64)
