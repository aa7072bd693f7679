"""The needs of a training step: memory of weights, gradients, AdamW and activations; its FLOPs.

Activations kept for the backward pass are in llamalab.analytic.saved_activations; levels of recomputation are those of
Korthikanti et al. 2022 (arXiv 2205.05198) and keep less:

    none        everything
    selective   all but what lies inside attention (scores and pattern; flash keeps none of them)
    full        the input of each block; one block at a time is rebuilt in the backward pass

AdamW in mixed precision holds 16 bytes a parameter: weight 2, gradient 2, and in fp32 a master weight
and two moments. The backward pass does twice the forward's products; flash attention recomputes its
scores there and does 2.5 times its own (five products for two; Dao et al. 2022).
"""

from collections.abc import Iterable

from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.packing import spans
from llamalab.analytic.parallel import elements_on_rank, shard
from llamalab.analytic.params import weights
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import Kept
from llamalab.analytic.training_margin import Margin, training_margin
from llamalab.arch import LlamaArch
from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

RECOMPUTE = ("none", "selective", "full")
FLASH_BACKWARD = (5, 2)  # products of the backward pass for so many of the forward pass


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

    @property
    def margin(self) -> Margin:
        """What must be free beside it."""
        return training_margin(self.total_bytes, self.activation_bytes)

    @property
    def safe_bytes(self) -> int:
        """The memory in which the step is stated to fit: the sum and its margin."""
        return self.total_bytes + self.margin.total_bytes


class TrainingFlops(NamedTuple):
    """Matrix FLOPs of one step on one rank, causal."""

    forward: int
    backward: int
    recomputed: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def activation_bytes(
    arch: LlamaArch,
    shape: PassShape,
    *,
    recompute: str = "none",
    implementation: str = "llamalab",
    documents: tuple[int, ...] = (),
) -> int:
    """Bytes kept over the whole model at the end of the forward pass, head and loss included."""
    if recompute not in RECOMPUTE:
        raise UnknownNameError("recompute", recompute, RECOMPUTE)
    kept = Kept(arch, shape, implementation, documents=documents)
    block, head, once = kept.block(), kept.head(), kept.once()
    everything = sum(item.bytes for item in block)
    if recompute == "none":
        return once + arch.n_layers * everything + head
    once += kept.mask()
    rebuilt = sum(item.bytes for item in block if item.inside_attention)
    if recompute == "selective":  # one block's attention is rebuilt at a time
        return once + arch.n_layers * (everything - rebuilt) + max(head, rebuilt)
    inputs = arch.n_layers * storage_bytes(kept.rows * arch.dim, kept.dtype)
    # The head's share is freed before the first block is rebuilt.
    return once + inputs + max(head, everything)


def training_memory(
    arch: LlamaArch,
    shape: PassShape,
    *,
    recompute: str = "none",
    implementation: str = "llamalab",
    documents: tuple[int, ...] = (),
) -> TrainingMemory:
    """Memory of one rank in a step of AdamW.

    >>> from llamalab.presets import PRESETS
    >>> memory = training_memory(PRESETS["7b"].arch, PassShape(new_tokens=4096))
    >>> sum(memory[:3]) / 6_738_415_616  # bytes a parameter
    16.0
    """
    activations = activation_bytes(arch, shape, recompute=recompute, implementation=implementation, documents=documents)
    parameters = rank_parameters(arch, shape.tensor_parallel)
    stored = storage_bytes(parameters, shape.dtype)
    master = 0 if shape.dtype == "fp32" else 4 * parameters
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
    arch: LlamaArch, shape: PassShape, *, recompute: str = "none", documents: tuple[int, ...] = ()
) -> TrainingFlops:
    """Matrix FLOPs of a step: forward, backward, and what recomputation adds; of `documents` their own pairs alone.

    >>> from llamalab.presets import PRESETS
    >>> flops = training_flops(PRESETS["7b"].arch, PassShape(new_tokens=2048, attention="naive"))
    >>> flops.forward, flops.backward == 2 * flops.forward
    (28162637430784, True)
    """
    if recompute not in RECOMPUTE:
        raise UnknownNameError("recompute", recompute, RECOMPUTE)
    naive = shape.attention == "naive"
    shape = shape._replace(logits="all", attention="naive" if naive else "flash")
    ops = forward_ops(arch, shape)
    core = sum(
        number * _flops(op for op in forward_ops(arch, shape._replace(new_tokens=tokens)) if op.kind == "attention")
        for tokens, number in spans(shape.new_tokens, documents).items()
    )
    products = _flops(op for op in ops if op.kind != "attention")
    head = _flops(op for op in ops if op.part == "head")
    up, down = (2, 1) if naive else FLASH_BACKWARD
    again = {"none": 0, "selective": core if naive else 0, "full": core + products - head}
    return TrainingFlops(core + products, 2 * products + up * core // down, again[recompute])


def _flops(ops: Iterable[Op]) -> int:
    return sum(op.count * op.flops_causal for op in ops)
