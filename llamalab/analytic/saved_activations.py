"""Tensors that autograd keeps from a forward pass for the backward pass, for each implementation.

    llamalab       this package's model: norms in fp32 keep a wide copy of their input, the pattern is kept narrow
    hugging-face   transformers' model: flash is its sdpa, naive its eager, which keeps the softmax in fp32, again in
                   the dtype of the values, and keys and values repeated for every query head
        fused          one kernel each for norm, SwiGLU, and head with loss (Liger, Megatron, Apex): a norm keeps its
                   input and reciprocal roots, SwiGLU recomputes silu(gate), and the logits never exist all at once

Masked is a flash kernel that is given a mask, as for padded or packed sequences: transformers' sdpa makes one of the
activations' type for each block, and repeats keys and values for every query head.

Compared with torch.autograd.graph.saved_tensors_hooks within 1 % (tests/analytic/test_saved_activations.py). Weights
are not counted, a storage that two operations keep is counted once, all weights are trained.
"""

from collections.abc import Iterator

from llamalab.analytic.packing import lengths_bytes
from llamalab.analytic.parallel import Shard, shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import InputError, UnknownNameError
from llamalab.startup.hints import NamedTuple
from llamalab.units import FLOAT_DTYPES, storage_bytes

TRAINED_WITH = ("flash", "masked", "naive")  # ways of attention
IMPLEMENTATIONS = ("llamalab", "hugging-face", "fused")
INDEX_BYTES = 8  # a token or a label, int64


class Saved(NamedTuple):
    """Bytes that one operation of a block keeps for its gradient, for the whole batch on one rank."""

    name: str
    bytes: int
    inside_attention: bool = False


