"""The largest moment of a training step, above weights and optimiser states: what autograd keeps, gradients, and what
the backward pass makes on its way.

Three moments can be it: the loss, whose gradient exists twice in fp32 beside the log-probabilities; the last norm, in
fp32; and the feed-forward of the last block, or of the first, when gradients are all there. Of a tied table the very
end: the head's gradient has waited for the embedding's, and their sum is made beside both. And the optimiser's own.
"""

from llamalab.analytic.lora import TARGETS, Lora
from llamalab.analytic.saved_activations import INDEX_BYTES, Kept
from llamalab.hints import NamedTuple
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
    update_copies: int,
    dora: bool = False,
    frozen_input: bool = False,
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
        update_copies: of the largest tensor, that the optimiser makes.
        dora: whether adapters have magnitudes.
        frozen_input: whether nothing before the first adapter needs a gradient.
    """
    arch, dtype, fused = kept.arch, kept.dtype, kept.implementation == "fused"
    sizes = _Sizes(kept, lora, dora)
    block, inside = sizes.block()
    x = storage_bytes(kept.rows * arch.dim, dtype)
    stored = {"none": block, "selective": block - inside, "full": x}[recompute]
    rebuilt = {"none": 0, "selective": inside, "full": block}[recompute]
    idle = sizes.idle_in_first_block() if frozen_input and recompute == "none" else 0
    all_blocks = in_flight * (layers * stored - idle)
    head, once = sizes.head(), kept.once() - kept.rows * INDEX_BYTES
    logits = storage_bytes(kept.rows * kept.part.vocab_size, "fp32")
    head_grads = 0 if lora else storage_bytes(arch.vocab_size // kept.ranks * arch.dim, dtype)
    block_grads = (gradient_bytes - head_grads) // max(layers, 1)
    start = gradient_bytes if kept_gradients else 0
    loss = start + once + all_blocks + head + (0 if fused else 2 * logits)
    wide = storage_bytes(kept.rows * arch.dim, "fp32")
    norm = start + once + all_blocks + head - (0 if fused else logits) + 4 * wide + (x if lora else 0)
    ffn = rebuilt + x + sizes.ffn_backward()
    last = (start or head_grads) + once + all_blocks + ffn + sizes.w2_gradient()
    first = (start or gradient_bytes - block_grads) + once + stored - idle + ffn + sizes.w2_gradient()
    update = gradient_bytes + update_copies * sizes.largest_trained()
    adapter = start + once + all_blocks + rebuilt + sizes.magnitudes()
    tied = gradient_bytes + (3 if kept_gradients else 2) * head_grads * arch.tied_embeddings
    moments = {
        "loss": loss,
        "last norm": norm,
        "last block": last,
        "first block": first,
        "tied table": tied,
        "update": update,
        "adapter": adapter,
    }
    name = max(moments, key=moments.__getitem__)
    return LargestMoment(name, moments[name])


class _Sizes:
    """What is kept and made, of a model trained in full or by adapters in fp32 on frozen matrices."""

    def __init__(self, kept: Kept, lora: Lora | None, dora: bool) -> None:
        self.kept, self.lora, self.dora = kept, lora, dora
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
        if self.dora:  # what the magnitude multiplies: the frozen product, and that of A and B in fp32
            out = sum(self._shape(target)[0] for target in lora.targets)
            total += self._of(out) + storage_bytes(rows * out, "fp32")
        return total

    def _shape(self, target: str) -> tuple[int, int]:
        """Outputs and inputs of a target on this rank."""
        dim, part = self.kept.arch.dim, self.kept.part
        return {
            "q": (part.query_dim, dim),
            "k": (part.kv_dim, dim),
            "v": (part.kv_dim, dim),
            "o": (dim, part.query_dim),
            "gate": (part.ffn_dim, dim),
            "up": (part.ffn_dim, dim),
            "down": (dim, part.ffn_dim),
        }[target]

    def idle_in_first_block(self) -> int:
        """Bytes of a block that its gradients need and the first block's do not: nothing before it is trained."""
        targets = set() if self.lora is None else set(self.lora.targets)
        idle = ["attention_norm"]
        if not targets & {*_INTO_QKV}:
            idle += ["attention: ", "flash", "softmax", "values"]
        if not targets & {*_INTO_QKV, "o"}:
            idle += ["ffn_norm"]
            # silu(gate) is kept for the gradient of `up`, gate and `up` for that of gate.
            idle += [] if "up" in targets else ["SwiGLU: silu(gate)"]
            idle += [] if "gate" in targets else ["SwiGLU: gate and up"]
        items = [item for item in self.kept.block() if item.name.startswith(tuple(idle))]
        quotients = 0 if self.kept.implementation == "fused" else sum("_norm" in item.name for item in items)
        return sum(item.bytes for item in items) - quotients * self._of(self.kept.arch.dim)

    def magnitudes(self) -> int:
        """What PEFT makes on the way to the norms of one target's W + BA: a unit matrix, BA, its multiple and the sum.

        All in fp32, with W too where it is narrower; what the last block keeps after it is not there yet.
        """
        if not self.dora or self.lora is None:
            return 0
        later = sum(item.bytes for item in self.kept.block() if item.name.startswith(("ffn_norm", "SwiGLU")))
        made = []
        for target in self.lora.targets:
            out, inner = self._shape(target)
            size = storage_bytes(inner * inner + (3 + self.narrow) * out * inner, "fp32")
            made.append(size if target in (*_INTO_FFN, "down") else size - later)
        return max(0, *made)

    def head(self) -> int:
        """Final norm, log-probabilities; the head's input where the head is trained."""
        if self.lora is None:
            return self.kept.head()
        wide = 1 if self.kept.implementation == "fused" else 2
        return self.kept.head() - wide * self._of(self.kept.arch.dim)

    def ffn_backward(self) -> int:
        """Gradients of product, silu(gate) and up at once; the product that was kept has gone by then.

        Those of adapters on half weights are fp32: a copy of what comes in, and its multiple where `up` has one.
        """
        rows, width = self.kept.rows, self.kept.part.ffn_dim
        targets = set(TARGETS if self.lora is None else self.lora.targets)
        adapters = self.lora is not None and self.narrow
        held = 2 * self._of(width)
        if "down" not in targets:
            held += storage_bytes(rows * width, "fp32") if adapters and targets & {*_INTO_FFN} else self._of(width)
        if adapters and "up" in targets:
            held += storage_bytes(rows * (width + self.kept.arch.dim), "fp32") + self._of(self.kept.arch.dim)
        return held

    def w2_gradient(self) -> int:
        """That of one matrix of the feed-forward."""
        return 0 if self.lora else storage_bytes(self.kept.arch.dim * self.kept.part.ffn_dim, self.kept.dtype)

    def largest_trained(self) -> int:
        """Bytes of the largest trained tensor."""
        arch = self.kept.arch
        if self.lora is not None:
            return 4 * self.lora.rank * max(arch.dim, arch.ffn_dim)
        return storage_bytes(arch.dim * max(arch.vocab_size, arch.ffn_dim), self.kept.dtype)
