"""The needs of a training step: memory of weights, gradients, AdamW and activations; its FLOPs.

Activations kept for the backward pass, after Korthikanti et al. 2022 (arXiv 2205.05198), enumerated
for this model (gated MLP, GQA, no dropout, no biases) because no published formula covers it: an
operation keeps the inputs that its gradient needs. Recomputation keeps less:

    none        everything
    selective   all but what lies inside attention (scores and pattern; flash keeps none of them)
    full        the input of each block; one block at a time is rebuilt in the backward pass

AdamW in mixed precision holds 16 bytes a parameter: weight 2, gradient 2, and in fp32 a master weight
and two moments. The backward pass does twice the forward's products; flash attention recomputes its
scores there and does 2.5 times its own (five products for two; Dao et al. 2022).
"""

from collections.abc import Iterable
from typing import NamedTuple

from llamalab.analytic.ops import ALGORITHMS, Op, forward_ops
from llamalab.analytic.parallel import Shard, elements_on_rank, shard
from llamalab.analytic.params import weights
from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnavailableError, UnknownNameError
from llamalab.units import storage_bytes

RECOMPUTE = ("none", "selective", "full")
DTYPES_TRAINED = ("bf16", "fp16", "fp32")
FLASH_BACKWARD = (5, 2)  # products of the backward pass for so many of the forward pass


class Saved(NamedTuple):
    """What one operation of a block keeps for its gradient, for the whole batch on one rank."""

    name: str
    bytes: int
    inside_attention: bool = False


class TrainingMemory(NamedTuple):
    """Bytes of one rank at the largest moment of a step."""

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return sum(self)


class TrainingFlops(NamedTuple):
    """Matrix FLOPs of one step on one rank, causal."""

    forward: int
    backward: int
    recomputed: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def saved_in_block(
    arch: LlamaArch,
    *,
    seq: int,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    tensor_parallel: int = 1,
) -> tuple[Saved, ...]:
    """What one block keeps without recomputation, operation by operation.

    Norms and residuals are replicated over the ranks, everything between them is split.

    >>> from llamalab.presets import PRESETS
    >>> kept = saved_in_block(PRESETS["7b"].arch, seq=4096)
    >>> sum(item.bytes for item in kept) // 2**20  # a token: 2 (8 D + 4 F) bytes and a little
    600
    """
    _check(seq, batch, dtype, attention)
    part, rows = shard(arch, tensor_parallel), batch * seq
    heads, roots = part.query_dim + part.kv_dim, part.n_heads + part.n_kv_heads
    if arch.experts is not None:
        raise UnavailableError("activations kept in training are known for dense models; this one has experts")

    def kept(name: str, width: int, *, fp32: int = 0, inside: bool = False) -> Saved:
        return Saved(name, storage_bytes(rows * width, dtype) + storage_bytes(rows * fp32, "fp32"), inside)

    return (
        kept("attention_norm: input, and the root of each row", arch.dim, fp32=1),
        kept("wq, wk, wv: their input", arch.dim),
        *((kept("q_norm, k_norm: input, and the root of each head", heads, fp32=roots),) if arch.qk_norm else ()),
        kept("attention: q, k, v after rope", part.query_dim + 2 * part.kv_dim),
        *_inside_attention(part, seq, batch, dtype, attention),
        kept("wo: its input", part.query_dim),
        kept("ffn_norm: input, and the root of each row", arch.dim, fp32=1),
        kept("w1, w3: their input", arch.dim),
        kept("silu: gate", part.ffn_dim),
        kept("product: silu(gate) and up", 2 * part.ffn_dim),
        kept("w2: its input", part.ffn_dim),
    )


def _inside_attention(part: Shard, seq: int, batch: int, dtype: str, attention: str) -> tuple[Saved, ...]:
    if attention == "flash":
        # Its own output is what wo keeps.
        return (Saved("flash: log-sum of each row", storage_bytes(batch * part.n_heads * seq, "fp32")),)
    pattern = storage_bytes(batch * part.n_heads * seq * seq, dtype)
    return (Saved("softmax: the pattern", pattern, True),)


