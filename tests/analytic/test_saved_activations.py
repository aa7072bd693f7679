"""What autograd is said to keep against what torch.autograd.graph.saved_tensors_hooks sees it keep."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.saved_activations import IMPLEMENTATIONS, Kept, saved_in_block
from llamalab.analytic.training import activation_bytes
from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnknownNameError
from llamalab.model import Transformer

ARCHS = {
    "gqa": LlamaArch(48, 2, 6, 2, 80, 96),
    "mha": LlamaArch(64, 3, 4, 4, 172, 300),
    "mqa": LlamaArch(96, 1, 6, 1, 40, 50),
}
TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def saved_bytes(step: Callable[[], Tensor], own: Iterable[nn.Parameter]) -> int:
    """Bytes of the storages that one step keeps for its backward pass, each once, weights apart."""
    weights, kept, alive = {weight.untyped_storage().data_ptr() for weight in own}, {}, []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # no address is given out twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(step())
    return sum(kept.values())


def hugging_face(arch: LlamaArch, attention: str) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=arch.dim, num_hidden_layers=arch.n_layers, num_attention_heads=arch.n_heads,
        num_key_value_heads=arch.n_kv_heads, intermediate_size=arch.ffn_dim, vocab_size=arch.vocab_size,
        attn_implementation="sdpa" if attention == "flash" else "eager", tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("attention", ["flash", "naive"])
@pytest.mark.parametrize("implementation", ["llamalab", "hugging-face"])
@pytest.mark.parametrize(("name", "batch", "seq"), [("gqa", 3, 50), ("mha", 1, 33), ("mqa", 2, 64)])
def test_autograd_keeps_what_is_said(
    name: str, batch: int, seq: int, implementation: str, attention: str, dtype: str
) -> None:
    arch, tokens_BT = ARCHS[name], torch.arange(batch * seq).view(batch, seq) % 40
    if implementation == "llamalab":
        model: nn.Module = Transformer(arch, attention={"flash": "sdpa"}.get(attention, attention), dtype=dtype)

        def step() -> Tensor:
            return functional.cross_entropy(model(tokens_BT).flatten(0, 1), tokens_BT.flatten())
    else:
        model = hugging_face(arch, attention).to(TORCH[dtype])

        def step() -> Tensor:
            return model(tokens_BT, labels=tokens_BT, use_cache=False).loss

    measured = saved_bytes(step, model.parameters())
    counted = activation_bytes(
        arch, PassShape(new_tokens=seq, batch=batch, dtype=dtype, attention=attention), implementation=implementation
    )
    assert counted == pytest.approx(measured, rel=0.01)


class FusedNorm(torch.autograd.Function):
    """RMSNorm that keeps what a fused kernel keeps."""

    @staticmethod
    def forward(ctx, x, weight):
        root = x.float().pow(2).mean(-1, keepdim=True).add(1e-5).rsqrt()
        ctx.save_for_backward(x, weight, root)
        return (x * root).to(x.dtype) * weight


class FusedSwiGLU(torch.autograd.Function):
    """SwiGLU that keeps its two inputs."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return functional.silu(gate) * up


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_block_of_fused_kernels(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    arch, batch, seq = ARCHS["gqa"], 3, 50
    model = Transformer(arch, dtype=dtype)
    monkeypatch.setattr("llamalab.model.norm.RMSNorm.forward", lambda self, x: FusedNorm.apply(x, self.weight))
    monkeypatch.setattr(
        "llamalab.model.feed_forward.FeedForward.forward",
        lambda self, x, tap=None: self.w2(FusedSwiGLU.apply(self.w1(x), self.w3(x))),
    )
    x_BTD = torch.randn(batch, seq, arch.dim, dtype=TORCH[dtype], requires_grad=True)
    from llamalab.model.rope import rotations

    turn_TP = rotations(0, seq, arch, x_BTD.device)
    measured = saved_bytes(lambda: model.layers[0](x_BTD, turn_TP), model.parameters())
    counted = sum(
        item.bytes
        for item in saved_in_block(arch, PassShape(new_tokens=seq, batch=batch, dtype=dtype), implementation="fused")
    )
    assert counted == pytest.approx(measured - turn_TP.nbytes, rel=0.01)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_only_what_lies_between_the_norms_is_split(implementation: str) -> None:
    arch = LlamaArch(512, 4, 16, 8, 1024, 256)
    alone, shared = (
        saved_in_block(arch, PassShape(new_tokens=64, tensor_parallel=n), implementation=implementation) for n in (1, 8)
    )
    whole = ("attention_norm", "wq", "ffn_norm", "w1")
    for one, part in zip(alone, shared, strict=True):
        assert part.bytes * (1 if one.name.startswith(whole) else 8) == one.bytes, one.name


def test_logits_are_counted_once() -> None:
    small, large = (Kept(ARCHS["gqa"].replace(vocab_size=size), PassShape(new_tokens=10)).head() for size in (96, 97))
    assert large - small == 10 * 4


@pytest.mark.parametrize(
    ("shape", "implementation"),
    [
        (PassShape(new_tokens=4, dtype="int8"), "llamalab"),
        (PassShape(new_tokens=4, attention="linear"), "llamalab"),
        (PassShape(new_tokens=4), "jax"),
    ],
)
def test_unknown_words_are_refused(shape: PassShape, implementation: str) -> None:
    with pytest.raises(UnknownNameError):
        saved_in_block(ARCHS["gqa"], shape, implementation)


def test_a_training_pass_begins_its_context() -> None:
    with pytest.raises(InputError, match="got 4 new tokens of 9"):
        saved_in_block(ARCHS["gqa"], PassShape(new_tokens=4, context_tokens=9))
