"""Experts activated by a batch: the weights of each are read once, whatever its number of tokens.

    expected distinct experts = N (1 - (1 - k / N)**tokens)

for tokens that pick k of N independently and uniformly: a trained router is balanced to be near that, and a batch of
one activates k, a long prompt all. One expert's product is done for the tokens that picked it, k / N of them on
average.
"""

from math import ceil

from llamalab.analytic.params import parameter_count
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts


def experts_touched(experts: Experts, tokens: int, ranks: int = 1) -> float:
    """The expected number of distinct experts picked by the tokens, of those that one of `ranks` ranks holds.

    >>> mixtral = Experts(8, 2, 14336)
    >>> experts_touched(mixtral, 1), round(experts_touched(mixtral, 4), 2), round(experts_touched(mixtral, 64), 2)
    (2.0, 5.47, 8.0)
    """
    share = experts.n_active / experts.n_experts
    # From the complement's powers, exact for one token: no rounding below k.
    return experts.n_experts / ranks * (1 - (1 - share) ** tokens)


def expert_rows(experts: Experts, tokens: int, ranks: int = 1) -> int:
    """Pairs of a token and an expert that it picked, on one rank, rounded up.

    >>> expert_rows(Experts(8, 2, 14336), 3), expert_rows(Experts(8, 2, 14336), 3, 8)
    (6, 1)
    """
    return ceil(tokens * experts.n_active / ranks)


def active_parameters(arch: LlamaArch) -> int:
    """Parameters used for one token: all but the experts that it does not pick.

    >>> from llamalab.presets import PRESETS
    >>> active_parameters(PRESETS["mixtral-8x7b"].arch), active_parameters(PRESETS["7b"].arch)
    (12879925248, 6738415616)
    """
    if arch.experts is None:
        return parameter_count(arch)
    idle, width = arch.experts.n_experts - arch.experts.n_active, arch.experts.ffn_dim
    one = 3 * arch.dim * width + (2 * width + arch.dim if arch.experts.biases else 0)
    return parameter_count(arch) - (arch.n_layers - arch.dense_layers) * idle * one
