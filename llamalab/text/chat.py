"""A conversation without repeated prefill: its ids only grow, and the cache keeps theirs.

The ids of a conversation are those that were fed and generated, never re-encoded text, whose split could differ. So a
new question feeds the last id of the answer, its end, and the question; all earlier ids are in the cache. A template
that changes earlier text, as some do, costs the changed part: the cache keeps the equal beginning.
"""

from collections.abc import Callable, Generator, Sequence

from llamalab.errors import InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.text.dialog import Message, check_marks
from llamalab.text.generate import FinishReason, Generation, dtype_name
from llamalab.text.prompt_formats import PromptFormat, prompt_format
from llamalab.text.sampling import Sampler
from llamalab.text.stream import TextStream
from llamalab.text.tokenizer import Tokenizer


class Chat:
    """A conversation with one model, over one cache as long as the model's context.

    `ids` is the whole conversation as the model saw it, `messages` as people read it; `answer_ids` and
    `finish_reason` are those of the latest answer. `sampler` makes the sampler of each answer, so that a
    conversation gives the same answers on every run. `form` is by default the checkpoint's own format, Llama 2's where
    it has none. Raises InputError for marks in the system prompt.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        sampler: Callable[[], Sampler],
        system: str = "",
        max_new_tokens: int = 512,
        kv_dtype: str | None = None,
        form: PromptFormat | None = None,
    ) -> None:
        self.form = form or prompt_format(tokenizer)[0]
        check_marks(system, self.form.marks)
        self.model, self.tokenizer = model, tokenizer
        self.system, self.max_new_tokens = system, max_new_tokens
        self.ids, self.messages = list[int](), list[Message]()
        self.answer_ids = list[int]()
        self.finish_reason: FinishReason | None = None
        self._sampler = sampler
        self.cache = StaticKVCache(
            model.rank_arch,
            batch=1,
            max_tokens=model.arch.max_positions,
            dtype=kv_dtype or dtype_name(model),
            device=model.tok_embeddings.weight.device,
        )

    def reset(self, *, system: str | None = None) -> None:
        """Begin a new conversation, with another system prompt where one is given."""
        if system is not None:
            check_marks(system, self.form.marks)
            self.system = system
        self.ids, self.messages = [], []
        self.cache.rewind()

    def ask(self, question: str) -> Generator[str, None, None]:
        """The answer's text as it is made; closing the iterator, or Ctrl-C within it, ends the answer there.

        An answer of no token at all leaves the conversation as it was. Raises InputError, before any
        work and with nothing changed, for an empty question, one with marks of the format in it, and
        one for which the context has no room.
        """
        check_marks(question, self.form.marks)
        if not question.strip():
            raise InputError("a question must have at least one character; got none; type one, or /quit")
        prompt_ids = self.form.asked(self.ids, self.messages, question, system=self.system)
        if len(prompt_ids) > self.cache.max_tokens:
            raise InputError(
                f"the conversation must fit in the model's context of {self.cache.max_tokens:,} tokens; with this "
                f"question it has {len(prompt_ids):,}; ask a shorter one or start anew with /reset"
            )
        self.cache.rewind(min(self.cache.length, _shared(self.ids, prompt_ids), len(prompt_ids) - 1))
        generation = Generation(
            self.model,
            prompt_ids,
            max_new_tokens=self.max_new_tokens,
            sampler=self._sampler(),
            stop_ids=self.form.stop_ids,
            cache=self.cache,
            vocab_size=self.tokenizer.vocab_size,
        )
        self.answer_ids, self.finish_reason = generation.ids, None
        return self._answer(question, generation)

    def _answer(self, question: str, generation: Generation) -> Generator[str, None, None]:
        stream, answer = TextStream(self.tokenizer, stops=self.tokenizer.settings.stop_strings), ""
        stream.prompt(generation.prompt_ids)
        before_stop = 0  # how many ids have no part of a stop string
        try:
            for token_id in generation:
                text = stream.push(token_id)
                if stream.stopped:
                    generation.stop()
                elif not stream.holds_text:
                    before_stop = len(generation.ids)
                # The space between a question and its answer does not belong to the answer.
                text = text if answer else text.lstrip()
                answer += text
                yield text
            rest = stream.end()
            answer += rest
            yield rest
        finally:
            self.finish_reason = generation.finish_reason
            if stream.stopped:
                del generation.ids[before_stop:]
                self._rewind(len(generation.prompt_ids) + before_stop)
            self._keep(question, answer, generation)

    def _keep(self, question: str, answer: str, generation: Generation) -> None:
        if generation.ids or generation.finish_reason == "stop":
            self.ids = [*generation.prompt_ids, *generation.ids, *self.form.closing]
            self.messages += [Message("user", question.strip()), Message("assistant", answer.strip())]
        else:
            self._rewind(len(self.ids))

    def _rewind(self, tokens: int) -> None:
        """Keep at most so many tokens of the cache; none where a window has dropped tokens that they need."""
        kept = min(self.cache.length, tokens)
        self.cache.rewind(kept if self.cache.holds(kept) else 0)


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """The length of the common beginning of two lists of ids."""
    pairs = zip(ids, others, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))
