"""The shape of one forward pass: its tokens, sequences, number formats and ranks."""

from collections.abc import Sequence

from llamalab.checks import whole
from llamalab.startup.hints import NamedTuple


class PassShape(NamedTuple):
    """T new tokens of B sequences that end a context of S; built by keyword.

    Prefill is T = S, decode is T = 1, a later chunk of a prompt is 1 < T < S; training is a prefill with all logits.
    Counts are checked where a pass is counted, and each account reads the fields it needs: memory does not depend on
    `fused`, saved activations do not on the cache.

    Args:
        new_tokens: T, of each sequence.
        context_tokens: S, the keys in view, the new ones included (default: T); for operations, a list of them is a
            ragged batch, one sequence each.
        batch: B.
        dtype: of activations, norms and embedding, and the default of the other dtypes.
        kv_dtype: the cache's storage (default: dtype).
        weight_dtype: that of the matrices (default: dtype).
        attention: the algorithm, flash or naive; memory also depends on masked and chunked attention.
        logits: of the last position or of all.
        tensor_parallel: ranks that share the model; counts are those of one rank.
        fused: whether operations are grouped as inference servers do.
        expert_parallel: whether each rank holds whole experts.

    >>> shape = PassShape(new_tokens=8, kv_dtype="fp8")
    >>> shape.context, shape.kv_storage, shape.weight_storage
    (8, 'fp8', 'bf16')
    """

    new_tokens: int
    context_tokens: int | Sequence[int] | None = None
    batch: int = 1
    dtype: str = "bf16"
    kv_dtype: str | None = None
    weight_dtype: str | None = None
    attention: str = "flash"
    logits: str = "last"
    tensor_parallel: int = 1
    fused: bool = False
    expert_parallel: bool = False

    @property
    def context(self) -> int:
        """S, the visible keys. Raises InputError for a ragged batch, which has several, and for invalid counts."""
        if self.context_tokens is None:
            return whole(self.new_tokens, "new_tokens")
        return whole(self.context_tokens, "context_tokens")

    @property
    def kv_storage(self) -> str:
        """The dtype that the cache is stored in."""
        return self.kv_dtype or self.dtype

    @property
    def weight_storage(self) -> str:
        """The dtype that matrices are stored in."""
        return self.weight_dtype or self.dtype
