"""The largest moment of a training step, above weights and optimiser states: what autograd keeps, gradients, and what
the backward pass makes on its way.

Three moments can be it: the loss, whose gradient exists twice in fp32 beside the log-probabilities; the last norm, in
fp32; and the feed-forward of the last block, or of the first, when gradients are all there. Of a tied table the very
end: the head's gradient has waited for the embedding's, and their sum is made beside both. And the optimiser's own.
"""

from typing import NamedTuple

from llamalab.analytic.lora import Lora
from llamalab.analytic.saved_activations import INDEX_BYTES, Kept
from llamalab.units import storage_bytes

_INTO_QKV = ("q", "k", "v")
_INTO_FFN = ("gate", "up")


class LargestMoment(NamedTuple):
    """The moment's name and its bytes, gradients included."""

    moment: str
    peak_bytes: int


def largest_moment(
    kept: Kept,
    *,
    recompute: str,
    lora: Lora | None,
    layers: int,
    in_flight: int,
    gradient_bytes: int,
    kept_gradients: bool,
    fused_optimizer: bool,
) -> LargestMoment:
    """Over one forward and backward pass of `layers` blocks, with `in_flight` micro-batches in a pipeline.

    Args:
        kept: the sizes of the pass.
        recompute: none, selective or full.
        lora: the adapters, where they alone are trained.
        layers: blocks of this stage.
        in_flight: micro-batches whose activations are kept at once.
        gradient_bytes: of all that is trained.
        kept_gradients: whether these are there from the start, as passes are accumulated.
        fused_optimizer: whether the update makes no copies.
    """
    arch, dtype, fused = kept.arch, kept.dtype, kept.implementation == "fused"
    sizes = _Sizes(kept, lora)
    block, inside = sizes.block()
    x = storage_bytes(kept.rows * arch.dim, dtype)
    stored = {"none": block, "selective": block - inside, "full": x}[recompute]
    rebuilt = {"none": 0, "selective": inside, "full": block}[recompute]
    all_blocks, head, once = in_flight * layers * stored, sizes.head(), kept.once() - kept.rows * INDEX_BYTES
    logits = storage_bytes(kept.rows * kept.part.vocab_size, "fp32")
    head_grads = 0 if lora else storage_bytes(arch.vocab_size // kept.ranks * arch.dim, dtype)
    block_grads = (gradient_bytes - head_grads) // max(layers, 1)
    start = gradient_bytes if kept_gradients else 0
    loss = start + once + all_blocks + head + (0 if fused else 2 * logits)
    wide = storage_bytes(kept.rows * arch.dim, "fp32")
    norm = start + once + all_blocks + head - (0 if fused else logits) + 4 * wide + (x if lora else 0)
    ffn = rebuilt + x + sizes.ffn_backward()
    last = (start or head_grads) + once + all_blocks + ffn + sizes.w2_gradient()
    first = (start or gradient_bytes - block_grads) + once + stored + ffn + sizes.w2_gradient()
    update = gradient_bytes + (0 if fused_optimizer else 2 * sizes.largest_trained())
    tied = gradient_bytes + (3 if kept_gradients else 2) * head_grads * arch.tied_embeddings
    moments = {
        "loss": loss, "last norm": norm, "last block": last, "first block": first, "tied table": tied, "update": update,
    }  # fmt: skip
    name = max(moments, key=moments.__getitem__)
    return LargestMoment(name, moments[name])


class _Sizes:
    """What is kept and made, of a model trained in full or by adapters in fp32 on frozen matrices."""

    def __init__(self, kept: Kept, lora: Lora | None) -> None:
        self.kept, self.lora = kept, lora
        self.narrow = kept.dtype != "fp32"

    def _of(self, width: int) -> int:
        return storage_bytes(self.kept.rows * width, self.kept.dtype)

    def block(self) -> tuple[int, int]:
        """Bytes kept by one block, and those of them inside attention."""
        items = self.kept.block()
        inside = sum(item.bytes for item in items if item.inside_attention)
        everything = sum(item.bytes for item in items)
        if self.lora is None:
            return everything, inside
        dim, part = self.kept.arch.dim, self.kept.part
        wide = 0 if self.kept.implementation == "fused" else 1
        # No gradient of a frozen matrix or norm: their inputs, and the quotients of norms, are not kept.
        frozen = 2 * self._of(dim) * (1 + wide) + self._of(part.ffn_dim)
        if self.kept.attention != "flash":
            frozen += self._of(part.query_dim)
        return everything - frozen + self._adapters(self.lora), inside

    def _adapters(self, lora: Lora) -> int:
        """Inputs of adapters: shared in fp32, else a copy in fp32 for each; and what lies between A and B."""
        arch, part, rows = self.kept.arch, self.kept.part, self.kept.rows
        total = storage_bytes(rows * lora.rank * len(lora.targets), "fp32")
        for group, width in (
            (_INTO_QKV, arch.dim),
            (("o",), part.query_dim),
            (_INTO_FFN, arch.dim),
            (("down",), part.ffn_dim),
        ):
            targeted = sum(target in group for target in lora.targets)
            shared = group == ("o",) and self.kept.attention == "flash"  # the kernel keeps its output itself
            copies = targeted if self.narrow else min(targeted, 1) * (not shared)
            total += copies * storage_bytes(rows * width, "fp32")
        return total

    def head(self) -> int:
        """Final norm, log-probabilities; the head's input where the head is trained."""
        if self.lora is None:
            return self.kept.head()
        wide = 1 if self.kept.implementation == "fused" else 2
        return self.kept.head() - wide * self._of(self.kept.arch.dim)

    def ffn_backward(self) -> int:
        """Gradients of product, silu(gate) and up at once; the product that was kept has gone by then."""
        product_kept = self.lora is None or "down" in self.lora.targets
        return (2 if product_kept else 3) * self._of(self.kept.part.ffn_dim)

    def w2_gradient(self) -> int:
        """That of one matrix of the feed-forward."""
        return 0 if self.lora else storage_bytes(self.kept.arch.dim * self.kept.part.ffn_dim, self.kept.dtype)

    def largest_trained(self) -> int:
        """Bytes of the largest trained tensor."""
        arch = self.kept.arch
        if self.lora is not None:
            return 4 * self.lora.rank * max(arch.dim, arch.ffn_dim)
        return storage_bytes(arch.dim * max(arch.vocab_size, arch.ffn_dim), self.kept.dtype)
