"""A model with one of four kinds of KV cache, or none: filled, a step further, and greedily on."""

import math
from collections.abc import Callable

import torch

from llamalab.model import DynamicKVCache, StaticKVCache, Transformer

KINDS = ("none", "static", "dynamic", "int8")
DTYPE = "fp32"
Cache = StaticKVCache | DynamicKVCache


def filled(model: Transformer, kind: str, tokens_BT: torch.Tensor, max_tokens: int) -> Cache | None:
    """A cache of that kind that holds the tokens; None for none."""
    if kind == "none":
        return None
    cache: Cache
    if kind == "dynamic":
        cache = DynamicKVCache(model.arch, batch=1, dtype=DTYPE)
    else:
        cache = StaticKVCache(model.arch, batch=1, max_tokens=max_tokens, dtype="int8" if kind == "int8" else DTYPE)
    if tokens_BT.numel():
        model(tokens_BT, cache=cache, logits="last")
    return cache


def one_step(model: Transformer, cache: Cache | None, tokens_BT: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The pass that gives the logits after the last token: over all of them where there is no cache."""
    new_BT = tokens_BT if cache is None else tokens_BT[:, -1:].clone()
    return lambda: model(new_BT, cache=cache, logits="last")


def greedy(model: Transformer, kind: str, prompt_ids: list[int], count: int) -> list[int]:
    """The likeliest tokens, one by one."""
    ids = list(prompt_ids)
    cache = filled(model, kind, torch.tensor([ids[:-1]]), len(ids) + count)
    for _ in range(count):
        logits_B1V = one_step(model, cache, torch.tensor([ids]))()
        ids.append(int(logits_B1V.argmax()))
    return ids[len(prompt_ids) :]


def perplexity(logits_TV: torch.Tensor, ids: list[int]) -> float:
    """The exponential of the mean negative log-probability of every token but the first."""
    losses = torch.nn.functional.cross_entropy(logits_TV[:-1].double(), torch.tensor(ids[1:]))
    return math.exp(float(losses))
