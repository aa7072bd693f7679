"""One training step for real, as transformers, PEFT, bitsandbytes and torch take it, and what it holds."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from experiments.common.varlen import attend_packed
from llamalab.analytic.packing import spans
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch
from llamalab.errors import MissingError
from llamalab.measure.device.peak_memory import allocation_peak

_MODULES = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}
_RECOMPUTED = "recomputed"  # the name of an attention function that keeps its inputs alone
_PACKED = "packed"  # and of one that takes the lengths of documents


class Taken(NamedTuple):
    """Bytes there before a step, bytes that it took beside them at its peak, and how many parameters were trained."""

    resident_bytes: int
    peak_bytes: int
    trained: int

    @property
    def total_bytes(self) -> int:
        """Both together."""
        return self.resident_bytes + self.peak_bytes


def take_step(step: Tuning) -> Taken:
    """Build the model, take one step for the states of the optimiser, and measure the next one.

    Raises MissingError where bitsandbytes is needed and is not there.
    """
    model = _model(step)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    mastered = step.precision == "mixed" and step.method == "full"
    masters = [nn.Parameter(weight.detach().float()) for weight in trained] if mastered else []
    updates = [_optimizer(step, [master]) for master in masters] or [_optimizer(step, trained)]
    tokens_BT = torch.arange(step.batch * step.seq).view(step.batch, step.seq) % step.arch.vocab_size
    places_BT = _places(step)

    def run() -> None:
        for _ in range(step.accumulate):
            model(input_ids=tokens_BT, position_ids=places_BT, labels=tokens_BT, use_cache=False).loss.backward()
        for own, master, update in zip(trained, masters, updates, strict=bool(masters)):
            master.grad, own.grad = _widened(own), None
            _update(update)
            own.data.copy_(master.data)
        if not masters:
            _update(updates[0])

    run()
    peak = allocation_peak(run)
    assert peak is not None
    held = [tensor for weight in model.parameters() for tensor in (weight, *_constants(weight))]
    held += masters
    held += [v for update in updates for state in update.state.values() for v in state.values() if _is_array(v)]
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in held}  # a table that all share is there once
    return Taken(sum(sizes.values()), peak, sum(weight.numel() for weight in trained))


def _widened(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad.float()


def _update(update: Any) -> None:
    update.step()
    update.zero_grad(set_to_none=True)


def _model(step: Tuning) -> Any:
    kind = torch.float32 if step.dtype == "fp32" else torch.bfloat16
    model = hugging_face(step.arch, _attention(step)).to(kind).train()
    if step.recompute == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if step.method == "qlora":
        _quantise(model, twice=step.double_quant)
    if step.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    tables = ["embed_tokens", "lm_head"] if step.train_embeddings else None
    names = [_MODULES[target] for target in step.lora.targets]
    if step.recompute == "full":
        model.enable_input_require_grads()
    return get_peft_model(
        model, LoraConfig(r=step.lora.rank, target_modules=names, use_dora=step.dora, modules_to_save=tables)
    )


def hugging_face(arch: LlamaArch, attention: str) -> nn.Module:
    """Transformers' model of that shape with random weights in fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=arch.dim,
        num_hidden_layers=arch.n_layers,
        num_attention_heads=arch.n_heads,
        num_key_value_heads=arch.n_kv_heads,
        intermediate_size=arch.ffn_dim,
        vocab_size=arch.vocab_size,
        attn_implementation=attention,
        tie_word_embeddings=arch.tied_embeddings,
    )
    return LlamaForCausalLM(config)


def _attention(step: Tuning) -> str:
    from transformers import AttentionInterface

    own = "eager" if step.attention == "naive" else "sdpa"
    if step.documents and step.attention == "flash":
        AttentionInterface.register(_PACKED, partial(attend_packed, lengths=_spans(step)))
        own = _PACKED
    if step.recompute != "selective":
        return own
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.models.llama.modeling_llama import eager_attention_forward

    plain = eager_attention_forward if own == "eager" else AttentionInterface()[own]
    AttentionInterface.register(_RECOMPUTED, partial(_again, plain))
    if step.attention == "masked":
        AttentionMaskInterface.register(_RECOMPUTED, AttentionMaskInterface()["sdpa"])
    return _RECOMPUTED


def _spans(step: Tuning) -> tuple[int, ...]:
    """Documents of a sequence, and the padding after them."""
    return tuple(spans(step.seq, step.documents).elements())


def _places(step: Tuning) -> Tensor | None:
    """Places that begin again in each document, by which transformers knows a packed sequence; None of a plain one."""
    if not step.documents:
        return None
    return torch.cat([torch.arange(span) for span in _spans(step)]).repeat(step.batch, 1)


def _again(plain: Any, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **others: Any) -> Any:
    """Attention that keeps its inputs and is computed again in the backward pass (Korthikanti et al. 2022)."""
    return checkpoint(partial(plain, module, **others), q, k, v, mask, use_reentrant=False)


def _quantise(model: Any, *, twice: bool) -> None:
    """Every matrix of a block to bitsandbytes' NF4, as transformers loads a QLoRA base."""
    bits = _bitsandbytes()
    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, linear in list(parent.named_children()):
                if isinstance(linear, nn.Linear):
                    narrow = bits.nn.Linear4bit(
                        linear.in_features,
                        linear.out_features,
                        bias=False,
                        compute_dtype=linear.weight.dtype,
                        quant_type="nf4",
                        compress_statistics=twice,
                    )
                    narrow.weight = bits.nn.Params4bit(
                        linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=twice
                    ).to("cpu")
                    setattr(parent, name, narrow)
    model.is_loaded_in_4bit = True


def _constants(weight: Tensor) -> list[Tensor]:
    """What lies beside a quantised weight's codes."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return []
    nested = [state.state2.absmax, state.state2.code, state.offset] if state.nested else []
    return [state.absmax, state.code, *nested]


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() > 1


def _optimizer(step: Tuning, trained: list[nn.Parameter]) -> Any:
    if step.optimizer == "adamw-8bit":
        return _bitsandbytes().optim.AdamW8bit(trained, min_8bit_size=0)
    fused = {"fused": True} if step.fused_optimizer else {"foreach": False}
    return {
        "adamw": partial(torch.optim.AdamW, **fused),
        "sgd": partial(torch.optim.SGD, **fused),
        "sgd-momentum": partial(torch.optim.SGD, momentum=0.9, **fused),
        "adafactor": partial(torch.optim.Adafactor, foreach=False),
    }[step.optimizer](trained, lr=1e-3)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingError(
            f"QLoRA and 8-bit optimisers need bitsandbytes; pip install llamalab[qlora] ({error})"
        ) from None
    return bitsandbytes
