"""The whole model: embedding and positions, encoder, decoder, head.

B batch, S source tokens, T target tokens, D dim, V vocabulary.
"""

from torch import Tensor, nn
from torch.nn import functional

from llamalab.classic.blocks import PostNormBlock
from llamalab.classic.masks import causal_mask, padding_mask, target_mask
from llamalab.classic.points import names_of
from llamalab.classic.positions import sinusoids
from llamalab.classic.shape import ClassicArch
from llamalab.classic.state import DecoderState
from llamalab.errors import InputError
from llamalab.model.tap import Tap, joined
from llamalab.model.tap_stack import TapStack

PADDING_ID = 0


class LayerStack(nn.Module):
    """An embedding, sinusoidal positions and blocks: the encoder, or the decoder."""

    def __init__(self, arch: ClassicArch, name: str, embedding: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.name, self.scale, self.dropout = name, arch.dim**0.5, nn.Dropout(dropout)
        self.embedding = embedding
        n_layers = arch.n_encoder_layers if name == "encoder" else arch.n_decoder_layers
        cross = name == "decoder" and arch.has_cross_attention
        blocks = (PostNormBlock(arch, f"{name}.layers.{layer}", dropout, cross=cross) for layer in range(n_layers))
        self.layers = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(arch.dim, arch.norm_eps) if arch.final_norms else None

    def embed(self, tokens_BT: Tensor, start: int, tap: Tap | None) -> Tensor:
        """x_BTD: the token's row times sqrt(D), and its position's sines and cosines."""
        x_BTD: Tensor = self.embedding(tokens_BT) * self.scale
        place_TD = sinusoids(start, tokens_BT.shape[1], x_BTD.shape[-1], device=x_BTD.device)
        x_BTD = self.dropout(x_BTD + place_TD.type_as(x_BTD))
        return x_BTD if tap is None else tap(f"{self.name}.embed", x_BTD)

    def end(self, x_BTD: Tensor, tap: Tap | None) -> Tensor:
        """x_BTD behind the final norm, where there is one."""
        if self.norm is None:
            return x_BTD
        x_BTD = self.norm(x_BTD)
        return x_BTD if tap is None else tap(f"{self.name}.final_norm", x_BTD)


class ClassicTransformer(nn.Module):
    """The Transformer of 2017; token 0 is padding. The head is the embedding of its side, transposed.

    >>> import torch
    >>> from llamalab.classic.shape import BASE
    >>> with torch.device("meta"):
    ...     sum(weight.numel() for weight in ClassicTransformer(BASE).parameters())
    63045632
    """

    def __init__(self, arch: ClassicArch, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.arch, self.taps, self.point_names = arch, TapStack(), names_of(arch)
        target = nn.Embedding(arch.target_vocab, arch.dim)
        source = target if arch.shared_embeddings else nn.Embedding(arch.source_vocab, arch.dim)
        self.encoder = LayerStack(arch, "encoder", source, dropout) if arch.n_encoder_layers else None
        self.decoder = LayerStack(arch, "decoder", target, dropout) if arch.n_decoder_layers else None
        self._initialise()

    def _initialise(self) -> None:
        # Elements of an embedding have a variance of 1 once embed() has multiplied them by sqrt(D); so do logits.
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.arch.dim**-0.5)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, source_BS: Tensor | None, target_BT: Tensor | None, *, tap: Tap | None = None) -> Tensor:
        """logits_BTV in fp32 at every target token, or logits_BSV where there is no decoder.

        An encoder-only model takes no target, a decoder-only one no source. Raises InputError otherwise, and for
        tokens that are not of shape (B, T).
        """
        self._check(source_BS, target_BT)
        tap = joined(self.taps.tap, tap)
        source_BSD = None if source_BS is None else self._encode(source_BS, tap)
        if target_BT is not None:
            return self._decode(target_BT, target_mask(target_BT, PADDING_ID), source_BSD, source_BS, None, tap)
        if source_BSD is not None:
            return self._head(self._stack("encoder"), source_BSD, tap)
        raise InputError("tokens must be given for a stack of the model; none came")

    def encode(self, source_BS: Tensor) -> Tensor:
        """x_BSD: every source token, having seen all others."""
        return self._encode(source_BS, self.taps.tap)

    def _encode(self, source_BS: Tensor, tap: Tap | None) -> Tensor:
        encoder = self._stack("encoder")
        x_BSD = encoder.embed(source_BS, 0, tap)
        seen = padding_mask(source_BS, PADDING_ID)
        for layer in encoder.layers:
            x_BSD = layer(x_BSD, seen, tap=tap)
        return encoder.end(x_BSD, tap)

    def step(
        self, target_BT: Tensor, source_BSD: Tensor | None, source_BS: Tensor | None, state: DecoderState
    ) -> Tensor:
        """logits_BTV of target tokens that continue what the state holds; they must not be padding."""
        seen = causal_mask(target_BT.shape[1], state.length, device=target_BT.device)
        return self._decode(target_BT, seen, source_BSD, source_BS, state, self.taps.tap)

    def _decode(
        self,
        target_BT: Tensor,
        seen: Tensor,
        source_BSD: Tensor | None,
        source_BS: Tensor | None,
        state: DecoderState | None,
        tap: Tap | None,
    ) -> Tensor:
        decoder = self._stack("decoder")
        x_BTD = decoder.embed(target_BT, 0 if state is None else state.length, tap)
        source_seen = None if source_BS is None else padding_mask(source_BS, PADDING_ID)
        for place, layer in enumerate(decoder.layers):
            own = None if state is None else state.layers[place]
            x_BTD = layer(x_BTD, seen, source_BSD=source_BSD, source_seen=source_seen, state=own, tap=tap)
        return self._head(decoder, decoder.end(x_BTD, tap), tap)

    def _stack(self, name: str) -> LayerStack:
        """The encoder or the decoder. Raises InputError where the model has none."""
        stack: LayerStack | None = getattr(self, name)
        if stack is None:
            raise InputError(f"this pass must have a model with its {name}; this one has none; give it layers there")
        return stack

    def _head(self, stack: LayerStack, x_BTD: Tensor, tap: Tap | None) -> Tensor:
        logits_BTV = functional.linear(x_BTD, stack.embedding.weight).float()
        return logits_BTV if tap is None else tap("logits", logits_BTV)

    def _check(self, source_BS: Tensor | None, target_BT: Tensor | None) -> None:
        for name, tokens, stack in (("source", source_BS, self.encoder), ("target", target_BT, self.decoder)):
            if (tokens is None) != (stack is None):
                raise InputError(
                    f"{name} tokens must be given exactly where the model has that stack; "
                    f"{'it has none' if stack is None else 'none came'}"
                )
            if tokens is not None and (tokens.dim() != 2 or tokens.numel() == 0):
                raise InputError(f"{name} tokens must be of shape (batch, tokens); got {tuple(tokens.shape)}")
