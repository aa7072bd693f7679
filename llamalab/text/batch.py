"""Generation for several prompts in one batch."""

from collections.abc import Iterator, Sequence

from llamalab.text.generate import Generation, together
from llamalab.text.stream import TextStream
from llamalab.text.tokenizer import Tokenizer


def stream_texts(
    tokenizer: Tokenizer, generations: Sequence[Generation], *, stops: Sequence[str] = (), echo: bool = False
) -> Iterator[tuple[int, str]]:
    """(row, new text) of several generations that run together; with `echo` each begins with its prompt.

    Each token yields once, with the text that it makes certain, perhaps none; what is held back at the
    end of a row follows. A stop string, of `stops` or of the checkpoint, ends its row, with finish_reason "stop";
    neither it nor EOS ends anything where it stands in a prompt.
    """
    every = [*stops, *tokenizer.settings.stop_strings]
    streams = {row: TextStream(tokenizer, stops=every) for row in range(len(generations))}
    for row, stream in streams.items():
        prompt = stream.prompt(generations[row].prompt_ids)
        if echo:
            yield row, prompt
    for row, token_id in together(generations):
        yield from _ended(streams, generations)
        text = streams[row].push(token_id)
        if streams[row].stopped:
            generations[row].stop()
        yield row, text
    yield from _ended(streams, generations)


def _ended(streams: dict[int, TextStream], generations: Sequence[Generation]) -> Iterator[tuple[int, str]]:
    """The text withheld by finished rows, which leave `streams`."""
    for row in [row for row in streams if generations[row].finish_reason is not None]:
        yield row, streams.pop(row).end()
