"""The sizes of a Transformer of 2017, checked once."""

from typing import Any, NamedTuple

from llamalab.arch.fields import MAX_LAYERS, MAX_SIZE
from llamalab.arch.parts import check_number, check_whole
from llamalab.errors import InputError

_SIZES = ("dim", "n_heads", "ffn_dim", "source_vocab", "target_vocab")


class _Fields(NamedTuple):
    dim: int
    n_heads: int
    ffn_dim: int
    n_encoder_layers: int
    n_decoder_layers: int
    source_vocab: int
    target_vocab: int
    norm_eps: float
    attention_bias: bool
    final_norms: bool
    shared_embeddings: bool


class ClassicArch(_Fields):
    """A frozen, validated shape; defaults are those of the paper.

    n_encoder_layers   0 for a decoder-only model, which then has no cross attention
    n_decoder_layers   0 for an encoder-only model, whose head reads every source token
    attention_bias     biases of the four projections of attention: none in the paper, there in torch.nn.Transformer
    final_norms        one more LayerNorm behind each stack: as attention_bias
    shared_embeddings  one table for source, target and head, as in the paper's section 3.4; both vocabularies are one

    >>> BASE.head_dim, BASE.n_layers
    (64, 12)
    """

    __slots__ = ()

    def __new__(
        cls,
        dim: int,
        n_heads: int,
        ffn_dim: int,
        n_encoder_layers: int,
        n_decoder_layers: int,
        source_vocab: int,
        target_vocab: int,
        *,
        norm_eps: float = 1e-5,
        attention_bias: bool = False,
        final_norms: bool = False,
        shared_embeddings: bool = False,
    ) -> "ClassicArch":
        self = super().__new__(
            cls,
            dim,
            n_heads,
            ffn_dim,
            n_encoder_layers,
            n_decoder_layers,
            source_vocab,
            target_vocab,
            norm_eps,
            attention_bias,
            final_norms,
            shared_embeddings,
        )
        for name in _SIZES:
            check_whole(f"{name} of ClassicArch", getattr(self, name), MAX_SIZE)
        for name in ("n_encoder_layers", "n_decoder_layers"):
            if (layers := getattr(self, name)) != 0:
                check_whole(f"{name} of ClassicArch", layers, MAX_LAYERS)
        check_number("norm_eps of ClassicArch", norm_eps)
        self._check()
        return self

    def _check(self) -> None:
        if not self.n_layers:
            raise InputError("ClassicArch must have an encoder or a decoder; got 0 layers of both")
        if self.dim % self.n_heads:
            raise InputError(f"dim of ClassicArch must be a multiple of n_heads={self.n_heads}; got {self.dim}")
        if self.dim % 2:
            raise InputError(f"dim of ClassicArch must be even, for sines and cosines in pairs; got {self.dim}")
        if self.shared_embeddings and self.source_vocab != self.target_vocab:
            raise InputError(
                f"shared_embeddings must have one vocabulary; got {self.source_vocab} source and "
                f"{self.target_vocab} target tokens"
            )

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """How copies and pickles are made: by name, through validation."""
        return (), self._asdict()

    @property
    def head_dim(self) -> int:
        """E, size of one head."""
        return self.dim // self.n_heads

    @property
    def n_layers(self) -> int:
        """Blocks of both stacks."""
        return self.n_encoder_layers + self.n_decoder_layers

    @property
    def has_cross_attention(self) -> bool:
        """Whether the decoder attends to an encoder."""
        return bool(self.n_encoder_layers and self.n_decoder_layers)

    @property
    def head_vocab(self) -> int:
        """Width of the logits: target tokens, or source tokens where there is no decoder."""
        return self.target_vocab if self.n_decoder_layers else self.source_vocab

    def replace(self, **changes: Any) -> "ClassicArch":
        """A copy with some fields changed, validated like a new one."""
        return ClassicArch(**(self._asdict() | changes))


# The two models of the paper (table 3), with its vocabulary of English and German of about 37,000 tokens.
BASE = ClassicArch(
    dim=512,
    n_heads=8,
    ffn_dim=2048,
    n_encoder_layers=6,
    n_decoder_layers=6,
    source_vocab=37_000,
    target_vocab=37_000,
    shared_embeddings=True,
)
BIG = ClassicArch(
    dim=1024,
    n_heads=16,
    ffn_dim=4096,
    n_encoder_layers=6,
    n_decoder_layers=6,
    source_vocab=37_000,
    target_vocab=37_000,
    shared_embeddings=True,
)
