"""Which token comes next? Greedy, or drawn from softmax(logits / temperature) cut by top-k and top-p.

Top-p keeps the tokens whose more probable rivals together weigh at most p, so always one
(Holtzman et al. 2020, arXiv 1904.09751; the cut as in meta-llama/llama generation.py, sample_top_p).
Draws are made on the CPU in fp64 from the sampler's own generator: a seed gives the same tokens on
every run and device, as far as the logits are the same.
"""

import math

import torch

from llamalab.errors import InputError

_MAX_SEED = 2**63 - 1


class Sampler:
    """Picks a token id from logits_V; temperature 0 is greedy and draws nothing.

    Raises InputError for a temperature below 0, top_k below 1, top_p outside (0, 1] or a seed
    outside 0 to 2**63 - 1.

    >>> Sampler(temperature=0.0)(torch.tensor([0.5, 2.0, -1.0]))
    1
    """

    def __init__(
        self, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, seed: int = 0
    ) -> None:
        if not 0 <= temperature < math.inf:
            raise InputError(f"temperature must be 0 (greedy) or a positive number; got {temperature}")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1 token; got {top_k}")
        if not 0 < top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1; got {top_p}")
        if not 0 <= seed <= _MAX_SEED:
            raise InputError(f"seed must be a whole number from 0 to 2**63 - 1; got {seed}")
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: torch.Tensor) -> int:
        """The chosen id. Raises InputError where the largest logit is no number, as from a damaged checkpoint."""
        largest = float(logits_V.max())  # NaN anywhere makes it NaN
        if not math.isfinite(largest):
            raise InputError(
                f"logits must be finite; the largest is {largest}: the checkpoint is damaged, or its values overflow "
                "in this dtype; try fp32"
            )
        if self._temperature == 0:
            return int(logits_V.argmax())
        return int(torch.multinomial(self.probabilities(logits_V), 1, generator=self._generator))

    def probabilities(self, logits_V: torch.Tensor) -> torch.Tensor:
        """What a draw goes by, in fp64 on the CPU: sums to 1, exactly 0 for every token cut off.

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
        return torch.zeros_like(probs_V).scatter_(0, ids_V, sorted_V / sorted_V.sum())
