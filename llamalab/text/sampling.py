"""The choice of the next token: greedy, or sampled from softmax(logits / temperature) cut by top-k, top-p and min-p.

Top-p keeps the tokens of which the more probable ones together weigh at most p, so always one
(Holtzman et al. 2020, arXiv 1904.09751; the cut as in meta-llama/llama generation.py, sample_top_p).
Min-p keeps those that weigh at least p times the heaviest (Nguyen et al. 2024, arXiv 2407.01082).
A repetition penalty r takes the logits of tokens seen before to l / r where l > 0 and l * r elsewhere
(Keskar et al. 2019, arXiv 1909.05858), before everything else and for greedy too.

Draws are made on the CPU in fp64 from the sampler's own generator: a seed gives the same tokens on
every run and device, as far as the logits are the same.
"""

import math
from collections.abc import Collection

import torch

from llamalab.errors import InputError
from llamalab.text.ranges import check_sampling


class Sampler:
    """Picks a token id from logits_V; temperature 0 is greedy and draws nothing.

    Raises InputError for what llamalab.text.ranges does not allow.

    >>> Sampler(temperature=0.0)(torch.tensor([0.5, 2.0, -1.0]))
    1
    >>> Sampler(temperature=0.0, repetition_penalty=5.0)(torch.tensor([0.5, 2.0, -1.0]), seen=[1])
    0
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> None:
        check_sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        self._temperature, self._top_k, self._top_p, self._min_p = temperature, top_k, top_p, min_p
        self._penalty = repetition_penalty
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: torch.Tensor, seen: Collection[int] = ()) -> int:
        """The chosen id; `seen` are those of the text so far, for the repetition penalty.

        Raises InputError where the largest logit is no number, as from a damaged checkpoint.
        """
        logits_V = self._checked(logits_V, seen)
        return int(logits_V.argmax()) if self._temperature == 0 else self.draw(self.probabilities(logits_V))

    def distribution(self, logits_V: torch.Tensor, seen: Collection[int] = ()) -> torch.Tensor:
        """The probability of every id to be chosen, in fp64 on the CPU; greedy: 1 for the likeliest. Raises as a call.

        >>> Sampler(temperature=0.0).distribution(torch.tensor([0.5, 2.0, -1.0])).tolist()
        [0.0, 1.0, 0.0]
        """
        logits_V = self._checked(logits_V, seen)
        if self._temperature > 0:
            return self.probabilities(logits_V)
        return torch.zeros(len(logits_V), dtype=torch.float64).index_fill_(0, logits_V.argmax().cpu(), 1.0)

    def draw(self, weights_V: torch.Tensor) -> int:
        """An id drawn by weights of at least 0, which need not add up to 1."""
        return int(torch.multinomial(weights_V, 1, generator=self._generator))

    def keeps(self, probability: float) -> bool:
        """Whether an event of that probability occurs."""
        return probability >= 1 or float(torch.rand((), dtype=torch.float64, generator=self._generator)) < probability

    def _checked(self, logits_V: torch.Tensor, seen: Collection[int]) -> torch.Tensor:
        """Finite logits, with the repetition penalty."""
        largest = float(logits_V.max())  # NaN anywhere makes it NaN
        if not math.isfinite(largest):
            raise InputError(
                f"logits must be finite; the largest is {largest}: the checkpoint is damaged, or its values overflow "
                "in this dtype; try fp32"
            )
        return self._penalised(logits_V, seen) if self._penalty != 1 and seen else logits_V

    def probabilities(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The probabilities of a draw, in fp64 on the CPU: sums to 1, exactly 0 for every token cut off.

        Only for a temperature above 0.
        """
        logits_V = logits_V.detach().to("cpu", torch.float64)
        # The largest becomes 0 first, so that no temperature, however small, makes it overflow.
        probs_V = torch.softmax((logits_V - logits_V.max()) / self._temperature, dim=-1)
        sorted_V, ids_V = probs_V.sort(descending=True, stable=True)
        if self._top_k is not None:
            sorted_V[self._top_k :] = 0
            sorted_V /= sorted_V.sum()
        if self._top_p < 1:  # at 1 the rounding of the sum must not cut the last ones
            heavier_V = sorted_V.cumsum(0) - sorted_V
            sorted_V[heavier_V > self._top_p] = 0
        sorted_V[sorted_V < self._min_p * sorted_V[0]] = 0
        return torch.zeros_like(probs_V).scatter_(0, ids_V, sorted_V / sorted_V.sum())

    def _penalised(self, logits_V: torch.Tensor, seen: Collection[int]) -> torch.Tensor:
        ids = torch.tensor(sorted({token_id for token_id in seen if token_id < len(logits_V)}), device=logits_V.device)
        own = logits_V[ids]
        return logits_V.index_copy(0, ids, torch.where(own > 0, own / self._penalty, own * self._penalty))
