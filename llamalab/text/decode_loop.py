"""Decode without synchronisation of the host: step and choice of the token stay on the device.

    prompt -> cache, first token;  then steps: token -> logits -> token, none of them waited for

On CUDA a step is captured once as a graph and replayed. A graph has fixed sizes, so that the position is in a tensor. A
fused step (llamalab.model.fused) reads it there and needs one graph and no mask. Models without a fused step attend to
a window of the cache, with positions after the current one masked; windows double in size, and each has a graph of its
own. On a CPU, and on a device that records no graphs, a step is a plain pass or a fused one.

B batch, T new tokens, S keys in view, W window, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from llamalab.errors import CacheOverflowError, InputError
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.cuda_graph import capture_refusal, captured
from llamalab.model.fused.step import FusedStep, fused_refusal
from llamalab.model.kv_cache.window import WindowKVCache
from llamalab.text.generate import dtype_name

LEAST_WINDOW = 256


@dataclass(frozen=True)
class Choice:
    """How a token is chosen on the device: greedy at temperature 0, else drawn, of the `top_k` likeliest if given.

    >>> Choice()(torch.tensor([[0.1, 2.0, 0.3]]))
    tensor([[1]])
    """

    temperature: float = 0.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or (self.top_k is not None and self.top_k < 1):
            raise InputError(
                f"temperature must be at least 0 and top_k at least 1; got {self.temperature} and {self.top_k}"
            )

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """token_B1 of logits_BV, without synchronisation with the host."""
        if self.temperature == 0:
            return logits_BV.argmax(-1, keepdim=True)
        scaled_BV = logits_BV / self.temperature
        if self.top_k is not None:
            least_B1 = scaled_BV.topk(min(self.top_k, scaled_BV.shape[-1])).values[:, -1:]
            scaled_BV = scaled_BV.masked_fill(scaled_BV < least_B1, float("-inf"))
        # The largest of p / Exp(1) is a draw from p: unlike multinomial it needs no check that the host waits for.
        return (scaled_BV.softmax(-1) / torch.empty_like(scaled_BV).exponential_(1.0)).argmax(-1, keepdim=True)


class DecodeLoop:
    """A model with its cache, continuing a batch of prompts of one length token by token.

    `fused` is whether steps are the few kernels of llamalab.model.fused; by default they are on CUDA, where the model
    can have them; taps and hooks belong on the model before. The attribute of that name is the step, and may be None
    for some steps. `unrecorded` is why the device records no graph of a step; None where it does, and on a CPU.
    Raises UnavailableError where a fused step is asked for and cannot be.

    >>> import llamalab
    >>> loop = DecodeLoop(llamalab.build("stories260k", dtype="fp32"), batch=2, max_tokens=8)
    >>> loop.prefill(torch.tensor([[1, 2, 3], [4, 5, 6]])).shape, loop.steps(4).shape
    (torch.Size([2, 1]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        model: Transformer,
        *,
        batch: int,
        max_tokens: int,
        choice: Choice | None = None,
        fused: bool | None = None,
    ) -> None:
        self.model, self.choice, place = model, choice or Choice(), model.norm.weight.device
        kept = dtype_name(model)
        self.cache = StaticKVCache(model.rank_arch, batch=batch, max_tokens=max_tokens, dtype=kept, device=place)
        if fused is None:
            fused = place.type == "cuda" and fused_refusal(model, self.cache) is None
        self.fused: FusedStep | None = FusedStep(model, self.cache) if fused else None
        self.unrecorded = capture_refusal(place) if place.type == "cuda" else None
        self._token_B1 = torch.zeros(batch, 1, dtype=torch.int64, device=place)
        self._graphs: dict[int | None, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @torch.inference_mode()
    def prefill(self, tokens_BT: Tensor) -> Tensor:
        """Start with a prompt; gives the first token_B1 after it. Raises CacheOverflowError, InputError."""
        self.cache.rewind(0)
        logits_B1V = self.model(tokens_BT, cache=self.cache, logits="last")
        self._token_B1.copy_(self.choice(logits_B1V[:, -1]))
        return self._token_B1.clone()

    @torch.inference_mode()
    def steps(self, count: int) -> Tensor:
        """The next tokens_BT, `count` of them, which are not waited for. Raises CacheOverflowError before any step."""
        if self.cache.length + count > self.cache.max_tokens:
            raise CacheOverflowError(
                f"{count} steps must fit in the KV cache of {self.cache.max_tokens}; it holds {self.cache.length}; "
                "make max_tokens larger"
            )
        made = [self._step().clone() for _ in range(count)]
        return torch.cat(made, dim=1)

    def _step(self) -> Tensor:
        if self._token_B1.is_cuda and self.unrecorded is None:
            window = window_of(self.cache.length + 1, self.cache.max_tokens) if self.fused is None else None
            if window not in self._graphs:
                self._graphs[window] = self._record(window)
            graph, position_1 = self._graphs[window]
            position_1.fill_(self.cache.length)
            graph.replay()
        elif self.fused is not None:
            self.fused.position_1.fill_(self.cache.length)
            self._chosen(self.fused(self._token_B1))
        else:
            return self._chosen(self.model(self._token_B1, cache=self.cache, logits="last"))
        self.cache.advance(1)
        return self._token_B1

    def _chosen(self, logits_B1V: Tensor) -> Tensor:
        return self._token_B1.copy_(self.choice(logits_B1V[:, -1]))

    def _record(self, window: int | None) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """One step as a graph, and the tensor in which it finds its position; without a window the fused one."""
        if self.fused is not None:
            return self._captured(self.fused, self.fused.position_1), self.fused.position_1
        view = WindowKVCache(self.cache, window or self.cache.max_tokens)
        with view.attended_by(self.model):
            step = partial(self.model, cache=view, logits="last")
            return self._captured(step, view.position_1), view.position_1

    def _captured(self, step: Callable[[Tensor], Tensor], position_1: Tensor) -> torch.cuda.CUDAGraph:
        """The graph of a step and its choice; the steps run to warm up write where the real one will."""
        token_B1 = self._token_B1.clone()
        position_1.fill_(self.cache.length)
        try:
            return captured(lambda: self._chosen(step(self._token_B1)), self._token_B1.device, warm_ups=3)
        finally:
            self._token_B1.copy_(token_B1)


def window_of(keys: int, max_tokens: int) -> int:
    """The window for so many keys: 256, or the next power of two, at most the capacity.

    >>> [window_of(keys, 3000) for keys in (1, 256, 257, 2049)]
    [256, 256, 512, 3000]
    """
    return min(max_tokens, max(LEAST_WINDOW, 1 << (keys - 1).bit_length()))
