"""The lengths of a report: a prompt, and the token that is decoded."""

from typing import NamedTuple


class ReportShape(NamedTuple):
    """The work of a report: a prompt, and a token that attends to `context` tokens, itself included.

    `kv_dtype` is the storage of the cache, `attention` a backend's name: the run's dtype and the fastest where None.
    """

    batch: int
    prompt: int
    context: int
    kv_dtype: str | None = None
    attention: str | None = None

    @property
    def longest(self) -> int:
        """Tokens that the cache must have room for."""
        return max(self.prompt, self.context)


def decoded_at(prompt_tokens: int, generate: int | None, context_tokens: int | None) -> int:
    """Context of the decoded token: the given one, or that in the middle of the generated tokens.

    >>> decoded_at(512, None, None), decoded_at(512, 128, None), decoded_at(512, 128, 4096)
    (513, 576, 4096)
    """
    return context_tokens or prompt_tokens + max(1, (generate or 1) // 2)
