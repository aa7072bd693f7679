"""The whole model: embed, L pre-norm blocks, norm, head. Shapes and names as in Meta's llama/model.py.

    x = x + attention(norm(x));  x = x + feed_forward(norm(x))

Batch, context and cache belong to a call, not to the model: nothing here limits positions.
B batch, T new tokens, D model dim, V vocabulary, P = E / 2 rotated pairs.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llamalab.arch import LlamaArch
from llamalab.arch.runnable import model_refusal
from llamalab.attention import Backend, get_backend
from llamalab.choices import LOGITS
from llamalab.errors import FormatError, InputError, UnavailableError, UnknownNameError
from llamalab.model.attention import Attention
from llamalab.model.dtypes import activation_dtype, torch_device
from llamalab.model.feed_forward import FeedForward
from llamalab.model.hook_guards import keep_hook_guards
from llamalab.model.kv_cache.ragged import RaggedKVCache, RaggedLayerCache
from llamalab.model.kv_cache.static import KVCache, LayerCache
from llamalab.model.norm import RMSNorm
from llamalab.model.rope import rotations
from llamalab.model.tap import Tap, joined
from llamalab.model.tap_stack import TapStack

if TYPE_CHECKING:
    from llamalab.model.own_share import Link, Spread  # imports torch.distributed: for models on ranks only


class TransformerBlock(nn.Module):
    """One layer: attention and feed-forward, each behind its norm and beside the residual stream."""

    def __init__(
        self,
        arch: LlamaArch,
        layer: int,
        backend: Backend,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.prefix = f"layers.{layer}."
        self.attention = Attention(arch, layer, backend, dtype=dtype, device=device)
        self.feed_forward = FeedForward(arch, layer, dtype=dtype, device=device)
        self.attention_norm = RMSNorm(arch.dim, arch.norm_eps, dtype=dtype, device=device)
        self.ffn_norm = RMSNorm(arch.dim, arch.norm_eps, dtype=dtype, device=device)

    def forward(
        self,
        x_BTD: Tensor,
        turn_TP: Tensor,
        *,
        cache: LayerCache | RaggedLayerCache | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        if torch.compiler.is_compiling():
            keep_hook_guards()
        x_BTD = x_BTD if tap is None else tap(self.prefix + "resid_pre", x_BTD)
        h_BTD = self.attention_norm(x_BTD)
        h_BTD = h_BTD if tap is None else tap(self.prefix + "attn_norm", h_BTD)
        h_BTD = self.attention(h_BTD, turn_TP, cache=cache, tap=tap)
        h_BTD = h_BTD if tap is None else tap(self.prefix + "attn_out", h_BTD)
        x_BTD = x_BTD + h_BTD
        x_BTD = x_BTD if tap is None else tap(self.prefix + "resid_mid", x_BTD)
        h_BTD = self.ffn_norm(x_BTD)
        h_BTD = h_BTD if tap is None else tap(self.prefix + "ffn_norm", h_BTD)
        h_BTD = self.feed_forward(h_BTD, tap=tap)
        h_BTD = h_BTD if tap is None else tap(self.prefix + "ffn_out", h_BTD)
        x_BTD = x_BTD + h_BTD
        x_BTD = x_BTD if tap is None else tap(self.prefix + "resid_post", x_BTD)
        return x_BTD


class TiedOutput(nn.Module):
    """The head of a model that multiplies by its embedding: no parameter of its own.

    The embedding is held, not registered: it stays one parameter through `to_empty`, `deepcopy`
    and `load_state_dict(assign=True)`, which would split a parameter that two modules share.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self._embedding = (embedding,)

    @property
    def weight(self) -> Tensor:
        """weight_VD of the embedding."""
        return self._embedding[0].weight

    def forward(self, x_BTD: Tensor) -> Tensor:
        return functional.linear(x_BTD, self.weight)


