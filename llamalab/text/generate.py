"""Continuing a prompt: the prompt in one pass, then token by token from the cache.

A token of the prompt or of the text takes one place of the context when it is fed to the model; the last token is not
fed, so that a prompt of n tokens leaves room for max_positions - n + 1 new ones.

Several prompts run together: each fills its cache alone, and from then on all of them share every pass over the weights
and, where their caches are adjacent, one call of attention (llamalab.model.kv_cache.ragged). A finished row leaves,
and a waiting one takes its place.

Log-probabilities are those of the raw logits, log_softmax(logits) at temperature 1 and before any
cut, so that they do not depend on how tokens are chosen.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import torch

from llamalab.checks import whole
from llamalab.choices import ACTIVATION_DTYPES
from llamalab.errors import InputError
from llamalab.model import RaggedKVCache, StaticKVCache, Transformer, torch_dtype
from llamalab.text.sampling import Sampler

FinishReason = Literal["stop", "length", "context"]
_MOST_PADDING = 2  # most memory of equally long rows, which attend in one call, over that of rows as long as each needs


class Generation:
    """New token ids, one by one as they are made: iterate once, alone or `together` with others.

    `ids` and `logprobs` are what has been made, `finish_reason` is None until the last one, then
    "stop" (an id of `stop_ids` came, which is not yielded, or `stop` was called), "length"
    (`max_new_tokens` are made) or "context" (the model's context is full). With `score_prompt`,
    `prompt_logprobs` has the log-probability of every prompt token but the first, which has none.

    `cache` may hold the first tokens of the prompt, from an earlier text with the same beginning; only
    the others are fed. Without one a cache of the size needed is made, stored in `kv_dtype` (default: the
    model's). Ids from `vocab_size` on are never chosen: rows of an embedding that was padded. Nothing
    is computed before the first id is asked for.

    Raises InputError for an empty prompt, one longer than the context, an id outside the vocabulary,
    max_new_tokens below 1, and a cache that holds the whole prompt or more.
    """

    def __init__(
        self,
        model: Transformer,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        sampler: Sampler,
        stop_ids: Collection[int] = (),
        cache: StaticKVCache | None = None,
        kv_dtype: str | None = None,
        vocab_size: int | None = None,
        score_prompt: bool = False,
    ) -> None:
        context = model.arch.max_positions if cache is None else min(cache.max_tokens, model.arch.max_positions)
        check_prompt(prompt_ids, vocab_size=model.arch.vocab_size, context=context)
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1; got {max_new_tokens}")
        if cache is not None and (cache.length >= len(prompt_ids) or score_prompt):
            raise InputError(
                "a cache must hold less than the prompt, and no prompt is scored that it holds part of; "
                f"it holds {cache.length} of {len(prompt_ids)} tokens"
            )
        self.prompt_ids, self.ids = list(prompt_ids), list[int]()
        self.logprobs, self.prompt_logprobs = list[float](), list[float]()
        self.finish_reason: FinishReason | None = None
        self.model, self.sampler = model, sampler
        self._stop_ids, self._vocab_size, self._score_prompt = frozenset(stop_ids), vocab_size, score_prompt
        room = context - len(prompt_ids) + 1
        self._steps = min(max_new_tokens, room)
        self._at_end: FinishReason = "length" if max_new_tokens <= room else "context"
        self._cache, self._kv_dtype = cache, kv_dtype or dtype_name(model)
        self._tokens = (token_id for _, token_id in together([self]))

    def __iter__(self) -> Iterator[int]:
        return self._tokens

    def stop(self) -> None:
        """End the generation after the last token."""
        self.finish_reason = "stop"

    @property
    def cache(self) -> StaticKVCache:
        """The cache it fills; made when it is first needed."""
        if self._cache is None:
            self._cache = self._new_cache(1, self._most_tokens)
        return self._cache

    @property
    def _most_tokens(self) -> int:
        return len(self.prompt_ids) + self._steps - 1

    def _new_cache(self, batch: int, max_tokens: int) -> StaticKVCache:
        place = self.model.tok_embeddings.weight.device
        return StaticKVCache(
            self.model.rank_arch, batch=batch, max_tokens=max_tokens, dtype=self._kv_dtype, device=place
        )

    def _prefill(self) -> torch.Tensor:
        """logits_V after the prompt."""
        fed = self.prompt_ids[self.cache.length :]
        tokens_BT = torch.tensor([fed], device=self.model.tok_embeddings.weight.device)
        with torch.inference_mode():
            which = "all" if self._score_prompt else "last"
            logits_TV: torch.Tensor = self.model(tokens_BT, cache=self.cache, logits=which)[0]
            if self._score_prompt:
                logprobs_TV = torch.log_softmax(logits_TV[:-1], dim=-1)
                self.prompt_logprobs = logprobs_TV.gather(1, tokens_BT[0, 1:, None])[:, 0].tolist()
            return logits_TV[-1]

    def _take(self, logits_V: torch.Tensor) -> bool:
        """Choose the next id and keep it; False where it is one to stop at."""
        with torch.inference_mode():
            token_id = self.sampler(logits_V[: self._vocab_size], [*self.prompt_ids, *self.ids])
            if token_id in self._stop_ids:
                self.finish_reason = "stop"
                return False
            self.ids.append(token_id)
            self.logprobs.append(float(torch.log_softmax(logits_V, dim=-1)[token_id]))
            return True

    def _is_over(self) -> bool:
        if self.finish_reason is None and len(self.ids) == self._steps:
            self.finish_reason = self._at_end
        return self.finish_reason is not None


def together(generations: Sequence[Generation], *, at_once: int | None = None) -> Iterator[tuple[int, int]]:
    """(row, id) of several generations as they are made, one decode pass for all rows that go on.

    With `at_once` no more rows than so many go on at a time: the next one reads its prompt when another has ended.
    Every row gives what it would give alone, up to the rounding of sums in another order. Raises InputError for no
    rows, rows of several models, and rows that share a sampler or a cache, as each would then depend on the others.
    """
    _check_rows(generations)
    slots = min(len(generations), len(generations) if at_once is None else whole(at_once, "at_once"))
    waiting = deque(enumerate(generations))
    places = _side_by_side(generations, slots)
    alive: list[tuple[int, Generation]] = []
    while waiting or alive:
        while waiting and len(alive) < slots:
            row, generation = waiting.popleft()
            if places is not None:
                generation._cache = places.row(len(alive))
            if generation._take(generation._prefill()):
                yield row, generation.ids[-1]
                if not generation._is_over():
                    alive.append((row, generation))
        logits_BV = _decode([generation for _, generation in alive]) if alive else ()
        for (row, generation), logits_V in zip(list(alive), logits_BV, strict=True):
            if generation._take(logits_V):
                yield row, generation.ids[-1]
                generation._is_over()
        alive = _closed_up(alive)


def _side_by_side(generations: Sequence[Generation], slots: int) -> StaticKVCache | None:
    """One cache with a row for each that runs at a time, all as long as the longest; None where that is no gain.

    It is none for a single row, for caches that were given or are stored in several ways, and where rows of one length
    would take more than twice the memory.
    """
    longest = max(one._most_tokens for one in generations)
    alike = len({one._kv_dtype for one in generations}) == 1 and all(one._cache is None for one in generations)
    needed = sum(sorted((one._most_tokens for one in generations), reverse=True)[:slots])
    if slots == 1 or not alike or slots * longest > _MOST_PADDING * needed:
        return None
    return generations[0]._new_cache(slots, longest)


def _closed_up(rows: list[tuple[int, Generation]]) -> list[tuple[int, Generation]]:
    """The rows that go on; in a shared cache the last ones take the places of those that have ended."""
    alive = list(rows)
    for place in range(len(rows) - 1, -1, -1):
        if alive[place][1].finish_reason is not None:
            last = alive.pop()
            if place < len(alive):
                home = alive[place][1].cache.home
                alive[place] = last
                if home is not None:
                    last[1].cache.settle(*home)
    return alive


def dtype_name(model: Transformer) -> str:
    """The dtype of computation, by llamalab's name."""
    dtype = model.tok_embeddings.weight.dtype
    for name in ACTIVATION_DTYPES:
        if torch_dtype(name) is dtype:
            return name
    raise InputError(f"dtype of a model must be one of {', '.join(ACTIVATION_DTYPES)} to generate; got {dtype}")


def _decode(generations: Sequence[Generation]) -> torch.Tensor:
    """logits_BV after the last token of each."""
    model = generations[0].model
    tokens_B1 = torch.tensor([[generation.ids[-1]] for generation in generations])
    caches = [generation.cache for generation in generations]
    # Not around the loop: a suspended generator would leave its caller in inference mode.
    with torch.inference_mode():
        logits_B1V: torch.Tensor = model(
            tokens_B1.to(model.tok_embeddings.weight.device),
            cache=caches[0] if len(caches) == 1 else RaggedKVCache(caches),
            logits="last",
        )
        return logits_B1V[:, -1]


def _check_rows(generations: Sequence[Generation]) -> None:
    if not generations:
        raise InputError("a batch must have at least one prompt; got none")
    if any(generation.model is not generations[0].model for generation in generations):
        raise InputError("the generations of a batch must be of one model; got several")
    given = [generation._cache for generation in generations if generation._cache is not None]
    samplers = [generation.sampler for generation in generations]
    if len(set(map(id, samplers))) < len(samplers) or len(set(map(id, given))) < len(given):
        raise InputError("each generation of a batch must have a sampler and a cache of its own; some share one")


def check_prompt(prompt_ids: Sequence[int], *, vocab_size: int, context: int) -> None:
    """Raise InputError for a prompt that is empty, longer than the context, or of ids outside the vocabulary."""
    if not prompt_ids:
        raise InputError("a prompt must have at least one token; got none; begin it with BOS")
    if len(prompt_ids) > context:
        raise InputError(
            f"a prompt must be at most {context:,} tokens, the model's context; got {len(prompt_ids):,}; shorten it"
        )
    for token_id in prompt_ids:
        if not 0 <= token_id < vocab_size:
            raise InputError(f"a token id must be from 0 to {vocab_size - 1}; got {token_id}")
