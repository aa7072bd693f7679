"""The states of an optimiser for each trained parameter."""

from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple


class Optimizer(NamedTuple):
    """Bytes a parameter of states; `factored` for a row and a column of each matrix instead.

    `copies` are those of a tensor that an update makes one tensor at a time where it is not fused: in torch's AdamW the
    root, its quotient, and the quotient of the tensor before; in bitsandbytes' 8 bits on a CPU, which has no fused
    kernel, both moments, weight and gradient, all in fp32 (`copies_wide`).
    """

    name: str
    state_bytes: float
    factored: bool
    copies: int
    source: str
    copies_wide: bool = False


# 8-bit states: one byte each and an fp32 maximum for each block of 256 (Dettmers et al. 2021, arXiv 2110.02861).
OPTIMIZERS = {
    one.name: one
    for one in (
        Optimizer("adamw", 8, False, 3, "two moments in fp32"),
        Optimizer("adamw-8bit", 2 * (1 + 4 / 256), False, 5, "Dettmers et al. 2021, blocks of 256", copies_wide=True),
        Optimizer("adafactor", 0, True, 2, "Shazeer & Stern 2018, no first moment: rows and columns in fp32"),
        Optimizer("sgd", 0, False, 0, "no state"),
        Optimizer("sgd-momentum", 4, False, 0, "one moment in fp32"),
    )
}


def find_optimizer(name: str) -> Optimizer:
    """The optimiser of that name; UnknownNameError for any other.

    >>> find_optimizer("adamw").state_bytes
    8
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
