"""The largest moment of a training step: bytes above weights and optimiser states.

It may be in the loss, whose gradient exists twice in fp32 beside the log-probabilities; in the last norm, in fp32; in
the feed-forward or the scores of the last block, or of the first, when all gradients exist. With quantised matrices it
includes the largest one, widened for a product (bitsandbytes' MatMul4Bit, forward and backward). With a tied embedding
it may be at the very end: the head's gradient waits for the embedding's, and their sum is made beside both. Or in the
optimiser.
"""

from llamalab.analytic.lora import TARGETS, Lora
from llamalab.analytic.saved_activations import INDEX_BYTES, Kept
from llamalab.analytic.tuned_weights import Stage
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

_INTO_QKV = ("q", "k", "v")
_INTO_FFN = ("gate", "up")
BEFORE_BLOCKS = ("loss", "last norm")  # moments of the backward pass before the first block


class LargestMoment(NamedTuple):
    """The moment's name and its bytes, gradients included, and the part gathered from other devices."""

    moment: str
    peak_bytes: int
    lent_bytes: int = 0


def largest_moment(
    kept: Kept,
    *,
    recompute: str,
    lora: Lora | None,
    stage: Stage,
    gradient_bytes: int,
    kept_gradients: bool,
    update_bytes: int,
    dora: bool = False,
    frozen_input: bool = False,
    written_out: int = 0,
    widens: bool = False,
    lent: tuple[int, int] = (0, 0),
) -> LargestMoment:
    """Over one forward and backward pass of a stage's blocks.

    Args:
        kept: the sizes of the pass.
        recompute: none, selective or full.
        lora: the adapters, where they alone are trained.
        stage: what the device has of the model; the loss is the last one's.
        gradient_bytes: of all that is trained.
        kept_gradients: whether these are there from the start, as passes are accumulated.
        update_bytes: temporaries of the optimiser for the largest tensor.
        dora: whether adapters have magnitudes.
        frozen_input: whether nothing before the first adapter needs a gradient.
        written_out: bytes of the largest quantised matrix, widened.
        widens: whether a sum of a half and an fp32 tensor copies the first to fp32: on a CPU, not on CUDA, and not
            where adapters of a quantised base narrow their output first.
        lent: bytes that weights shared out are gathered in, before the backward pass comes to a block and after.
    """
    arch, dtype, fused = kept.arch, kept.dtype, kept.implementation == "fused"
    sizes = _Sizes(kept, lora, dora, widens and not written_out)
    block, inside = sizes.block()
    x = storage_bytes(kept.own_rows * arch.dim, dtype)
    stored = {"none": block, "selective": block - inside, "full": x}[recompute]
    rebuilt = {"none": 0, "selective": inside, "full": block}[recompute]
    idle = sizes.idle_in_first_block() if frozen_input and recompute == "none" else 0
    all_blocks = stage.in_flight * (stage.layers * stored - idle)
    head = sizes.head() if stage.last else 0
    once = kept.once() - kept.rows * INDEX_BYTES + (kept.mask() if recompute != "none" else 0)
    logits = storage_bytes(kept.rows * kept.part.vocab_size, "fp32")
    head_grads = 0 if lora or not stage.last else storage_bytes(arch.vocab_size // kept.ranks * arch.dim, dtype)
    block_grads = max(0, gradient_bytes - head_grads) // max(stage.layers, 1)
    start = gradient_bytes if kept_gradients else 0
    loss = start + once + all_blocks + head + (0 if fused else 2 * logits)
    wide = storage_bytes(kept.rows * arch.dim, "fp32")
    norm = start + once + all_blocks + head - (0 if fused else logits) + 4 * wide + (x if lora else 0)
    ffn = rebuilt + x + sizes.ffn_backward()
    last = (start or head_grads) + once + all_blocks + ffn + sizes.w2_gradient()
    first = (start or gradient_bytes - block_grads) + once + stored - idle + ffn + sizes.w2_gradient()
    scores, later, qkv_grads = sizes.scores_backward(), sizes.after_scores(), sizes.qkv_gradients()
    at_scores = (x if recompute == "full" else 0) + block - later + x + scores
    last_scores = (start or head_grads + block_grads - qkv_grads) + once + all_blocks - stored + at_scores
    first_scores = (start or gradient_bytes - qkv_grads) + once + at_scores - idle
    streams = 2 if recompute == "full" else 3  # residual, norm's output, the product's result
    beside = storage_bytes(kept.rows * kept.part.ffn_dim, dtype) + streams * x
    written = start + once + all_blocks + rebuilt + written_out + beside
    written_first = (start or gradient_bytes - block_grads) + once + stored + rebuilt - idle + written_out + beside
    update = gradient_bytes + update_bytes
    adapter = start + once + all_blocks + rebuilt + sizes.magnitudes()
    tied = gradient_bytes + (3 if kept_gradients else 2) * head_grads * (arch.tied_embeddings and stage.first)
    moments = {
        **({"loss": loss, "last norm": norm} if stage.last else {}),
        "last block": last,
        "first block": first,
        "tied table": tied,
        "update": update,
        "adapter": adapter,
        **({"last scores": last_scores, "first scores": first_scores} if scores else {}),
        **({"quantised": written, "first quantised": written_first} if written_out else {}),
    }
    lends = {name: lent[name not in BEFORE_BLOCKS] for name in moments} | {"update": 0}
    name = max(moments, key=lambda one: moments[one] + lends[one])
    return LargestMoment(name, moments[name] + lends[name], lends[name])


class _Sizes:
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

    def ffn_backward(self) -> int:
        """Gradients of product, silu(gate) and up at once; the product that was kept has gone by then.

        Those of adapters on half weights are fp32: a copy of what comes in, and the base's output widened to be added.
        """
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

    def w2_gradient(self) -> int:
        """That of one matrix of the feed-forward."""
        return 0 if self.lora else storage_bytes(self.kept.arch.dim * self.kept.part.ffn_dim, self.kept.dtype)
