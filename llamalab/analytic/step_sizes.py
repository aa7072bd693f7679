"""Sizes of the tensors of a training step: what a block keeps, and what its backward pass makes, by what is trained."""

from llamalab.analytic.lora import TARGETS, Lora
from llamalab.analytic.saved_activations import Kept
from llamalab.units import storage_bytes

_INTO_QKV = ("q", "k", "v")
_INTO_FFN = ("gate", "up")


class StepSizes:
    """Kept bytes and temporaries of a model trained in full or by fp32 adapters on frozen matrices."""

    def __init__(self, kept: Kept, lora: Lora | None, dora: bool, widens: bool) -> None:
        self.kept, self.lora, self.dora, self.widens = kept, lora, dora, widens
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
        if self.kept.attention == "naive":
            frozen += self._of(part.query_dim)
        elif "o" not in self.lora.targets:  # only attention itself keeps its output, and makes it again
            inside += self._of(part.query_dim)
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
            shared = group == ("o",) and self.kept.attention != "naive"  # the kernel keeps its output itself
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
        """Bytes of a block that its gradients need but the first block's do not, where nothing before it is trained."""
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
        """Temporaries of PEFT for the norms of one target's W + BA: a unit matrix, BA, its multiple and the sum.

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

    def scores_backward(self) -> int:
        """Gradients of the pattern and of the scores, and of the values for each query head; 0 where there are none."""
        kept = self.kept
        if kept.attention != "naive":
            return 0
        elements = kept.batch * kept.part.n_heads * kept.seq * kept.seq
        wide = "fp32" if kept.implementation == "hugging-face" else kept.dtype
        return 2 * storage_bytes(elements, wide) + self._of(kept.part.query_dim)

    def after_scores(self) -> int:
        """Bytes of a block that are freed before the gradient of its scores is computed."""
        dim, part = self.kept.arch.dim, self.kept.part
        gone = ("values", "wo", "ffn_norm", "w1, w3", "SwiGLU", "w2")
        later = sum(item.bytes for item in self.kept.block() if item.name.startswith(gone))
        if self.lora is None:
            return later
        wide = 0 if self.kept.implementation == "fused" else 1
        frozen = self._of(dim) * (1 + wide) + self._of(part.ffn_dim) + self._of(part.query_dim)
        rest = tuple(target for target in self.lora.targets if target not in _INTO_QKV)
        return later - frozen + self._adapters(self.lora._replace(targets=rest))

    def qkv_gradients(self) -> int:
        """Of the matrices before the scores; adapters' are so small that they count as there."""
        part = self.kept.part
        return (
            0 if self.lora else storage_bytes(self.kept.arch.dim * (part.query_dim + 2 * part.kv_dim), self.kept.dtype)
        )

    def head(self) -> int:
        """Final norm, log-probabilities; the head's input where the head is trained."""
        if self.lora is None:
            return self.kept.head()
        wide = 1 if self.kept.implementation == "fused" else 2
        return self.kept.head() - wide * self._of(self.kept.arch.dim)

    def ffn_backward(self, *, accumulates: bool) -> int:
        """Gradients of product, silu(gate) and up at once, and of w2; the product that was kept has gone by then.

        Where the gradient of w2 is added to one that is there, it has gone too: it was beside the first of them.
        """
        held, w2 = self._ffn_gradients(), self._w2_gradient()
        return max(held, self._of(self.kept.part.ffn_dim) + w2) if accumulates else held + w2

    def _ffn_gradients(self) -> int:
        """Those of adapters on half weights are fp32: a copy of what comes in, and the base's output widened."""
        rows, width = self.kept.rows, self.kept.part.ffn_dim
        targets = set(TARGETS if self.lora is None else self.lora.targets)
        adapters = self.lora is not None and self.narrow
        held = 2 * self._of(width)
        if "down" not in targets:
            held += storage_bytes(rows * width, "fp32") if adapters and targets & {*_INTO_FFN} else self._of(width)
        if adapters and "up" in targets:
            dim = self.kept.arch.dim
            held += storage_bytes(rows * (width * self.widens + dim), "fp32") + self._of(dim)
        return held

    def _w2_gradient(self) -> int:
        """That of one matrix of the feed-forward."""
        return 0 if self.lora else storage_bytes(self.kept.arch.dim * self.kept.part.ffn_dim, self.kept.dtype)
