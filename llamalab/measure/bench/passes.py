"""The passes of one test of a bench: a cache filled to the test's depth, token ids, and passes timed one by one.

B batch, K KV heads, S cache capacity, E head dim.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.target.filled_cache import fill_to
from llamalab.measure.target.target import tokens_of
from llamalab.measure.timing.clock import Clock
from llamalab.model import StaticKVCache


def time_passes(
    model: Callable[..., object], cache: object, prompt_BT: Tensor | None, steps: Sequence[Tensor], clock: Clock
) -> list[float]:
    """Seconds of the pass over the prompt, if there is one, and of every step after it."""
    clock.mark()
    for tokens_BT in (() if prompt_BT is None else (prompt_BT,)) + tuple(steps):
        model(tokens_BT, cache=cache, logits="last")
        clock.mark()
    return clock.read()


def filled_cache(arch: LlamaArch, case: BenchCase, dtype: str, place: torch.device) -> StaticKVCache:
    """A cache with room for a test that holds `depth` random tokens. Raises DoesNotFitError."""
    cache = StaticKVCache(arch, batch=case.batch, max_tokens=case.context, dtype=dtype, device=place)
    fill_to(cache, case.depth)
    return cache


def case_tokens(arch: LlamaArch, case: BenchCase, place: torch.device) -> tuple[Tensor | None, list[Tensor]]:
    """The prompt, and the tokens of each step as tensors of their own; the same ids everywhere."""
    prompt_BT = tokens_of(arch, case.batch, case.prompt, place) if case.prompt else None
    if not case.generate:
        return prompt_BT, []
    generated_BN = tokens_of(arch, case.batch, case.generate, place)
    return prompt_BT, [generated_BN[:, step : step + 1].contiguous() for step in range(case.generate)]
