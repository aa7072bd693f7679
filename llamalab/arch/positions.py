"""Runs beyond the context that a model was trained for: times and sizes hold, the text is of no use."""

from llamalab.arch import LlamaArch


def beyond_positions(arch: LlamaArch, tokens: int) -> str | None:
    """A sentence where so many tokens in view are more than the model was trained for; None where they are not.

    >>> beyond_positions(LlamaArch(64, 2, 4, 4, 128, 100, max_positions=256), 5000)
    'The model was trained for 256 positions and the run has 5,000 in view: times and sizes hold, its text would not.'
    """
    if tokens <= arch.max_positions:
        return None
    return (
        f"The model was trained for {arch.max_positions:,} positions and the run has {tokens:,} in view: times and "
        "sizes hold, its text would not."
    )
