"""Which attention implementations are there? One signature, chosen by name.

    attend(q_BHTE, k_BKSE, v_BKSE, *, query_offset) -> z_BHTE

Causal: query t sees keys 0 .. query_offset + t. Scale E**-0.5. Query head h uses KV head
h // (H / K). A backend knows tensors, not the model. Its `algorithm` is the row of the cost table
that it answers to; which kernel really ran is for a profiler to say.

B batch, T new tokens, S keys in view, H query heads, K KV heads, G = H / K, E head dim.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from llamalab.attention import naive, sdpa
from llamalab.errors import UnknownNameError


class Attend(Protocol):
    """Attention of T queries to S keys; see the module for the convention."""

    def __call__(self, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int) -> Tensor: ...


class Backend(NamedTuple):
    """A way to compute attention; `algorithm` is "naive" (scores in memory) or "flash" (fused)."""

    name: str
    algorithm: str
    attend: Attend


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("naive", "naive", naive.attend),
        Backend("sdpa", "flash", sdpa.attend),
    )
}


def get_backend(name: str) -> Backend:
    """The backend of that name; raises UnknownNameError.

    >>> get_backend("sdpa").algorithm
    'flash'
    """
    if name not in BACKENDS:
        raise UnknownNameError("attention", name, BACKENDS)
    return BACKENDS[name]
