"""Weights, computation and communication of one rank of a tensor-parallel model.

Megatron sharding, as Meta's own code does it (fairscale nn/model_parallel/layers.py): wq, wk, wv, w1,
w3 and the head by output rows, wo and w2 by input columns, the embedding by its columns; norms are
replicated. One forward pass all-reduces the residual twice a layer and gathers embedding and logits. The embedding of
a tied model is its head too, and cut by its vocabulary: looking up is then an all-reduce.

A ring over N ranks sends 2 (N-1)/N of the buffer per rank for an all-reduce and (N-1)/N of the whole
for an all-gather; the first and last byte of a step are in flight at once in both directions.

Experts are cut like any feed-forward, or, under expert parallelism, held whole by 1 / N of the ranks each: every rank
then works for the tokens routed to its own experts, and the same all-reduce adds the parts up.
"""

from math import prod

from llamalab.analytic.params import Weight
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import InputError
from llamalab.startup.hints import NamedTuple

# Below these sizes servers send to all ranks at once instead of round a ring (vLLM csrc/custom_all_reduce.cuh).
ONE_SHOT_BYTES, ONE_SHOT_BYTES_MANY, MANY_RANKS = 512 * 1024, 256 * 1024, 4


class Shard(NamedTuple):
    """The sizes that one of `ranks` ranks works on; KV heads are replicated where there are fewer than ranks."""

    ranks: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dim: int
    ffn_dim: int
    vocab_size: int
    n_experts: int = 0
    expert_ffn_dim: int = 0
    shared_ffn_dim: int = 0

    @property
    def query_dim(self) -> int:
        """Width of this rank's queries."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of this rank's keys, and of its values."""
        return self.n_kv_heads * self.head_dim


def shard(arch: LlamaArch, ranks: int = 1, *, expert_parallel: bool = False) -> Shard:
    """The share of one rank; `dim` is its columns of the embedding. Raises InputError for ranks that do not divide.

    >>> from llamalab.presets import PRESETS
    >>> shard(PRESETS["70b"].arch, 8)[1:3], shard(PRESETS["70b"].arch, 8).ffn_dim
    ((8, 1), 3584)
    """
    ranks = whole(ranks, "tensor-parallel ranks", least=0)
    sizes = {"n_heads": arch.n_heads, "dim": arch.dim, "ffn_dim": arch.ffn_dim, "vocab_size": arch.vocab_size}
    experts, across = arch.experts or Experts(0, 0, 0), ranks if expert_parallel else 1
    if arch.experts is not None:
        sizes |= {"n_experts": experts.n_experts} if expert_parallel else {"width of an expert": experts.ffn_dim}
        sizes |= {"width of the shared experts": experts.shared_ffn_dim}
    for name, size in sizes.items():
        if ranks < 1 or size % ranks:
            raise InputError(f"tensor-parallel ranks must divide {name}={size}; got {ranks}")
    if arch.n_kv_heads % ranks and ranks % arch.n_kv_heads:
        raise InputError(
            f"tensor-parallel ranks must divide n_kv_heads={arch.n_kv_heads} or be a multiple of it; got {ranks}"
        )
    return Shard(
        ranks=ranks,
        n_heads=arch.n_heads // ranks,
        n_kv_heads=max(1, arch.n_kv_heads // ranks),
        head_dim=arch.head_dim,
        dim=arch.dim // ranks,
        ffn_dim=arch.ffn_dim // ranks,
        vocab_size=arch.vocab_size // ranks,
        n_experts=experts.n_experts // across,
        expert_ffn_dim=experts.ffn_dim if expert_parallel else experts.ffn_dim // ranks,
        shared_ffn_dim=experts.shared_ffn_dim // ranks,
    )


def rank_arch(arch: LlamaArch, ranks: int) -> LlamaArch:
    """The architecture for the KV cache of one rank: its own heads, other fields unchanged.

    >>> from llamalab.presets import PRESETS
    >>> rank_arch(PRESETS["70b"].arch, 16)[2:4]
    (4, 1)
    """
    part = shard(arch, ranks)
    return arch.replace(n_heads=part.n_heads, n_kv_heads=part.n_kv_heads, head_dim=arch.head_dim)


_REPLICATED = ("norm.", "router.", "shared_gate.", "wo.bias", "w2.bias")  # whole on every rank


def elements_on_rank(weight: Weight, arch: LlamaArch, part: Shard) -> int:
    """Elements of one occurrence of a weight on one rank.

    >>> from llamalab.analytic.params import weights
    >>> from llamalab.presets import PRESETS
    >>> arch = PRESETS["70b"].arch
    >>> [elements_on_rank(weight, arch, shard(arch, 16)) for weight in weights(arch)[2:4]]
    [4194304, 1048576]
    """
    elements = prod(weight.shape)
    if ".wk." in weight.name or ".wv." in weight.name:  # replicated where there are fewer than ranks
        return elements // arch.kv_dim * part.kv_dim
    if arch.wide_qk_norm and weight.name.endswith(("q_norm.weight", "k_norm.weight")):  # each head's with its head
        return part.query_dim if "q_norm" in weight.name else part.kv_dim
    return elements if any(end in weight.name for end in _REPLICATED) else elements // part.ranks


def all_reduce_bytes(buffer_bytes: int, ranks: int) -> int:
    """Bytes that one rank sends in a ring all-reduce.

    >>> all_reduce_bytes(1000, 4)
    1500
    """
    ranks = whole(ranks, "ranks")
    return -(-2 * (ranks - 1) * _size(buffer_bytes, "buffer_bytes") // ranks)


def all_gather_bytes(whole_bytes: int, ranks: int) -> int:
    """Bytes that one rank sends in a ring all-gather of `whole_bytes`.

    >>> all_gather_bytes(1000, 4)
    750
    """
    ranks = whole(ranks, "ranks")
    return -(-(ranks - 1) * _size(whole_bytes, "whole_bytes") // ranks)


def _size(size_bytes: int, name: str) -> int:
    return whole(size_bytes, name, least=0, most=MOST_MEMORY_BYTES)


def is_one_shot(buffer_bytes: int, ranks: int) -> bool:
    """Whether a collective is so small that latency dominates its time.

    >>> is_one_shot(8192 * 2, 8), is_one_shot(2048 * 8192 * 2, 8)
    (True, False)
    """
    small = ONE_SHOT_BYTES_MANY if whole(ranks, "ranks") > MANY_RANKS else ONE_SHOT_BYTES
    return _size(buffer_bytes, "buffer_bytes") < small


def collective_mode(name: str, buffer_bytes: int, ranks: int) -> str:
    """The mode of a collective's row: separate ones for small collectives, and for gathers, which add nothing up.

    >>> [collective_mode("output.all_gather", size, 2) for size in (2**10, 2**24)]
    ['one_shot_gather', 'gather']
    >>> [collective_mode("layers.*.attention.all_reduce", size, 2) for size in (2**10, 2**24)]
    ['one_shot', '']
    """
    parts = ("one_shot" if is_one_shot(buffer_bytes, ranks) else "", "gather" if name.endswith("all_gather") else "")
    return "_".join(filter(None, parts))
