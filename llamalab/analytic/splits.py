"""Ways to split a model over devices: tensor, pipeline and context parallelism, and replicas; the op table of one.

tensor     N ranks share every layer (analytic.parallel): two all-reduces a layer
pipeline   P stages share the layers: a stage sends its activations on; with m microbatches of M a stage is idle for
           (P - 1) / (m + P - 1) of the time (Huang et al. 2019, GPipe, arXiv 1811.06965)
context    C ranks share the prompt's tokens, each with all weights: keys and values go round a ring, C - 1 times a
           layer (Liu et al. 2023, Ring Attention, arXiv 2310.01889), while attention works on what is there, and
           what it gives is merged with what is there already, in fp32; a decode step attends to 1 / C of the cache
           and adds up the parts
replicas   whole models beside each other share the sequences
"""

from llamalab.analytic.op import Op
from llamalab.analytic.op_rows import LAYER
from llamalab.analytic.parallel import all_reduce_bytes, collective_mode, shard
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes


class Split(NamedTuple):
    """The number of ways of each kind of parallelism.

    >>> Split(tensor=4, pipeline=2).devices, str(Split(tensor=4, replicas=2))
    (8, 'TP 4 × 2 replicas')
    """

    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    replicas: int = 1

    @property
    def devices(self) -> int:
        """All of them together."""
        return self.sharing * self.replicas

    @property
    def sharing(self) -> int:
        """Devices that share one copy of the model and communicate."""
        return self.tensor * self.pipeline * self.context

    @property
    def only_tensor(self) -> bool:
        """Whether it is tensor parallelism alone, or one device."""
        return self.devices == self.tensor

    def __str__(self) -> str:
        parts = [f"{short} {ways}" for short, ways in zip(("TP", "PP", "CP"), self[:3], strict=True) if ways > 1]
        parts += [f"{self.replicas} replicas"] if self.replicas > 1 else []
        return " × ".join(parts) or "one device"


def check_split(arch: LlamaArch, split: Split, work: Workload) -> None:
    """Raise InputError for a split that does not divide the model, the prompt or the batch."""
    shard(arch, split.tensor)
    if arch.n_layers % split.pipeline:
        raise InputError(f"pipeline stages must divide n_layers={arch.n_layers}; got {split.pipeline}")
    if work.prompt % split.context:
        raise InputError(f"context-parallel ranks must divide the prompt of {work.prompt} tokens; got {split.context}")
    if work.batch % split.replicas:
        raise InputError(f"replicas must divide the batch of {work.batch}; got {split.replicas}")


def microbatches(work: Workload, split: Split) -> int:
    """Number of equal parts of a replica's sequences: as many as there are stages, where that divides them.

    >>> microbatches(Workload(8, batch=6), Split(pipeline=4)), microbatches(Workload(8), Split(pipeline=4))
    (3, 1)
    """
    sequences = work.batch // split.replicas
    return next(parts for parts in range(min(split.pipeline, sequences), 0, -1) if sequences % parts == 0)


def stage_ops(
    arch: LlamaArch, work: Workload, split: Split, new_tokens: int, context_tokens: int, parts: int | None = None
) -> tuple[Op, ...]:
    """The op table of one rank for one of `parts` microbatches (default: as microbatches says), through all stages.

    Sends and rings are collectives of the table.

    >>> from llamalab.presets import PRESETS
    >>> ops = stage_ops(PRESETS["7b"].arch, Workload(2048), Split(pipeline=2, context=2), 2048, 2048)
    >>> [(op.name, op.count, op.link_bytes) for op in ops if op.name.endswith((".ring", ".send"))]
    [('layers.*.attention.ring', 32, 16777216), ('pipeline.send', 1, 8388608)]
    """
    batch = work.batch // split.replicas // (parts or microbatches(work, split))
    decodes = new_tokens == 1
    own_new = new_tokens if decodes else new_tokens // split.context
    own_context = -(-context_tokens // split.context) if decodes else context_tokens - (new_tokens - own_new) // 2
    run = work._replace(tensor_parallel=split.tensor, batch=batch, layer_parallel=1)
    ops = pass_ops(arch, run, own_new, own_context)
    extra = [
        _ring(arch, run, split, own_new, decodes) if split.context > 1 else None,
        _merge(arch, run, split, own_new) if split.context > 1 and not decodes else None,
        _send(arch, run, split, own_new) if split.pipeline > 1 else None,
    ]
    return (*ops, *(op for op in extra if op is not None))


def _ring(arch: LlamaArch, work: Workload, split: Split, own_new: int, decodes: bool) -> Op:
    part = shard(arch, split.tensor)
    if decodes:  # the parts of the output, with the largest score and the sum of each head, are added up
        buffer = storage_bytes(work.batch * (part.query_dim + 2 * part.n_heads), work.dtype)
        link = all_reduce_bytes(buffer, split.context)
    else:
        buffer = storage_bytes(2 * work.batch * own_new * part.kv_dim, work.kv_dtype or work.dtype)
        link = (split.context - 1) * buffer
    return _collective(f"{LAYER}attention.ring", arch.n_layers, buffer, link, split.context)


def _merge(arch: LlamaArch, work: Workload, split: Split, own_new: int) -> Op:
    """Each further part of attention's output, scaled and added to the sum."""
    elements = work.batch * own_new * shard(arch, split.tensor).query_dim
    return Op(
        f"{LAYER}attention.merge",
        "elementwise",
        arch.n_layers * (split.context - 1),
        vector_flops=3 * elements,
        read_bytes=storage_bytes(elements, "fp32") + storage_bytes(elements, work.dtype),
        written_bytes=storage_bytes(elements, "fp32"),
        part="attention",
        roof="copy",
    )


def _send(arch: LlamaArch, work: Workload, split: Split, own_new: int) -> Op:
    buffer = storage_bytes(work.batch * own_new * arch.dim, work.dtype)
    return _collective("pipeline.send", split.pipeline - 1, buffer, buffer, 2)


def _collective(name: str, count: int, buffer_bytes: int, link_bytes: int, ranks: int) -> Op:
    return Op(
        name,
        "collective",
        count,
        read_bytes=buffer_bytes,
        written_bytes=buffer_bytes,
        link_bytes=link_bytes,
        mode=collective_mode(name, buffer_bytes, ranks),
        part="attention",
        roof="copy",
    )
