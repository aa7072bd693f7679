"""Shapes for property tests: awkward sizes, every ratio of query to KV heads."""

from hypothesis import strategies as st

from llamalab.arch import LlamaArch
from llamalab.arch.fields import valid_kv_heads

PLAIN_DTYPES = st.sampled_from(["bf16", "fp16", "fp32", "int8", "fp8"])


@st.composite
def archs(draw: st.DrawFn) -> LlamaArch:
    """A small architecture whose head dim is a real kernel's at most: 128."""
    n_heads, head_dim = draw(st.integers(1, 24)), 2 * draw(st.integers(1, 64))
    return LlamaArch(
        dim=n_heads * head_dim,
        n_layers=draw(st.integers(1, 9)),
        n_heads=n_heads,
        n_kv_heads=draw(st.sampled_from(valid_kv_heads(n_heads))),
        ffn_dim=draw(st.integers(1, 999)),
        vocab_size=draw(st.integers(1, 999)),
        tied_embeddings=draw(st.booleans()),
    )