class Transformer(nn.Module):
    """A Llama with Meta's parameter names.

    `dtype` is bf16, fp16 or fp32 (default: torch's); `attention` a name of llamalab.attention.
    Weights are torch's defaults: see llamalab.build and llamalab.load for others.

    >>> from llamalab.presets import PRESETS
    >>> model = Transformer(PRESETS["70b"].arch, dtype="bf16", device="meta")
    >>> sum(weight.numel() for weight in model.parameters())
    68976648192
    """

    def __init__(
        self,
        arch: LlamaArch,
        *,
        attention: str = "sdpa",
        dtype: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        refusal = model_refusal(arch)
        if refusal is not None:
            raise UnavailableError(refusal)
        super().__init__()
        self.arch, self.backend, self.taps = arch, get_backend(attention), TapStack()
        # The architecture for a KV cache; it differs from `arch` where ranks share the heads (llamalab.parallel).
        self.rank_arch = arch
        self.spread: Spread | None = None
        self.link: Link | None = None
        like: dict[str, Any] = {
            "dtype": None if dtype is None else activation_dtype(dtype),
            "device": None if device is None else torch_device(device),
        }
        self.tok_embeddings = _embedding(torch.empty(arch.vocab_size, arch.dim, **like))
        blocks = (TransformerBlock(arch, layer, self.backend, **like) for layer in range(arch.n_layers))
        self.layers = nn.ModuleList(blocks)
        self.norm = RMSNorm(arch.dim, arch.norm_eps, **like)
        self.output: nn.Module = (
            TiedOutput(self.tok_embeddings)
            if arch.tied_embeddings
            else nn.Linear(arch.dim, arch.vocab_size, bias=False, **like)
        )
        self.register_load_state_dict_pre_hook(_drop_derived)  # type: ignore[no-untyped-call]

    def use_attention(self, backend: Backend) -> None:
        """Compute attention by `backend` from now on."""
        self.backend = backend
        for module in self.modules():
            if isinstance(module, Attention):
                module.use(self.backend)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        cache: KVCache | RaggedKVCache | None = None,
        tap: Tap | None = None,
        logits: str = "all",
    ) -> Tensor:
        """logits_BTV in fp32, or logits_B1V of the last position with logits="last".

        With a cache the tokens continue what it holds, and are added to it when the pass is done; a
        failed pass leaves it as it was. Gradients do not flow through cached keys and values. In a
        RaggedKVCache each row of tokens continues a sequence of its own; it takes no tap, as its rows
        have no common keys.

        Raises InputError for tokens that are not token ids of shape (B, T), or do not belong to the
        cache, and CacheOverflowError for more than it has room for, all before any work.
        """
        tap = joined(self.taps.tap, tap)
        _check_tokens(tokens_BT, self.arch.vocab_size)
        if logits not in LOGITS:
            raise UnknownNameError("logits", logits, LOGITS)
        new_tokens = tokens_BT.shape[1]
        if cache is not None:
            cache.check_room(self.rank_arch, *tokens_BT.shape)
            if tap is not None and isinstance(cache, RaggedKVCache):
                raise InputError("a tap must not be used with a ragged KV cache; run the sequences one by one")
        x_BTD = self.tok_embeddings(tokens_BT)
        x_BTD = x_BTD if tap is None else tap("embed", x_BTD)
        start = 0 if cache is None else cache.length
        turn_TP = rotations(start, new_tokens, self.arch, x_BTD.device)
        for place, layer in enumerate(self.layers):
            x_BTD = layer(x_BTD, turn_TP, cache=None if cache is None else cache.at(place), tap=tap)
        x_BTD = self.norm(x_BTD)
        x_BTD = x_BTD if tap is None else tap("final_norm", x_BTD)
        logits_BTV: Tensor = self.output(x_BTD if logits == "all" else _last_position(x_BTD)).float()
        logits_BTV = logits_BTV if tap is None else tap("logits", logits_BTV)
        if cache is not None:
            cache.advance(new_tokens)
        return logits_BTV


def _embedding(table_VD: Tensor) -> nn.Embedding:
    # torch's own initialisation of a table on meta would load its compiler, which takes a second and a half.
    table_VD = table_VD if table_VD.is_meta else nn.init.normal_(table_VD)
    made: nn.Embedding = nn.Embedding.from_pretrained(table_VD, freeze=False)  # type: ignore[no-untyped-call]
    return made


def _last_position(x_BTD: Tensor) -> Tensor:
    """x_B1D with strides of its own: oneDNN repacks the whole weight for a row that keeps the stride of T tokens."""
    return x_BTD[:, -1:].clone(memory_format=torch.contiguous_format)


def _check_tokens(tokens_BT: Tensor, vocab_size: int) -> None:
    if not isinstance(tokens_BT, Tensor) or tokens_BT.dim() != 2 or tokens_BT.numel() == 0:
        got = tuple(tokens_BT.shape) if isinstance(tokens_BT, Tensor) else type(tokens_BT).__name__
        raise InputError(f"tokens must be a tensor of shape (batch, new_tokens), at least (1, 1); got {got}")
    if tokens_BT.dtype not in (torch.int64, torch.int32):
        raise InputError(f"tokens must be int64 or int32; got {tokens_BT.dtype}; use tokens.long()")
    # Reading values would stall a GPU and break a traced graph; there torch's own index check reports them.
    if type(tokens_BT) is not Tensor or tokens_BT.device.type != "cpu" or torch.compiler.is_compiling():
        return
    low, high = (int(bound) for bound in tokens_BT.aminmax())
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise InputError(f"tokens must be ids from 0 to {vocab_size - 1}; got {wrong}; use this model's tokenizer")


def _drop_derived(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Drop redundant entries of checkpoints: Meta's `rope.freqs`, and the head of a tied model."""
    state.pop(prefix + "rope.freqs", None)
    if not isinstance(module, Transformer) or not module.arch.tied_embeddings:
        return
    head, embedding = state.pop(prefix + "output.weight", None), state.get(prefix + "tok_embeddings.weight")
    if head is None or embedding is None or head is embedding or head.is_meta or embedding.is_meta:
        return
    if not torch.equal(head, embedding):
        raise FormatError(
            "output.weight of a tied model must equal tok_embeddings.weight; they differ; "
            "use an architecture with tied_embeddings=False"
        )
