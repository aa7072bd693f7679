"""A client that nobody here wrote: llama.cpp, as xllamacpp brings it, opens the GGUF files that are written."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llamalab.checkpoints import load
from llamalab.checkpoints.convert import Wishes, convert
from llamalab.text import load_tokenizer
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from tests.checkpoints.test_text_side import source_folder
from tests.text.samples import TEXTS, byte_level_folder, sentencepiece_model, write_json

xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install llamalab[llama-cpp]")
pytestmark = pytest.mark.reference


@contextmanager
def served(path: Path) -> Iterator[Any]:
    """A function that asks llama.cpp's server about a file."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 256, 1
    params.cpuparams.n_threads, params.warmup = 1, False
    server = xllamacpp.Server(params)

    def ask(what: str, **content: Any) -> Any:
        request = urllib.request.Request(
            f"{server.listening_address}/{what}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    yield ask


def check_tokens(path: Path) -> None:
    ours = load_tokenizer(path)
    with served(path) as ask:
        for text in TEXTS:
            theirs = ask("tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            assert theirs == ours.prompt_ids(text), text


def test_a_sentencepiece_vocabulary(tmp_path: Path) -> None:
    source = source_folder(tmp_path / "source", 340)
    sentencepiece_model(source / "tokenizer.model")
    write_json(
        source / "tokenizer_config.json",
        tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    convert(source, tmp_path / "m.gguf", "gguf")
    check_tokens(tmp_path / "m.gguf")


def test_a_vocabulary_over_bytes(tmp_path: Path) -> None:
    words = byte_level_folder(tmp_path / "words")
    source = source_folder(tmp_path / "source", words.get_vocab_size())
    convert(source, tmp_path / "m.gguf", "gguf", Wishes(tokenizer=str(tmp_path / "words")))
    check_tokens(tmp_path / "m.gguf")


@pytest.mark.shared
def test_the_same_greedy_text_and_where_it_ends(tmp_path: Path, shared_real: Path) -> None:
    wishes = Wishes(tokenizer=str(shared_real / "tok512.bin"))
    convert(shared_real / "stories260K.bin", tmp_path / "hf", "hf", wishes)
    settings = tmp_path / "hf" / "generation_config.json"
    write_json(settings, bos_token_id=1, eos_token_id=[2, 426])  # 426 is the full stop
    convert(tmp_path / "hf", tmp_path / "m.gguf", "gguf")
    tokenizer, model = load_tokenizer(tmp_path / "m.gguf"), load(tmp_path / "m.gguf")
    ours = Generation(
        model, tokenizer.prompt_ids("Lily has"), max_new_tokens=40, sampler=Sampler(temperature=0.0),
        stop_ids=tokenizer.settings.stop_ids,
    )  # fmt: skip
    ids = list(ours)
    with served(tmp_path / "m.gguf") as ask:
        theirs = ask("completion", prompt="Lily has", n_predict=40, temperature=0, return_tokens=True)
    assert theirs["stop_type"] == "eos"
    assert ours.finish_reason == "stop"
    assert theirs["tokens"] == [*ids, 426]
