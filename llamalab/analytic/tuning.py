"""The settings of a step: full training, LoRA or QLoRA, and its split over devices."""

from llamalab.analytic.lora import Lora
from llamalab.analytic.optimizers import find_optimizer
from llamalab.analytic.packing import checked
from llamalab.analytic.training import RECOMPUTE
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import InputError, UnknownNameError
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

METHODS = ("full", "lora", "qlora")
PRECISIONS = ("mixed", "masters", "pure", "fp32")
OFFLOADS = ("none", "optimizer", "weights")


class Tuning(NamedTuple):
    """A step: `batch` sequences of `seq` tokens a device and pass, `accumulate` passes, on data x tensor x pipeline.

    `documents` are the lengths of those packed into each sequence; none: one fills it.
    """

    arch: LlamaArch
    seq: int
    batch: int = 1
    method: str = "full"
    lora: Lora | None = None
    dora: bool = False
    train_embeddings: bool = False
    double_quant: bool = True
    precision: str = "mixed"
    optimizer: str = "adamw"
    fused_optimizer: bool = True
    attention: str = "flash"
    implementation: str = "hugging-face"
    recompute: str = "none"
    accumulate: int = 1
    zero: int = 0
    data_parallel: int = 1
    tensor_parallel: int = 1
    sequence_parallel: bool = False
    pipeline_parallel: int = 1
    offload: str = "none"
    on_cpu: bool = False
    documents: tuple[int, ...] = ()

    @property
    def dtype(self) -> str:
        """Of the forward pass."""
        return "fp32" if self.precision == "fp32" else "bf16"


def check_tuning(step: Tuning) -> None:
    """Raises InputError and UnknownNameError for an invalid step."""
    for what, given, known in (
        ("method", step.method, METHODS),
        ("precision", step.precision, PRECISIONS),
        ("recompute", step.recompute, RECOMPUTE),
        ("offload", step.offload, OFFLOADS),
    ):
        if given not in known:
            raise UnknownNameError(what, given, known)
    for name in ("seq", "batch", "accumulate", "data_parallel", "tensor_parallel", "pipeline_parallel"):
        whole(getattr(step, name), name)
    for name in ("dora", "train_embeddings", "double_quant", "fused_optimizer", "sequence_parallel", "on_cpu"):
        if not isinstance(getattr(step, name), bool):
            raise InputError(f"{name} must be True or False; got {getattr(step, name)!r}")
    if step.precision == "masters" and step.method != "full":
        raise InputError(f"masters must be of a model that is trained in full; got {step.method}; take pure or mixed")
    if whole(step.zero, "the ZeRO stage", least=0) > 3:
        raise InputError(f"the ZeRO stage must be from 0 to 3; got {step.zero}")
    if (step.method != "full") != (step.lora is not None):
        raise InputError(f"rank and targets must be given for lora and qlora, and for them alone; got {step.method}")
    if step.arch.n_layers < step.pipeline_parallel:
        raise InputError(
            f"pipeline stages must be at most the {step.arch.n_layers} layers; got {step.pipeline_parallel}"
        )
    checked(step.seq, step.documents)
    find_optimizer(step.optimizer)
    storage_bytes(0, step.dtype)
