"""What a training step holds because ranks share it: weights gathered for their use, and what stages send on.

As torch does it: fully_shard (FSDP2) of each block, and Schedule1F1B of torch.distributed.pipelining.
"""

from llamalab.analytic.saved_activations import INDEX_BYTES, Kept
from llamalab.analytic.tuned_weights import Stage
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes


class Lent(NamedTuple):
    """Bytes that weights shared out are gathered in.

    always: tables and last norm, until the end of the backward pass
    block: one block, which is copied out of its transfer while the next one is in transfer
    reduced: a block's gradients in one piece, on their way to their owners until the next block's are; 0 where frozen
    """

    always: int = 0
    block: int = 0
    reduced: int = 0

    def between_blocks(self, layers: int) -> dict[str, int]:
        """Bytes at the moments that only weights shared out have, by the moment's name.

        A block between two others has the gradients of the one behind it in reduction, and the next in transfer.
        """
        behind, ahead = self.reduced * (layers > 2), self.block * (layers > 1)
        used = self.always + self.block + ahead
        return {
            "next block": used + behind,
            "gradients of a block": used + behind + self.reduced,
            "inner block": used + behind,
            "tables": 2 * self.always if self.reduced else 0,
        }


NOTHING_LENT = Lent()


def received_bytes(kept: Kept, stage: Stage) -> int:
    """Buffers of a stage that outlast a step: of every pass what another stage sends, and the ids of its tokens."""
    if stage.first and stage.last:
        return 0
    ids = kept.rows * INDEX_BYTES * (stage.passes - 1)
    return ids + stage.passes * storage_bytes(kept.own_rows * kept.arch.dim, kept.dtype)


def beside_passes(kept: Kept, stage: Stage) -> int:
    """What a stage holds beside the tensors of its passes while one goes backward.

    The last stage has its output, the logits, until then, and the gradient of the pass before in sending. Others have
    the output of each pass in flight and of the first pass, whose gradient came into a buffer of its own.
    """
    if stage.first and stage.last:
        return 0
    x = storage_bytes(kept.own_rows * kept.arch.dim, kept.dtype)
    if stage.last:
        return storage_bytes(kept.rows * kept.part.vocab_size, kept.dtype) + x * (stage.passes > 1)
    turns = kept.once() - kept.rows * INDEX_BYTES
    return stage.in_flight * x + (stage.in_flight - 1) * turns