def activation_bytes(
    arch: LlamaArch,
    *,
    seq: int,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    recompute: str = "none",
    tensor_parallel: int = 1,
) -> int:
    """Bytes kept over the whole model at the end of the forward pass, head and loss included."""
    if recompute not in RECOMPUTE:
        raise UnknownNameError("recompute", recompute, RECOMPUTE)
    block = saved_in_block(
        arch, seq=seq, batch=batch, dtype=dtype, attention=attention, tensor_parallel=tensor_parallel
    )
    everything = sum(item.bytes for item in block)
    head = _head_bytes(arch, batch * seq, dtype, tensor_parallel)
    if recompute == "none":
        return arch.n_layers * everything + head
    rebuilt = sum(item.bytes for item in block if item.inside_attention)
    if recompute == "selective":  # one block's attention is rebuilt at a time
        return arch.n_layers * (everything - rebuilt) + max(head, rebuilt)
    inputs = arch.n_layers * storage_bytes(batch * seq * arch.dim, dtype)
    # The head's share is freed before the first block is rebuilt.
    return inputs + max(head, everything)


def training_memory(
    arch: LlamaArch,
    *,
    seq: int,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    recompute: str = "none",
    tensor_parallel: int = 1,
) -> TrainingMemory:
    """What one rank holds in a step of AdamW.

    >>> from llamalab.presets import PRESETS
    >>> memory = training_memory(PRESETS["7b"].arch, seq=4096)
    >>> sum(memory[:3]) / 6_738_415_616  # bytes a parameter
    16.0
    """
    activations = activation_bytes(
        arch, seq=seq, batch=batch, dtype=dtype, attention=attention, recompute=recompute,
        tensor_parallel=tensor_parallel,
    )  # fmt: skip
    parameters = rank_parameters(arch, tensor_parallel)
    stored = storage_bytes(parameters, dtype)
    master = 0 if dtype == "fp32" else 4 * parameters
    return TrainingMemory(stored, stored, master + 8 * parameters, activations)


def rank_parameters(arch: LlamaArch, ranks: int) -> int:
    """Parameters of one rank; norms are replicated, and so are KV heads where there are fewer than ranks.

    >>> from llamalab.presets import PRESETS
    >>> rank_parameters(PRESETS["7b"].arch, 1)
    6738415616
    """
    part = shard(arch, ranks)
    return sum(weight.count * elements_on_rank(weight, arch, part) for weight in weights(arch))


def training_flops(
    arch: LlamaArch,
    *,
    seq: int,
    batch: int = 1,
    attention: str = "flash",
    recompute: str = "none",
    tensor_parallel: int = 1,
) -> TrainingFlops:
    """Matrix FLOPs of a step: forward, backward, and what recomputation adds.

    >>> from llamalab.presets import PRESETS
    >>> flops = training_flops(PRESETS["7b"].arch, seq=2048, attention="naive")
    >>> flops.forward, flops.backward == 2 * flops.forward
    (28162637430784, True)
    """
    if recompute not in RECOMPUTE:
        raise UnknownNameError("recompute", recompute, RECOMPUTE)
    ops = forward_ops(
        arch, new_tokens=seq, batch=batch, attention=attention, logits="all", tensor_parallel=tensor_parallel
    )
    core = _flops(op for op in ops if op.kind == "attention")
    products = _flops(op for op in ops if op.kind != "attention")
    head = _flops(op for op in ops if op.name == "output")
    up, down = FLASH_BACKWARD if attention == "flash" else (2, 1)
    again = {"none": 0, "selective": 0 if attention == "flash" else core, "full": core + products - head}
    return TrainingFlops(core + products, 2 * products + up * core // down, again[recompute])


def _flops(ops: Iterable[Op]) -> int:
    return sum(op.count * op.flops_causal for op in ops)


def _head_bytes(arch: LlamaArch, rows: int, dtype: str, ranks: int) -> int:
    """Final norm's input, the head's input, the logits, and the loss's fp32 log-probabilities."""
    vocab = shard(arch, ranks).vocab_size
    return storage_bytes(rows * (2 * arch.dim + vocab), dtype) + storage_bytes(rows * (1 + vocab), "fp32")


def _check(seq: int, batch: int, dtype: str, attention: str) -> None:
    for what, size in (("seq", seq), ("batch", batch)):
        if size < 1:
            raise InputError(f"{what} must be at least 1; got {size}")
    if dtype not in DTYPES_TRAINED:
        raise UnknownNameError("dtype of training", dtype, DTYPES_TRAINED)
    if attention not in ALGORITHMS:
        raise UnknownNameError("attention", attention, ALGORITHMS)
