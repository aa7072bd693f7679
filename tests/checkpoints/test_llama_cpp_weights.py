"""A client that nobody here wrote, llama.cpp as xllamacpp brings it, computes from the weights that are written.

Its log-probabilities are held against ours from the same file. It rounds activations to 8 bits where weights are
quantised, and so differs by more than the order of sums; two models drawn apart differ by several units.
"""

import json
import random
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.convert import Wishes, convert
from llamalab.checkpoints.gguf_write import words_of, write_gguf
from llamalab.checkpoints.quantisers import UNQUANTISED
from llamalab.choices import QUANTISERS
from llamalab.errors import FormatError
from llamalab.formats.gguf_header import map_gguf
from llamalab.model import Transformer
from tests.checkpoints.samples import random_model, write_gguf_sample

xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install llamalab[llama-cpp]")
pytestmark = [pytest.mark.reference, pytest.mark.shared]

PROMPT = [1, 317, 300, 419]
LONGER = [*PROMPT, 261, 370, 268, 414, 444, 426, 338, 397]
FIRST_TEXT = 259  # ids below are special, or bytes, which the server holds back until a character is whole
TIE = 0.4  # how much likelier a token may seem to one of two readers of the same rounded weights
BLOCKS = LlamaArch(256, 2, 8, 4, 512, 512, max_positions=128)  # rows of whole blocks of every kind


