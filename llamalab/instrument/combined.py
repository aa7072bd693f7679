"""Several taps in one forward pass: each gets what the one before it returned."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from llamalab.model.tap import Tap


class Combined:
    """A tap that hands every tensor through several taps in turn; it wants what any of them wants."""

    def __init__(self, *taps: "Tap") -> None:
        self._taps = taps

    def wants(self, name: str) -> bool:
        """Whether any of the taps wants the point of that name."""
        return any(not hasattr(tap, "wants") or tap.wants(name) for tap in self._taps)

    def attended(self, prefix: str, q_BHTE: "Tensor", k_BKSE: "Tensor", *, window: int | None = None) -> None:
        """Show queries and keys to the taps that look at them."""
        for tap in self._taps:
            if hasattr(tap, "attended"):
                tap.attended(prefix, q_BHTE, k_BKSE, window=window)

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        for tap in self._taps:
            tensor = tap(name, tensor)
        return tensor
