"""The largest activations of a whole prompt in one pass, for any length: each moment as a parabola in its tokens.

Bytes at a moment are linear in the tokens, and those of scores quadratic, in whole numbers where an element takes
whole bytes: three prompts determine them (Newton's forward differences). Other passes are counted one by one.
"""

from functools import lru_cache

from llamalab.analytic.activations import live_moments, peak_activation_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.units import takes_whole_bytes

_KEPT = 1024
_FROM = 2  # tokens; a single one has other moments


def peak_of_prompt(arch: LlamaArch, shape: PassShape) -> int:
    """Bytes of the largest step, as analytic.activations.peak_activation_bytes counts them.

    >>> from llamalab.presets import PRESETS
    >>> peak_of_prompt(PRESETS["7b"].arch, PassShape(new_tokens=512))
    57933824
    """
    if shape.new_tokens < _FROM or shape.context != shape.new_tokens or not takes_whole_bytes(shape.dtype):
        return _counted(arch, shape)
    more = shape.new_tokens - _FROM
    pairs = more * (more - 1) // 2
    parabolas = _parabolas(arch, shape._replace(new_tokens=_FROM, context_tokens=_FROM))
    return max([first + each * more + square * pairs for first, each, square in parabolas])


@lru_cache(maxsize=_KEPT)
def _counted(arch: LlamaArch, shape: PassShape) -> int:
    return peak_activation_bytes(arch, shape).bytes


@lru_cache(maxsize=_KEPT)
def _parabolas(arch: LlamaArch, shape: PassShape) -> list[tuple[int, int, int]]:
    """Of each moment that is not below another its bytes, what a token more adds, and how much that grows with each."""
    prompts = (shape._replace(new_tokens=tokens, context_tokens=tokens) for tokens in range(_FROM, _FROM + 3))
    held = ([moment.bytes for moment in live_moments(arch, prompt)] for prompt in prompts)
    all_ = {(one, two - one, three - 2 * two + one) for one, two, three in zip(*held, strict=True)}
    return [here for here in all_ if not any(here != other and _is_below(here, other) for other in all_)]


def _is_below(here: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(less <= more for less, more in zip(here, other, strict=True))
