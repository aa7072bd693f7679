"""The answer of `llamalab generate` as a whole, where text is not streamed."""

from collections.abc import Sequence

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.cli.output import Answer, Column, Table
from llamalab.cli.speed import Stopwatch
from llamalab.formatting import format_rate, format_seconds
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.text import Tokenizer
    from llamalab.text.generate import Generation


def collected(
    tokenizer: "Tokenizer", generations: Sequence["Generation"], stops: Sequence[str], *, echo: bool
) -> tuple[list[str], Stopwatch]:
    """All texts, and the times of their tokens."""
    from llamalab.text.batch import stream_texts

    watch, texts = Stopwatch(len(generations)), [""] * len(generations)
    for row, part in stream_texts(tokenizer, generations, stops=list(stops), echo=echo):
        watch.see(row, len(generations[row].ids))
        texts[row] += part
    return texts, watch


def texts_answer(
    model: str,
    texts: Sequence[str],
    generations: Sequence["Generation"],
    watch: Stopwatch,
    tokens: list[dict[str, Any]],
) -> Answer:
    """The texts, their costs, and the log-probabilities of `tokens` if requested."""
    rows = [
        {
            "prompt": number,
            "text": text,
            "prompt_tokens": len(one.prompt_ids),
            "generated_tokens": len(one.ids),
            "kv_bytes": kv_bytes(
                one.model.arch, seq=len(one.prompt_ids) + len(one.ids), batch=1, dtype=one.cache.dtype
            ),
            "finish_reason": one.finish_reason,
        }
        for number, (text, one) in enumerate(zip(texts, generations, strict=True), 1)
    ]
    decoded = watch.decoded / watch.decode_s if watch.decode_s else None
    data: dict[str, Any] = {
        "model": model,
        "ttft_s": watch.first_s or None,
        "total_s": watch.last_s or None,
        "decoded_tokens_per_s": decoded,
        "basis": "measured",
        "texts": rows,
    }
    spent = f"{watch.tokens:,} tokens in {format_seconds(watch.last_s)}"
    lead = (*texts, spent + (f", {format_rate(decoded)} tokens/s after the first" if decoded else ""))
    tables = [Table(_TEXTS, rows)]
    if tokens:
        data["tokens"] = tokens
        tables.append(Table(TOKENS, tokens))
    return Answer(data, lead, tuple(tables))


TOKENS = (
    Column("prompt", "prompt"),
    Column("id", "id"),
    Column("logprob", "log-probability", "{:.4f}".format),
    Column("piece", "piece", repr),
)
_TEXTS = (
    Column("prompt", "prompt"),
    Column("prompt_tokens", "tokens"),
    Column("generated_tokens", "made"),
    Column("finish_reason", "ended by"),
)
