"""What an optimiser holds for each trained parameter, and what quantised weights hold for each frozen one."""

from llamalab.errors import UnknownNameError
from llamalab.hints import NamedTuple


class Optimizer(NamedTuple):
    """Bytes a parameter of states; `factored` for a row and a column of each matrix instead.

    `copies` are those of a tensor that torch's update makes one tensor at a time where it is not fused: in AdamW the
    root, its quotient, and the quotient of the tensor before.
    """

    name: str
    state_bytes: float
    factored: bool
    copies: int
    source: str


# 8-bit states: one byte each and an fp32 maximum for each block of 256 (Dettmers et al. 2021, arXiv 2110.02861).
OPTIMIZERS = {
    one.name: one
    for one in (
        Optimizer("adamw", 8, False, 3, "two moments in fp32"),
        Optimizer("adamw-8bit", 2 * (1 + 4 / 256), False, 0, "Dettmers et al. 2021, blocks of 256"),
        Optimizer("adafactor", 0, True, 2, "Shazeer & Stern 2018, no first moment: rows and columns in fp32"),
        Optimizer("sgd", 0, False, 0, "no state"),
        Optimizer("sgd-momentum", 4, False, 0, "one moment in fp32"),
    )
}

# NF4 in blocks of 64 with an fp32 maximum each; double quantisation stores those in 8 bits, with an fp32 for each 256
# (Dettmers et al. 2023, QLoRA, arXiv 2305.14314, section 3: 0.5 becomes 0.127 bits a parameter).
NF4_BITS = 4 + 32 / 64
NF4_DOUBLE_BITS = 4 + 8 / 64 + 32 / (64 * 256)


def find_optimizer(name: str) -> Optimizer:
    """The optimiser of that name; UnknownNameError for any other.

    >>> find_optimizer("adamw").state_bytes
    8
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
