"""Speculative decoding: a small model proposes tokens, the large one checks all of them in one pass.

    proposal x ~ q of the draft; kept with probability min(1, p(x) / q(x)) under p of the large model
    the first that is not kept gives way to a draw from max(0, p - q); after all are kept one more is drawn from p

The output has the distribution of the large model alone, and is its greedy text where the sampler is greedy (Leviathan,
Kalman, Matias 2023, arXiv 2211.17192). Both models keep their caches, and drop the tokens that were not kept.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.text.generate import FinishReason, check_prompt, dtype_name
from llamalab.text.sampling import Sampler


class Round(NamedTuple):
    """How many tokens were proposed, and how many of them were kept."""

    proposed: int
    accepted: int


class Speculation:
    """New token ids of `model`, proposed by `draft`: iterate once.

    `ids` is what has been made, `rounds` the counts of each round, `finish_reason` as a Generation's. Ids from
    `vocab_size` on are never chosen. Raises InputError for what a Generation refuses, models of different vocabularies,
    and a sliding window shorter than the text, whose tokens cannot be taken back.
    """

    def __init__(
        self,
        model: Transformer,
        draft: Transformer,
        prompt_ids: Sequence[int],
        *,
        proposals: int,
        max_new_tokens: int,
        sampler: Sampler,
        stop_ids: Collection[int] = (),
        vocab_size: int | None = None,
    ) -> None:
        if model.arch.vocab_size != draft.arch.vocab_size:
            raise InputError(
                "a draft must have the vocabulary of the model that it proposes to, "
                f"{model.arch.vocab_size} ids; got {draft.arch.vocab_size}; take models of one tokenizer"
            )
        context = min(model.arch.max_positions, draft.arch.max_positions)
        check_prompt(prompt_ids, vocab_size=model.arch.vocab_size, context=context)
        whole(max_new_tokens, "max_new_tokens")
        self.ids, self.rounds = list[int](), list[Round]()
        self.finish_reason: FinishReason | None = None
        self._text, self._prompt = list(prompt_ids), len(prompt_ids)
        self._proposals, self._sampler = whole(proposals, "proposals"), sampler
        self._stop_ids, self._vocab_size = frozenset(stop_ids), vocab_size
        room = context - len(prompt_ids) + 1
        self._steps = min(max_new_tokens, room)
        self._at_end: FinishReason = "length" if max_new_tokens <= room else "context"
        longest = len(prompt_ids) + self._steps
        self._model, self._draft = (_Reader(one, longest) for one in (model, draft))
        self._tokens = self._made()

    def __iter__(self) -> Iterator[int]:
        return self._tokens

    @property
    def accepted_length(self) -> float:
        """The mean number of proposals that a round kept; 0 before the first."""
        return sum(one.accepted for one in self.rounds) / len(self.rounds) if self.rounds else 0.0

    def _made(self) -> Iterator[int]:
        while self.finish_reason is None:
            for token_id in self._round(min(self._proposals, self._steps - len(self.ids) - 1)):
                if token_id in self._stop_ids:
                    self.finish_reason = "stop"
                    break
                self.ids.append(token_id)
                yield token_id
            if self.finish_reason is None and len(self.ids) == self._steps:
                self.finish_reason = self._at_end

    def _round(self, proposals: int) -> list[int]:
        """The tokens of one round, at least one; both caches end before the last of them."""
        drafted = self._propose(proposals)
        told_TV = self._model.read([*self._text, *(token_id for token_id, _ in drafted)], proposals + 1)
        fresh: list[int] = []
        for (token_id, by_draft_V), logits_V in zip(drafted, told_TV, strict=False):
            weights_V = self._weights(logits_V, fresh)
            if self._sampler.keeps(float(weights_V[token_id] / by_draft_V[token_id])):
                fresh.append(token_id)
                continue
            fresh.append(self._sampler.draw((weights_V - by_draft_V).clamp_(min=0)))
            break
        else:
            fresh.append(self._sampler.draw(self._weights(told_TV[-1], fresh)))
        self.rounds.append(Round(proposals, len(fresh) - 1))
        self._text += fresh
        for reader in (self._model, self._draft):
            reader.keep(len(self._text) - 1)
        return fresh

    def _propose(self, proposals: int) -> list[tuple[int, Tensor]]:
        """Ids sampled from the draft, one after the other, each with its distribution."""
        drafted: list[tuple[int, Tensor]] = []
        for _ in range(proposals):
            before = [token_id for token_id, _ in drafted]
            weights_V = self._weights(self._draft.read([*self._text, *before], 1)[0], before)
            drafted.append((self._sampler.draw(weights_V), weights_V))
        return drafted

    def _weights(self, logits_V: Tensor, fresh: Sequence[int]) -> Tensor:
        return self._sampler.distribution(logits_V[: self._vocab_size], [*self._text, *fresh])


class _Reader:
    """A model with the cache of the text it has processed."""

    def __init__(self, model: Transformer, max_tokens: int) -> None:
        if model.arch.window is not None and model.arch.window < max_tokens:
            raise InputError(
                f"a draft's text must fit into the sliding window of {model.arch.window} tokens, which cannot take "
                f"back what it let go; it may get {max_tokens} tokens; generate fewer"
            )
        self._model, self._device = model, model.tok_embeddings.weight.device
        self._cache = StaticKVCache(
            model.rank_arch, batch=1, max_tokens=max_tokens, dtype=dtype_name(model), device=self._device
        )

    def read(self, text: Sequence[int], last: int) -> Tensor:
        """logits_TV after each of the `last` tokens of a text; only tokens missing in the cache are fed."""
        fed_BT = torch.tensor([text[self._cache.length :]], device=self._device)
        with torch.inference_mode():
            if last > 1 and fed_BT.shape[1] > last:  # a prompt before them needs no logits
                self._model(fed_BT[:, :-last], cache=self._cache, logits="last")
                fed_BT = fed_BT[:, -last:]
            logits_TV: Tensor = self._model(fed_BT, cache=self._cache, logits="last" if last == 1 else "all")[0]
            return logits_TV

    def keep(self, tokens: int) -> None:
        """Drop the tokens after the first so many."""
        self._cache.rewind(min(tokens, self._cache.length))