class Server:
    """llama.cpp with a file; its KV cache in fp32, so that the weights alone are rounded."""

    def __init__(self, path: Path) -> None:
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = str(path), 128, 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cpuparams.n_threads, params.warmup = 1, False
        self.server = xllamacpp.Server(params)

    def choices(self, prompt: list[int], new_tokens: int) -> list[dict[str, Any]]:
        """Its likeliest tokens of text, each with the log-probabilities of the 20 likeliest of all."""
        wanted = {"prompt": prompt, "n_predict": new_tokens, "temperature": 0.0, "n_probs": 20, "cache_prompt": False,
                  "logit_bias": [[token, False] for token in range(FIRST_TEXT)]}  # fmt: skip
        request = urllib.request.Request(
            f"{self.server.listening_address}/completion", json.dumps(wanted).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: list[dict[str, Any]] = json.load(answer)["completion_probabilities"]
        return found


def differences(model: Transformer, prompt: list[int], choices: list[dict[str, Any]]) -> list[float]:
    """Of the log-probabilities in every choice, ours on the same tokens."""
    ids = [choice["id"] for choice in choices]
    with torch.no_grad():
        logits_TV = model(torch.tensor([prompt + ids]))[0, len(prompt) - 1 : -1]
    ours_TV = logits_TV.log_softmax(-1)
    return [abs(float(ours_V[one["id"]]) - one["logprob"])
            for ours_V, choice in zip(ours_TV, choices, strict=True) for one in choice["top_logprobs"]]  # fmt: skip


def same_text(model: Transformer, prompt: list[int], choices: list[dict[str, Any]]) -> int:
    """How many of the choices are ours, writing by ourselves; where one is not, ours must be as good as a tie."""
    ids = list(prompt)
    for number, choice in enumerate(choices):
        with torch.no_grad():
            ours_V = model(torch.tensor([ids]))[0, -1, FIRST_TEXT:].log_softmax(-1)
        ids.append(int(ours_V.argmax()) + FIRST_TEXT)
        if ids[-1] != choice["id"]:
            assert float(ours_V.max() - ours_V[choice["id"] - FIRST_TEXT]) < TIE
            return number
    return len(choices)


def ggml_number(kind: str) -> int:
    import gguf

    return int(gguf.GGMLQuantizationType[kind.upper()])


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", *UNQUANTISED])
def test_a_real_model_writes_the_same_text(tmp_path: Path, shared_real: Path, dtype: str) -> None:
    wishes = Wishes(dtype=dtype, tokenizer=str(shared_real / "tok512.bin"))
    convert(shared_real / "stories260K.bin", tmp_path / "m.gguf", "gguf", wishes)
    choices, model = Server(tmp_path / "m.gguf").choices(PROMPT, 16), load(tmp_path / "m.gguf", dtype="fp32")
    assert same_text(model, PROMPT, choices) >= (4 if dtype in UNQUANTISED else 16)
    found = differences(model, PROMPT, choices)
    assert median(found) < (0.1 if dtype in UNQUANTISED else 0.02)


@pytest.mark.parametrize("kind", [None, *QUANTISERS])
def test_every_kind_that_is_written(tmp_path: Path, shared_real: Path, kind: str | None) -> None:
    path, model = tmp_path / "m.gguf", random_model(BLOCKS)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "output" not in name:
            weight.data *= 0.1  # no activation that 8 bits beside the others cannot hold
    write_gguf(path, weights_of(model), dtype=None, quantised=kind, words=words_of(shared_real / "tok512.bin"))
    kinds = {info.kind for info in map_gguf(path)[1].tensors.values()}
    assert kinds == {0, 0 if kind is None else ggml_number(kind)}
    server, loaded, draw, found = Server(path), load(path, dtype="fp32"), random.Random(3), []
    for _ in range(6):
        prompt = [1, *(draw.randrange(FIRST_TEXT, 512) for _ in range(draw.randint(3, 30)))]
        found += differences(loaded, prompt, server.choices(prompt, 1))
    assert median(found) < (0.01 if kind is None else 0.2)
    assert max(found) < (0.05 if kind is None else 0.8)


@pytest.mark.parametrize("tied", [False, True])
def test_rows_that_are_no_whole_blocks(tmp_path: Path, shared_real: Path, tied: bool) -> None:
    arch = LlamaArch(64, 1, 4, 4, 80, 512, max_positions=128, tied_embeddings=tied)
    path, words = tmp_path / "m.gguf", words_of(shared_real / "tok512.bin")
    write_gguf(path, weights_of(random_model(arch)), dtype=None, quantised="q4_k", words=words)
    kinds = {info.kind for info in map_gguf(path)[1].tensors.values()}
    assert kinds == {0, 1, ggml_number("q5_0")}  # norms, rows of 80, rows of 64
    assert median(differences(load(path, dtype="fp32"), PROMPT, Server(path).choices(PROMPT, 1))) < 0.3


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, False),
        ({"rope__scaling__factor": 1.0, "rope__scale_linear": 4.0}, False),
        ({"rope__scaling__type": "yarn", "rope__scaling__factor": 1.0}, False),
        ({"rope__scaling__factor": 0.0, "rope__scaling__yarn_ext_factor": 0.0}, False),
        ({"rope__scaling__yarn_beta_fast": 7.0, "rope__scaling__yarn_log_multiplier": 0.3}, False),
        ({"logit_scale": 1.0, "residual_scale": 0.0, "embedding_scale": 1.0, "attention__scale": 0.0}, False),
        ({"attention__layer_norm_epsilon": 0.1, "vocab_size": 7, "pooling_type": 1}, False),
        ({"attention__sliding_window": 512, "expert_count": 0, "attention__causal": True}, False),
        ({"rope__scaling__attn_factor": 1.2}, True),
        ({"attention__causal": False}, True),
    ],
    ids=str,
)
def test_settings_mean_what_they_mean_to_llama_cpp(
    tmp_path: Path, shared_real: Path, settings: dict[str, Any], changes: bool
) -> None:
    path, plain = tmp_path / "m.gguf", load(shared_real / "stories260K.bin")
    pieces = words_of(shared_real / "tok512.bin").pieces
    write_gguf_sample(path, plain, words=pieces, **{f"llama__{key}": value for key, value in settings.items()})
    found = differences(plain, LONGER, Server(path).choices(LONGER, 3))
    if changes:
        assert median(found) > 0.1
        with pytest.raises(FormatError, match="llama"):
            load(path)
    else:
        assert median(found) < 0.02
        torch.testing.assert_close(dict(load(path).state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope__scaling__factor": 4.0},
        {"rope__scale_linear": 4.0},
        {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 8},
        {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__attn_factor": 1.3},
    ],
    ids=str,
)
def test_a_stretched_rope_is_llama_cpps(tmp_path: Path, shared_real: Path, settings: dict[str, Any]) -> None:
    path, plain = tmp_path / "m.gguf", load(shared_real / "stories260K.bin")
    pieces = words_of(shared_real / "tok512.bin").pieces
    write_gguf_sample(path, plain, words=pieces, **{f"llama__{key}": value for key, value in settings.items()})
    choices = Server(path).choices(LONGER, 3)
    assert median(differences(plain, LONGER, choices)) > 0.1
    assert median(differences(load(path), LONGER, choices)) < 0.02
