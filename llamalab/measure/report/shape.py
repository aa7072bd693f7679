"""The lengths of a report: a prompt, and the token that is decoded."""

from typing import NamedTuple


class ReportShape(NamedTuple):
    """What is run: a prompt, and a token that sees `context` tokens, itself included.

    `kv_dtype` is the storage of the cache, `attention` a backend's name: the run's dtype and the fastest where None.
    """

    batch: int
    prompt: int
    context: int
    kv_dtype: str | None = None
    attention: str | None = None

    @property
    def longest(self) -> int:
        """Tokens that the cache must hold."""
        return max(self.prompt, self.context)


def decoded_at(prompt_tokens: int, generate: int | None, context_tokens: int | None) -> int:
    """Tokens in view of the token that is decoded: as said, or that in the middle of what is generated.

    >>> decoded_at(512, None, None), decoded_at(512, 128, None), decoded_at(512, 128, 4096)
    (513, 576, 4096)
    """
    return context_tokens or prompt_tokens + max(1, (generate or 1) // 2)
