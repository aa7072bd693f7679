"""The largest moment of a training step: bytes above weights and optimiser states.

It may be in the loss, whose gradient exists twice in fp32 beside the log-probabilities; in the last norm, in fp32; in
the feed-forward or the scores of the last block, or of the first, when all gradients exist. With quantised matrices it
includes the largest one, widened for a product (bitsandbytes' MatMul4Bit, forward and backward). With a tied embedding
it may be at the very end: the head's gradient waits for the embedding's, and their sum is made beside both. Or in the
optimiser.
"""

from llamalab.analytic.lora import Lora
from llamalab.analytic.saved_activations import INDEX_BYTES, Kept
from llamalab.analytic.shared_steps import NOTHING_LENT, Lent, beside_passes, received_bytes
from llamalab.analytic.step_sizes import StepSizes
from llamalab.analytic.tuned_weights import Stage
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

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
    lent: Lent = NOTHING_LENT,
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
        lent: what weights shared out are gathered in.
    """
    arch, dtype, fused = kept.arch, kept.dtype, kept.implementation == "fused"
    sizes = StepSizes(kept, lora, dora, widens and not written_out)
    block, inside = sizes.block()
    x = storage_bytes(kept.own_rows * arch.dim, dtype)
    stored = {"none": block, "selective": block - inside, "full": x}[recompute]
    rebuilt = {"none": 0, "selective": inside, "full": block}[recompute]
    idle = sizes.idle_in_first_block() if frozen_input and recompute == "none" else 0
    all_blocks = stage.in_flight * (stage.layers * stored - idle)
    head = sizes.head() if stage.last else 0
    received = received_bytes(kept, stage)
    once = kept.once() - kept.rows * INDEX_BYTES + (kept.mask() if recompute != "none" else 0)
    once += received + beside_passes(kept, stage)
    logits = storage_bytes(kept.rows * kept.part.vocab_size, "fp32")
    head_grads = 0 if lora or not stage.last else storage_bytes(arch.vocab_size // kept.ranks * arch.dim, dtype)
    block_grads = max(0, gradient_bytes - head_grads) // max(stage.layers, 1)
    start = gradient_bytes if kept_gradients else 0
    # Of a vocabulary shared out torch's loss_parallel makes zeros, probabilities, their sum: one more than at once.
    made = 0 if fused else (3 if kept.ranks > 1 else 2) * logits
    loss = start + once + all_blocks + head + made
    wide = storage_bytes(kept.rows * arch.dim, "fp32")
    norm = start + once + all_blocks + head - (0 if fused else logits) + 4 * wide + (x if lora else 0)
    ffn = rebuilt + x + sizes.ffn_backward(accumulates=bool(start))
    last = (start or head_grads) + once + all_blocks + ffn
    first = (start or gradient_bytes - block_grads) + once + stored - idle + ffn
    scores, later, qkv_grads = sizes.scores_backward(), sizes.after_scores(), sizes.qkv_gradients()
    at_scores = (x if recompute == "full" else 0) + block - later + x + scores
    last_scores = (start or head_grads + block_grads - qkv_grads) + once + all_blocks - stored + at_scores
    first_scores = (start or gradient_bytes - qkv_grads) + once + at_scores - idle
    streams = 2 if recompute == "full" else 3  # residual, norm's output, the product's result
    beside = storage_bytes(kept.rows * kept.part.ffn_dim, dtype) + streams * x
    written = start + once + all_blocks + rebuilt + written_out + beside
    written_first = (start or gradient_bytes - block_grads) + once + stored + rebuilt - idle + written_out + beside
    update = received + gradient_bytes + update_bytes
    adapter = start + once + all_blocks + rebuilt + sizes.magnitudes()
    tied = (
        received + gradient_bytes + (3 if kept_gradients else 2) * head_grads * (arch.tied_embeddings and stage.first)
    )
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
    ahead, during = lent.always + lent.block, lent.always + 2 * lent.block
    lends = {name: ahead if name in BEFORE_BLOCKS else during for name in moments} | {"update": 0}
    if lent.block:
        reduced = start or max(0, gradient_bytes - 2 * block_grads)
        inner = (start or head_grads + block_grads) + once + all_blocks - stored + ffn
        moments |= {
            "next block": reduced + once + min(2, stage.layers) * stored + x,
            "gradients of a block": reduced + once + stored + x,
            "inner block": inner,
            "tables": gradient_bytes,
        }
        lends |= lent.between_blocks(stage.layers)
    name = max(moments, key=lambda one: moments[one] + lends[one])
    return LargestMoment(name, moments[name] + lends[name], lends[name])
