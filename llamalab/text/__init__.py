"""Text in and out: tokenizers, sampling, generation from the KV cache, and chat.

Read in this order: tokenizer, settings, sentencepiece_model, pieces, stream; sampling, generate, speculative, batch,
chat. Names of this package load without torch; the last five modules need it.

Belongs here: tokenizers (one file a kind), sampling, generation, dialogues. Does not belong here: weights and their
files (checkpoints), the forward pass (model), terminals (cli).
"""

from llamalab.text.load import load_tokenizer, tokenizer_of
from llamalab.text.pieces import PieceTokenizer
from llamalab.text.sentencepiece_model import SentencePieceTokenizer
from llamalab.text.settings import TextSettings
from llamalab.text.stream import TextStream, decode, decode_stream
from llamalab.text.tokenizer import Tokenizer
from llamalab.text.tokenizer_bin import Llama2cTokenizer, write_tokenizer_bin

__all__ = [
    "Llama2cTokenizer",
    "PieceTokenizer",
    "SentencePieceTokenizer",
    "TextSettings",
    "TextStream",
    "Tokenizer",
    "decode",
    "decode_stream",
    "load_tokenizer",
    "tokenizer_of",
    "write_tokenizer_bin",
]
