"""Against the tokenizers library and transformers: the same ids, the same text of any ids, and rubbish refused."""

import json
import random
from pathlib import Path

import pytest
import tiktoken
import tokenizers

from llamalab.errors import FormatError, InputError
from llamalab.text import Tokenizer, decode, load_tokenizer
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN
from llamalab.text.tokenizer_json import JsonTokenizer
from tests.checkpoints.test_fuzz import fuzz
from tests.text.samples import SPECIALS, TEXTS, byte_level_folder, sentencepiece_model, tiktoken_file, write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytes")


@pytest.fixture(scope="module")
def over_bytes(folder: Path) -> tokenizers.Tokenizer:
    return byte_level_folder(folder)


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers saves of a SentencePiece model."""
    from transformers import LlamaTokenizer

    source, saved = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("saved")
    sentencepiece_model(source / "tokenizer.model")
    LlamaTokenizer.from_pretrained(source, add_bos_token=True).save_pretrained(saved)
    assert (saved / "tokenizer.json").is_file()
    assert not (saved / "tokenizer.model").exists()
    return saved


def same_both_ways(ours: Tokenizer, theirs: tokenizers.Tokenizer) -> None:
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    draw = random.Random(3)
    for _ in range(1_000):
        ids = [draw.randrange(draw.choice([ours.vocab_size, 260])) for _ in range(draw.randrange(1, 12))]
        assert decode(ours, ids) == theirs.decode(ids, skip_special_tokens=True)


def test_over_bytes(folder: Path, over_bytes: tokenizers.Tokenizer) -> None:
    ours, count = load_tokenizer(folder), over_bytes.get_vocab_size()
    same_both_ways(ours, over_bytes)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (count, count - 3, count - 2)
    assert ours.settings.stop_ids == {count - 2, count - 1}
    assert ours.prompt_ids("the") == [count - 3, *over_bytes.encode("the").ids]
    assert ours.label(count - 1) == SPECIALS[2]
    assert ours.piece(count - 1) == b""
    # A file is the same as its folder.
    assert load_tokenizer(folder / "tokenizer.json").settings == ours.settings


@pytest.mark.reference
def test_byte_fallback(fallback: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(fallback), AutoTokenizer.from_pretrained(fallback)
    same_both_ways(ours, tokenizers.Tokenizer.from_file(str(fallback / "tokenizer.json")))
    assert [ours.prompt_ids(text) for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]
    # The text that goes on another has no space of its own in front.
    assert ours.encode("the cat", middle=True) == ours.encode("<s>the cat")[1:]


def test_a_stream_is_the_whole_text(folder: Path, over_bytes: tokenizers.Tokenizer, fallback: Path) -> None:
    draw = random.Random(5)
    for place in (folder, fallback):
        ours = load_tokenizer(place)
        for _ in range(300):
            ids = [draw.randrange(ours.vocab_size) for _ in range(draw.randrange(10))]
            decoder = ours.decoder()
            assert "".join(map(decoder.push, ids)) + decoder.end() == decode(ours, ids)


def test_a_tiktoken_file(tmp_path: Path, over_bytes: tokenizers.Tokenizer) -> None:
    pieces = tiktoken_file(tmp_path / "tokenizer.model", over_bytes)
    ours = load_tokenizer(tmp_path / "tokenizer.model")
    theirs = tiktoken.Encoding(
        "t", pat_str=LLAMA_3_PATTERN, mergeable_ranks={p: i for i, p in enumerate(pieces)}, special_tokens={}
    )
    assert [ours.encode(text) for text in TEXTS] == [theirs.encode_ordinary(text) for text in TEXTS]
    draw = random.Random(4)
    for _ in range(300):
        ids = [draw.randrange(len(pieces)) for _ in range(draw.randrange(1, 9))]
        assert decode(ours, ids) == theirs.decode(ids)
    first = len(pieces)
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (first, first + 1, first + 256)
    assert ours.settings.stop_ids == {first + 1, first + 8, first + 9}
    names = ("<|begin_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|eot_id|>")
    assert [ours.name(first + index) for index in (0, 2, 6, 9)] == list(names)
    # Meta's code reads no special piece in a text; a chat template's are asked for.
    assert ours.encode("<|eot_id|>") != [first + 9]
    assert ours.encode("the<|eot_id|>", special=True) == [*ours.encode("the"), first + 9]


def test_other_kinds_are_refused_by_name(folder: Path, over_bytes: tokenizers.Tokenizer, tmp_path: Path) -> None:
    sound = json.loads((folder / "tokenizer.json").read_text())
    for changes, message in (
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "its model is 'Unigram'"),
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}, "its decoder WordPiece"),
        ({"model": 3}, "must be byte-pair encoding"),
        ({"pre_tokenizer": {"type": "Nonsense"}}, "sound tokenizer.json"),
    ):
        write_json(tmp_path / "tokenizer.json", **(sound | changes))
        with pytest.raises(FormatError, match=message):
            load_tokenizer(tmp_path)


def test_lone_surrogates_and_foreign_ids(folder: Path, over_bytes: tokenizers.Tokenizer) -> None:
    ours = load_tokenizer(folder)
    with pytest.raises(InputError, match="character 1 is not"):
        ours.encode("a\ud800")
    with pytest.raises(InputError, match="must be from 0"):
        decode(ours, [ours.vocab_size])


def use(path: Path) -> None:
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode("Once upon a time <|é 😀<|eot_id|>", special=True, middle=True)
    decode(tokenizer, [*ids, tokenizer.vocab_size - 1])


def small(description: dict[str, object]) -> dict[str, object]:
    """The same with few pieces, so that damage meets more than them."""
    model = dict(description["model"])  # type: ignore[call-overload]
    model["merges"] = model["merges"][:4]
    model["vocab"] = dict(list(model["vocab"].items())[:12]) | {
        "".join(m): i for i, m in enumerate(model["merges"], 300)
    }
    keep = {part for merge in model["merges"] for part in merge}
    model["vocab"] |= {part: 400 + index for index, part in enumerate(sorted(keep))}
    return description | {"model": model}


@pytest.mark.parametrize("kind", ["bytes", "fallback"])
def test_damaged_files(
    kind: str, tmp_path: Path, folder: Path, over_bytes: tokenizers.Tokenizer, fallback: Path
) -> None:
    source = folder if kind == "bytes" else fallback
    path = tmp_path / "tokenizer.json"
    write_json(path, **small(json.loads((source / "tokenizer.json").read_text())))
    assert isinstance(load_tokenizer(path), JsonTokenizer)
    # Half of the time as text, so that numbers, brackets and names break too.
    fuzz([path], lambda: use(path), seed=21)


def test_damaged_tiktoken_files(tmp_path: Path, over_bytes: tokenizers.Tokenizer) -> None:
    path = tmp_path / "tokenizer.model"
    tiktoken_file(path, over_bytes)
    fuzz([path], lambda: use(path), seed=22)
