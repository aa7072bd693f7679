"""Text from a checkpoint, with its tokens, KV cache and seconds."""

import os
from collections.abc import Sequence
from time import perf_counter

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.api.results import Result
from llamalab.checkpoints import load
from llamalab.cli.output import Answer, Column, Table
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_seconds
from llamalab.model import Transformer
from llamalab.startup.hints import Any
from llamalab.text import Tokenizer, load_tokenizer, tokenizer_of
from llamalab.text.batch import stream_texts
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler


def continued(
    model: str | os.PathLike[str] | Transformer,
    text: str,
    *,
    most: int,
    tokenizer: str | os.PathLike[str] | Tokenizer | None,
    stop: Sequence[str],
    dtype: str | None,
    device: str,
    sampling: dict[str, Any],
) -> Result:
    """The text that follows `text`, with its cost: llamalab.generate without its defaults.

    Args:
        model: a path, the name of a preset, or a model.
        text: what is continued.
        most: new tokens at the most.
        tokenizer: a path or a tokenizer; None for the one beside the weights.
        stop: texts at which the continuation ends.
        dtype: of weights and activations; None for that of the checkpoint.
        device: where the model runs.
        sampling: fields of llamalab.text.Sampler.
    """
    if not isinstance(text, str):
        raise InputError(f"text must be a text; got {text!r}")
    if isinstance(model, str | os.PathLike):
        loaded, pieces = load(model, dtype=dtype, device=device), _tokenizer(tokenizer, model)
    elif tokenizer is None:
        raise InputError("a model in memory must come with its tokenizer; there is none; give tokenizer=")
    else:
        loaded, pieces = model, _tokenizer(tokenizer, "")
    generation = Generation(
        loaded,
        pieces.prompt_ids(text),
        max_new_tokens=most,
        sampler=Sampler(**sampling),
        stop_ids=pieces.settings.stop_ids,
        vocab_size=pieces.vocab_size,
    )
    return _timed(generation, pieces, stop)


def _tokenizer(given: str | os.PathLike[str] | Tokenizer | None, checkpoint: str | os.PathLike[str]) -> Tokenizer:
    if given is None:
        return tokenizer_of(checkpoint)
    return load_tokenizer(given) if isinstance(given, str | os.PathLike) else given


def _timed(generation: Generation, tokenizer: Tokenizer, stop: Sequence[str]) -> Result:
    begun_s, first_s, parts = perf_counter(), None, []
    for _, part in stream_texts(tokenizer, [generation], stops=list(stop), echo=False):
        first_s = first_s if first_s is not None or not generation.ids else perf_counter() - begun_s
        parts.append(part)
    total_s, made = perf_counter() - begun_s, len(generation.ids)
    prompt, arch = len(generation.prompt_ids), generation.model.arch
    data: dict[str, Any] = {
        "text": "".join(parts),
        "prompt_tokens": prompt,
        "generated_tokens": made,
        "kv_bytes": kv_bytes(arch, seq=prompt + made, batch=1, dtype=generation.cache.dtype),
        "ttft_s": first_s,
        "total_s": total_s,
        "tokens_per_s": made / total_s if made else None,
        "finish_reason": generation.finish_reason,
        "basis": "measured",
    }
    cost = f"{prompt} + {made} tokens, KV cache {format_bytes(data['kv_bytes'])}, {format_seconds(total_s)}"
    rows = [{key: value for key, value in data.items() if key != "text"}]
    shown = {"prompt_tokens": "prompt", "generated_tokens": "made", "finish_reason": "ended by"}
    columns = tuple(Column(key, title) for key, title in shown.items())
    return Result("generate", Answer(data, (data["text"], cost), (Table(columns, rows),)), generation)
