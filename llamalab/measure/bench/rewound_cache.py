"""The cache of a Hugging Face model in a bench: filled to a depth once, and cropped to it before every repetition.

B batch, T new tokens.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.target.target import cache_that_rewinds, tokens_of


class RewoundCache:
    """A DynamicCache that holds the first `depth` tokens of a test; at depth 0 a new one for every repetition."""

    def __init__(self, model: Any, case: BenchCase, arch: Any) -> None:
        self._model, self._depth = model, case.depth
        self.held = cache_that_rewinds(model)
        if case.depth:
            place = next(model.parameters()).device
            model(tokens_of(arch, case.batch, case.depth, place), past_key_values=self.held, logits_to_keep=1)
            self.held.crop(0)  # sliding-window layers hold only their window

    def rewind(self, length: int = 0, *, lossy: bool = False) -> None:
        """Remove the tokens after the first `length`."""
        if not self._depth:
            self.held = cache_that_rewinds(self._model)
        elif (beyond := self.held.get_seq_length() - length) > 0:
            self.held.crop(-beyond)


def as_called(model: Any) -> Callable[..., object]:
    """A model of transformers, called as a Transformer is: tokens_BT, its cache, and which logits are wanted."""

    def call(tokens_BT: Tensor, *, cache: RewoundCache, logits: str) -> object:
        return model(tokens_BT, past_key_values=cache.held, use_cache=True, logits_to_keep=1)

    return call