class Kept:
    """The sizes of one training step's pass on one rank; every position has logits, and there is no cache.

    `documents` are the lengths of those packed into each sequence (llamalab.analytic.packing).
    With `sequence_parallel` what tensor parallelism replicates is shared out by tokens (Korthikanti et al. 2022).

    Raises UnknownNameError and InputError for a shape that is not a training pass.
    """

    def __init__(
        self,
        arch: LlamaArch,
        shape: PassShape,
        implementation: str = "llamalab",
        *,
        sequence_parallel: bool = False,
        documents: tuple[int, ...] = (),
    ) -> None:
        for what, word, known in (
            ("dtype of training", shape.dtype, FLOAT_DTYPES),
            ("attention", shape.attention, TRAINED_WITH),
            ("implementation", implementation, IMPLEMENTATIONS),
        ):
            if word not in known:
                raise UnknownNameError(what, word, known)
        if shape.context != shape.new_tokens:
            raise InputError(
                f"a training pass must begin its context; got {shape.new_tokens} new tokens of {shape.context}"
            )
        if implementation == "llamalab" and (documents or shape.attention == "masked"):
            raise InputError(
                "packed and masked sequences must be of an implementation that masks in training, hugging-face or "
                "fused; got llamalab"
            )
        self.arch, self.dtype, self.attention, self.implementation = arch, shape.dtype, shape.attention, implementation
        self.seq, self.batch = whole(shape.new_tokens, "new_tokens"), whole(shape.batch, "batch")
        self.documents = documents
        self.ranks = shape.tensor_parallel
        self.part: Shard = shard(arch, self.ranks)
        self.rows = self.seq * self.batch
        self.own_rows = -(-self.rows // self.ranks) if sequence_parallel else self.rows  # of norms and residuals

    def _narrow(self, elements: int) -> int:
        return storage_bytes(elements, self.dtype)

    def block(self) -> tuple[Saved, ...]:
        """One block without recomputation, operation by operation.

        Norms and residuals are replicated over the ranks or shared out by tokens, everything between them is split.
        """
        part, rows, own = self.part, self.rows, self.own_rows
        return (
            self._norm("attention_norm"),
            Saved("wq, wk, wv: their input", self._narrow(own * self.arch.dim)),
            Saved("attention: q", self._narrow(rows * part.query_dim)),
            *self._attention(),
            Saved("wo: its input", self._narrow(rows * part.query_dim)),
            self._norm("ffn_norm"),
            Saved("w1, w3: their input", self._narrow(own * self.arch.dim)),
            Saved("SwiGLU: gate and up", self._narrow(2 * rows * part.ffn_dim)),
            *self._silu(),
            Saved("w2: its input", self._narrow(rows * part.ffn_dim)),
        )

    def _norm(self, name: str) -> Saved:
        """Input and roots; where steps are their own operations the input in fp32, and the quotient for the weight."""
        elements, roots = self.own_rows * self.arch.dim, storage_bytes(self.own_rows, "fp32")
        if self.implementation == "fused":
            return Saved(f"{name}: input and roots", self._narrow(elements) + roots)
        return Saved(
            f"{name}: input in fp32, roots, quotient", storage_bytes(elements, "fp32") + roots + self._narrow(elements)
        )

    def _silu(self) -> Iterator[Saved]:
        if self.implementation != "fused":
            yield Saved("SwiGLU: silu(gate)", self._narrow(self.rows * self.part.ffn_dim))

    def _attention(self) -> Iterator[Saved]:
        part, scores = self.part, self.batch * self.part.n_heads * self.seq * self.seq
        shared = Saved("attention: k, v", self._narrow(2 * self.rows * part.kv_dim))
        if self.attention != "naive":
            masked = self.attention == "masked"
            if masked:
                yield Saved("flash: its mask", self._narrow(self.batch * self.seq * self.seq), True)
            if masked and self.implementation == "hugging-face":
                yield Saved("attention: k, v for each query head", self._narrow(2 * self.rows * part.query_dim), True)
            else:
                yield shared
            # Its own output is what wo keeps.
            yield Saved("flash: log-sum of each row", storage_bytes(self.rows * part.n_heads, "fp32"))
        elif self.implementation == "hugging-face":
            yield Saved("attention: k, v for each query head", self._narrow(2 * self.rows * part.query_dim), True)
            yield Saved("softmax: the pattern in fp32", storage_bytes(scores, "fp32"), True)
            if self.dtype != "fp32":
                yield Saved("values: the pattern", self._narrow(scores), True)
        else:
            yield shared
            yield Saved("softmax: the pattern", self._narrow(scores), True)
            if self.implementation == "llamalab" and self.seq > 1:
                yield Saved("the mask", self.seq * (self.seq - 1), True)

    def once(self) -> int:
        """Bytes kept outside the blocks and the head: token ids and the angles of RoPE."""
        # Positions that begin again in each document are given for every sequence.
        turns = (self.batch if self.documents else 1) * self.seq * self.arch.head_dim
        lengths = lengths_bytes(self.seq, self.documents, self.batch) if self.attention == "flash" else 0
        wide = self.implementation == "llamalab"
        return self.rows * INDEX_BYTES + lengths + (storage_bytes(turns, "fp32") if wide else self._narrow(2 * turns))

    def mask(self) -> int:
        """The mask that every block makes its own from, a byte a pair: as long as something is computed again."""
        return self.batch * self.seq * self.seq if self.attention == "masked" else 0

    def head(self) -> int:
        """Final norm, input of the head, and the log-probabilities in fp32; fused: a gradient in their place."""
        inputs = self._norm("norm").bytes
        if self.implementation == "fused":
            return inputs + self._narrow(self.own_rows * self.arch.dim)
        labels = self.rows * INDEX_BYTES if self.implementation == "hugging-face" else 0  # shifted by one: a copy
        logits = storage_bytes(self.rows * self.part.vocab_size, "fp32")
        return inputs + self._narrow(self.own_rows * self.arch.dim) + labels + logits


def saved_in_block(arch: LlamaArch, shape: PassShape, implementation: str = "llamalab") -> tuple[Saved, ...]:
    """What one block keeps without recomputation, operation by operation.

    >>> from llamalab.presets import PRESETS
    >>> kept = saved_in_block(PRESETS["7b"].arch, PassShape(new_tokens=4096), "fused")
    >>> sum(item.bytes for item in kept) // 2**20  # a token: 2 (8 D + 3 F) bytes and a little
    514
    """
    return Kept(arch, shape, implementation).block()
