"""How does a model continue a prompt? The prompt in one pass, then token by token from the cache.

A token of the prompt or of the text takes one place of the context when it is fed to the model; the
last token is not fed, so a prompt of n tokens leaves room for max_positions - n + 1 new ones.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import torch

from llamalab.errors import InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.dtypes import ACTIVATION_DTYPES, torch_dtype
from llamalab.text.sampling import Sampler

FinishReason = Literal["stop", "length", "context"]


class Generation:
    """New token ids, one by one as they are made: iterate once.

    `finish_reason` is None until the last one, then "stop" (an id of `stop_ids` came, which is not
    yielded), "length" (`max_new_tokens` are made) or "context" (the model's context is full).
    Nothing is computed before the first id is asked for. Raises InputError for an empty prompt, one
    longer than the context, an id outside the vocabulary, and max_new_tokens below 1.
    """

    def __init__(
        self,
        model: Transformer,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        sampler: Sampler,
        stop_ids: Collection[int] = (),
    ) -> None:
        _check_prompt(prompt_ids, vocab_size=model.arch.vocab_size, context=model.arch.max_positions)
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1; got {max_new_tokens}")
        self.finish_reason: FinishReason | None = None
        self._model, self._sampler, self._stop_ids = model, sampler, frozenset(stop_ids)
        room = model.arch.max_positions - len(prompt_ids) + 1
        self._steps = min(max_new_tokens, room)
        self._at_end: FinishReason = "length" if max_new_tokens <= room else "context"
        self._tokens = self._run(list(prompt_ids))

    def __iter__(self) -> Iterator[int]:
        return self._tokens

    def _run(self, fed: list[int]) -> Iterator[int]:
        model = self._model
        weight = model.tok_embeddings.weight
        cache = StaticKVCache(
            model.arch,
            batch=1,
            max_tokens=len(fed) + self._steps - 1,
            dtype=_name_of(weight.dtype),
            device=weight.device,
        )
        for _ in range(self._steps):
            tokens_BT = torch.tensor([fed], device=weight.device)
            # Not around the loop: a suspended generator would leave its caller in inference mode.
            with torch.inference_mode():
                logits_BTV = model(tokens_BT, cache=cache, logits="last")
                token_id = self._sampler(logits_BTV[0, -1])
            if token_id in self._stop_ids:
                self.finish_reason = "stop"
                return
            yield token_id
            fed = [token_id]
        self.finish_reason = self._at_end


def _check_prompt(prompt_ids: Sequence[int], *, vocab_size: int, context: int) -> None:
    if not prompt_ids:
        raise InputError("a prompt must have at least one token; got none; begin it with BOS")
    if len(prompt_ids) > context:
        raise InputError(
            f"a prompt must be at most {context:,} tokens, the model's context; got {len(prompt_ids):,}; shorten it"
        )
    for token_id in prompt_ids:
        if not 0 <= token_id < vocab_size:
            raise InputError(f"a token id must be from 0 to {vocab_size - 1}; got {token_id}")


def _name_of(dtype: torch.dtype) -> str:
    """The cache holds what the model computes in."""
    for name in ACTIVATION_DTYPES:
        if torch_dtype(name) is dtype:
            return name
    raise InputError(f"dtype of a model must be one of {', '.join(ACTIVATION_DTYPES)} to generate; got {dtype}")
