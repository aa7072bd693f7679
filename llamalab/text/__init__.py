"""Text in and out: tokenizers, sampling, and generation from the KV cache."""

from llamalab.text.tokenizer import (
    Llama2cTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    decode,
    decode_stream,
    load_tokenizer,
    write_tokenizer_bin,
)

__all__ = [
    "Llama2cTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "decode",
    "decode_stream",
    "load_tokenizer",
    "write_tokenizer_bin",
]
