"""The calls for the costs of training, without PyTorch."""

from collections.abc import Sequence

from llamalab.api.calculate import Model
from llamalab.api.calls import answered
from llamalab.api.results import Result


def tune(
    model: Model = "7b",
    *,
    method: str = "full",
    context: int = 2048,
    batch: int = 1,
    rank: int | None = None,
    targets: str | Sequence[str] | None = None,
    dtype: str = "mixed",
    optimizer: str = "adamw",
    recompute: str = "none",
    memory: str | None = None,
    hardware: str | None = None,
    **others: object,
) -> Result:
    """Bytes on each device term by term, FLOPs and time of a training or fine-tuning step.

    Args:
        model: a preset, a path or an architecture.
        method: full, lora or qlora.
        context: tokens of each sequence.
        batch: sequences of one pass on one device.
        rank: of adapters.
        targets: of adapters: ("q", "v") or "q,v"; all if None.
        dtype: mixed (bf16 with an fp32 master), masters (gradients in fp32 too), pure (bf16) or fp32.
        optimizer: adamw, adamw-8bit, adafactor, sgd or sgd-momentum.
        recompute: none, selective or full gradient checkpointing.
        memory: of one device ("24GB"); gives `largest_batch`.
        hardware: a device of the table, for its memory and its peak.
        others: further options of `llamalab tune`, by name: solve, zero, data_parallel, offload, dora, packing...

    Raises DoesNotFitError, by how much, where `memory` or `hardware` is given.

    >>> import llamalab
    >>> llamalab.tune("7b", method="lora", rank=16, targets=("q", "v")).trained_parameters
    8388608
    """
    return answered(
        "tune",
        model=model,
        method=method,
        context=context,
        batch=batch,
        rank=rank,
        targets=targets,
        dtype=dtype,
        optimizer=optimizer,
        recompute=recompute,
        memory=memory,
        hardware=hardware,
        **others,
    )


def train_memory(
    model: Model = "7b",
    *,
    context: int = 4096,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    implementation: str = "llamalab",
    recompute: str = "none",
    packing: int | None = None,
    document_tokens: int | Sequence[int] | None = None,
    tensor_parallel: int = 1,
    memory: str | None = None,
    hardware: str | None = None,
    solve: str | None = None,
) -> Result:
    """What a step of AdamW holds and computes at each level of recomputation, and what each block keeps.

    Args:
        model: a preset, a path or an architecture.
        context: tokens of each sequence.
        batch: sequences of a step.
        dtype: of weights, gradients and activations.
        attention: flash, masked (a flash kernel that is given a mask) or naive.
        implementation: llamalab, hugging-face or fused: whose operations keep what.
        recompute: none, selective or full.
        packing: documents in each sequence, each attending to itself alone.
        document_tokens: the tokens of a document, or of each.
        tensor_parallel: devices that share the model.
        memory: of one device ("80GB"), into which it must fit.
        hardware: a device of the table, into which it must fit.
        solve: batch, context, weights, ranks or recompute: the answer is in the result's `inputs`; device needs no
            memory and gives `devices`.

    Raises DoesNotFitError, by how much, where `memory` or `hardware` is given.

    >>> import llamalab
    >>> llamalab.train_memory("7b").optimizer_bytes
    80860987392
    >>> llamalab.train_memory("7b", memory="80GB", solve="ranks").inputs["tensor_parallel"]
    2
    """
    return answered(
        "train-memory",
        model=model,
        context=context,
        batch=batch,
        dtype=dtype,
        attention=attention,
        implementation=implementation,
        recompute=recompute,
        packing=packing,
        document_tokens=document_tokens,
        tensor_parallel=tensor_parallel,
        memory=memory,
        hardware=hardware,
        solve=solve,
    )
