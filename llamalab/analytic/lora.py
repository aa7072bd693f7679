"""The cost of a LoRA adapter: r (in + out) parameters for each matrix it targets.

W (out, in) gets B A with A (r, in) and B (out, r). Merged, it costs nothing more to run; in training it, unlike the
frozen weights, needs a gradient and two moments of AdamW, in fp32 beside its fp32 value: 16 bytes a parameter,
as a model trained in full does. Source: Hu et al. 2021, arXiv 2106.09685.
"""

from collections.abc import Iterable

from llamalab.analytic.params import Weight, weights
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import InputError, UnknownNameError
from llamalab.startup.hints import NamedTuple

TRAINING_BYTES_PER_PARAMETER = 16
TARGETS = {
    "q": "attention.wq",
    "k": "attention.wk",
    "v": "attention.wv",
    "o": "attention.wo",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "down": "feed_forward.w2",
}


class Lora(NamedTuple):
    """The rank and the targets of an adapter; targets are keys of TARGETS."""

    rank: int
    targets: tuple[str, ...]


class LoraPair(NamedTuple):
    """A and B of one target; `layers` is how often they occur."""

    target: str
    weight: str
    a_shape: tuple[int, int]
    b_shape: tuple[int, int]
    layers: int

    @property
    def parameters(self) -> int:
        """Of all layers together."""
        return self.layers * (self.a_shape[0] * self.a_shape[1] + self.b_shape[0] * self.b_shape[1])


def named_targets(words: Iterable[str]) -> tuple[str, ...]:
    """Targets as users write them: their names, or `all`, which PEFT calls all-linear.

    >>> named_targets(["q", "v"]), named_targets(["all"]) == tuple(TARGETS)
    (('q', 'v'), True)
    """
    names = tuple(word.strip() for word in words)
    return tuple(TARGETS) if names in (("all",), ("all-linear",)) else names


def parse_lora(text: str) -> Lora:
    """Read an adapter as users write it: r=16,targets=q,v. Raises InputError.

    >>> parse_lora("r=16,targets=q,v")
    Lora(rank=16, targets=('q', 'v'))
    """
    rank, targets, key = "", [], ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip()
            if key not in ("r", "targets"):
                raise UnknownNameError("the keys of an adapter", key, ("r", "targets"))
        if key == "r" and equals and not rank:
            rank = value.strip()
        elif key == "targets":
            targets.append((value if equals else part).strip())
        else:
            raise InputError(f"an adapter must be r=RANK,targets=T,T; got {text!r}; try r=16,targets=q,v")
    if not rank.isdecimal() or not rank.isascii() or len(rank) > 9 or not targets:
        raise InputError(f"an adapter must be r=RANK,targets=T,T; got {text!r}; try r=16,targets=q,v")
    return Lora(int(rank), named_targets(targets))


def lora_pairs(arch: LlamaArch, lora: Lora) -> tuple[LoraPair, ...]:
    """A and B of every target.

    Raises UnknownNameError for a target that no Llama has, InputError for one named twice and for a rank
    that is no smaller than the matrix it is to approximate.

    >>> from llamalab.presets import PRESETS
    >>> sum(pair.parameters for pair in lora_pairs(PRESETS["7b"].arch, Lora(16, ("q", "v"))))
    8388608
    """
    by_name = {weight.name: weight for weight in weights(arch)}
    if len(set(lora.targets)) < len(lora.targets):
        raise InputError(f"targets of an adapter must be named once; got {', '.join(lora.targets)}")
    return tuple(_pair(lora.rank, target, by_name) for target in lora.targets)


def lora_parameters(arch: LlamaArch, lora: Lora) -> int:
    """Parameters of the whole adapter. Errors as for lora_pairs."""
    return sum(pair.parameters for pair in lora_pairs(arch, lora))


def _pair(rank: int, target: str, by_name: dict[str, Weight]) -> LoraPair:
    if target not in TARGETS:
        raise UnknownNameError("a target of an adapter", target, TARGETS)
    name = f"layers.*.{TARGETS[target]}.weight"
    if name not in by_name:
        raise InputError(
            f"a target of an adapter must be a matrix of the model; {target} is many in a mixture of experts"
        )
    weight = by_name[name]
    rows, columns = weight.shape
    if not 1 <= whole(rank, "the rank of an adapter", least=0) < min(rows, columns):
        raise InputError(f"the rank of an adapter must be from 1 to below {min(rows, columns)}, {target}; got {rank}")
    return LoraPair(target, weight.name, (rank, columns), (rows, rank), weight.count)
