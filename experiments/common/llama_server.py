"""llama.cpp through xllamacpp: a server in this process that makes tokens and reports the times of its passes."""

import json
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.errors import MissingError
from llamalab.text.gguf_text import SENTENCEPIECE, Vocabulary
from llamalab.text.settings import TextSettings

_LIMIT_S = 300
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6  # types of pieces, as sentencepiece numbers them


def bytes_alone() -> Vocabulary:
    """The least vocabulary that llama.cpp opens a file with: three special pieces and the bytes."""
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256]
    settings = TextSettings(bos_id=1, eos_id=2, unknown_id=0)
    return Vocabulary(SENTENCEPIECE, pieces, [0.0] * len(pieces), types, settings)


class Times(NamedTuple):
    """Seconds of the prompt that was read, and of the steps after the first token."""

    prompt_s: float
    steps_s: float


class LlamaServer:
    """A GGUF file served with so many threads. Raises MissingError where xllamacpp is not installed."""

    def __init__(self, path: Path, *, context: int, threads: int) -> None:
        try:
            import xllamacpp
        except ImportError:
            raise MissingError(
                "llama.cpp must be there to be raced, in the Python package xllamacpp; it is not installed; "
                "pip install llamalab[llama-cpp], or leave it out with --only llamalab,transformers"
            ) from None
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = str(path), context, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup, params.n_batch, params.n_ubatch = False, context, 512
        self._server = xllamacpp.Server(params)

    def times(self, prompt: list[int], tokens: int, *, reuse: bool) -> Times:
        """Continue a prompt of token ids by so many tokens; `reuse` keeps what the cache has of it."""
        timings = self._ask(
            "completion", prompt=prompt, n_predict=tokens, temperature=0, cache_prompt=reuse, ignore_eos=True
        )["timings"]
        # Its clock of generation starts with the first token, which the prompt gave.
        return Times(timings["prompt_ms"] / 1e3, timings["predicted_ms"] / 1e3)

    def _ask(self, what: str, **content: Any) -> Any:
        request = urllib.request.Request(
            f"{self._server.listening_address}/{what}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
            return json.load(answer)
