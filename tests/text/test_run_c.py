"""A tokenizer.bin is read by llama2.c's own rules, written out here from run.c's description of them."""

import random
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from llamalab.text import decode, load_tokenizer

pytestmark = pytest.mark.shared

WORDS = ["Lily", "the", " ", "  ", "\n", "é", "日本", "😀", "a", "zz", ".", "12", "<s>", "\t", "upon a time", "🏳️‍🌈"]


def pieces(path: Path) -> tuple[list[bytes], list[float]]:
    """What run.c reads: the longest length, then a score, a length and the bytes of every piece."""
    data, at = path.read_bytes(), 4
    texts, scores = [], []
    while at < len(data):
        score, size = struct.unpack_from("<fI", data, at)
        texts.append(data[at + 8 : at + 8 + size])
        scores.append(score)
        at += 8 + size
    return texts, scores


def encoded(text: str, texts: list[bytes], scores: list[float]) -> list[int]:
    """A space first; characters looked up, or spelled as bytes from id 3 on; then the best pairs joined."""
    ids_of = {piece: index for index, piece in reversed(list(enumerate(texts)))}
    ids = [ids_of[b" "]] if text else []
    for character in text:
        spelled = character.encode()
        ids += [ids_of[spelled]] if spelled in ids_of else [byte + 3 for byte in spelled]
    while True:
        joined = [ids_of.get(texts[left] + texts[right]) for left, right in pairwise(ids)]
        found = [(scores[index], -at, index) for at, index in enumerate(joined) if index is not None]
        if not found:
            return ids
        _, place, index = max(found)
        ids[-place : -place + 2] = [index]


def test_the_ids_and_the_text_are_run_cs(shared_real: Path) -> None:
    texts, scores = pieces(shared_real / "tok512.bin")
    ours, draw = load_tokenizer(shared_real / "tok512.bin"), random.Random(8)
    for _ in range(300):
        text = "".join(draw.choice(WORDS) for _ in range(draw.randrange(9)))
        ids = encoded(text, texts, scores)
        assert ours.encode(text, bos=True) == [1, *ids]
        # run.c leaves out the space behind BOS and writes <0x0A> as the byte.
        assert decode(ours, [1, *ids]) == text
