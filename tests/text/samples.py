"""Small tokenizers of each kind, made by the libraries that they are named after."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from llamalab.text.byte_level import spelled
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN

LINES = [
    "the cat sat on the mat", "a cat and a dog 123 there", "then they thought about the matter", "it's Don't we'll",
    "Once upon a time there was a little girl, named Lily.", "return result  if x else None",
] * 5  # fmt: skip
SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
TEXTS = [
    "Hello, the cat", " a  cat", "it's 12345 naïve 😀\n\n  x", "", "\t\r\nDon't", "<s>the</s> cat",
    "<|im_start|>user\nthe cat<|im_end|>\n", "a\u2028b",
]  # fmt: skip


def sentencepiece_model(path: Path, **options: Any) -> sentencepiece.SentencePieceProcessor:
    """A BPE model with Llama's settings."""
    made, of_llama = io.BytesIO(), {"model_type": "bpe", "normalization_rule_name": "identity", "byte_fallback": True}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=made, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, minloglevel=2, num_threads=1,
        **(of_llama | {"vocab_size": 330} | options),
    )  # fmt: skip
    path.write_bytes(made.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())


def byte_level_folder(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json as Llama 3's, with its side files; ids of the specials follow the last piece."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), "isolated")
    over_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, over_bytes])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False))
    last = made.get_vocab_size()
    made.add_special_tokens(list(SPECIALS))
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast", bos_token=SPECIALS[0], eos_token=SPECIALS[1], add_bos_token=True,
    )  # fmt: skip
    write_json(folder / "generation_config.json", eos_token_id=[last + 1, last + 2])
    return made


def tiktoken_file(path: Path, source: tokenizers.Tokenizer) -> list[bytes]:
    """The pieces of a byte-level tokenizer as a tiktoken file, single bytes first."""
    ids = {text: index for text, index in source.get_vocab().items() if text not in SPECIALS}
    pieces = [spelled(text) for text in sorted(ids, key=lambda text: (len(spelled(text)) > 1, ids[text]))]
    path.write_bytes(b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(pieces)))
    return pieces


def write_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
