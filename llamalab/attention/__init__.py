"""Attention implementations: one signature, chosen by name.

    attend(q_BHTE, k_BKSE, v_BKSE, *, query_offset, window=None) -> z_BHTE

Causal: query t sees keys 0 .. query_offset + t, and within a window the last of them. Scale E**-0.5. Query head h uses
KV head h // (H / K). A backend receives tensors, not the model. Its `algorithm` is its row of the cost table; the
kernel that ran is read from a profiler.

B batch, T new tokens, S visible keys, H query heads, K KV heads, G = H / K, E head dim.

Belongs here: backends, one file each, and the table of their names. Does not belong here: the model, KV caches, costs
(analytic.attention_cost), timing. A backend is added as a file and a row of the table.
"""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import chunked, mixed, naive, sdpa, streamed, tiled
from llamalab.attention.sdpa_kernels import KERNELS
from llamalab.errors import UnknownNameError


class Attend(Protocol):
    """Attention of T queries to S keys; see the module for the convention."""

    def __call__(
        self, q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None
    ) -> Tensor: ...


ShapeCheck = Callable[[AttentionShape, torch.device], None]


def _runs_everything(shape: AttentionShape, device: torch.device) -> None:
    """The check of a backend without limits."""


class Backend(NamedTuple):
    """A way to compute attention; `algorithm` is "naive" (scores in memory) or "flash" (fused).

    `check` raises UnavailableError for what the backend cannot do, before it runs. `kernel` is part of
    the name that a profiler must show, None where any kernel is as good as another.
    """

    name: str
    algorithm: str
    attend: Attend
    check: ShapeCheck = _runs_everything
    kernel: str | None = None


def _imported_when_used(module: str) -> tuple[Attend, ShapeCheck]:
    """A backend whose module, which may need a package, is imported at its first use."""

    def attend(
        q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None
    ) -> Tensor:
        run: Attend = import_module(module).attend
        return run(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window)

    def check(shape: AttentionShape, device: torch.device) -> None:
        import_module(module).check(shape, device)

    return attend, check


def _sdpa_kernel(name: str, algorithm: str, kernel: str) -> Backend:
    return Backend(name, algorithm, KERNELS[name].attend, KERNELS[name].check, kernel)


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("naive", "naive", naive.attend),
        Backend("chunked", "flash", chunked.attend),
        Backend("tiled", "flash", tiled.attend),
        Backend("sdpa", "flash", sdpa.attend),
        Backend("streamed", "flash", streamed.attend),
        Backend("mixed", "flash", mixed.attend),
        _sdpa_kernel("math", "naive", "scaled_dot_product_attention_math"),
        _sdpa_kernel("flash", "flash", "scaled_dot_product_flash_attention"),
        _sdpa_kernel("efficient", "flash", "scaled_dot_product_efficient_attention"),
        _sdpa_kernel("cudnn", "flash", "scaled_dot_product_cudnn_attention"),
        Backend("flex", "flash", *_imported_when_used("llamalab.attention.flex")),
        Backend("triton", "flash", *_imported_when_used("llamalab.attention.triton_flash")),
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
