"""The form of a known model's row: its sizes, and its differences from Llama 2.

A row is plain data; llamalab.presets makes its architecture when it is asked for.
"""

from llamalab.startup.hints import Any, NamedTuple

TIED = {"tied_embeddings": True}


class PresetRow(NamedTuple):
    """A model according to its source: `sizes` are dim, n_layers, n_heads, n_kv_heads and ffn_dim."""

    source: str
    title: str
    sizes: tuple[int, int, int, int, int]
    differs: dict[str, Any]


def row(source: str, title: str, sizes: tuple[int, int, int, int, int], **differs: Any) -> PresetRow:
    """A row of sizes and of other differences from Llama 2."""
    return PresetRow(source, title, sizes, differs)


def on_hub(repository: str, title: str, sizes: tuple[int, int, int, int, int], **differs: Any) -> PresetRow:
    """A row whose source is the config.json of a repository on Hugging Face."""
    return PresetRow(f"{repository} config.json", title, sizes, differs)
