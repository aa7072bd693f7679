"""Known models by name, each with its source.

Sizes are those of the published `params.json` and `config.json` files. A row lists differences from Llama 2; fields
common to a family are written once. Variants of the same shape (instruct, chat, quantised) are the same
row: `resolve_model` accepts names as people write them.

Belongs here: `llama`, `relatives` and `beside` (the rows), `rows` (how one is made), `names` (other names of a model),
`rope_divisors` (published lists). Does not belong here: how a config.json is read (arch.hf_configs).
May import: arch and what it imports.
"""

from functools import cache

from llamalab.arch import LlamaArch
from llamalab.arch.files import read_arch
from llamalab.errors import UnknownNameError
from llamalab.presets.rows import PresetRow
from llamalab.startup.hints import NamedTuple
from llamalab.startup.made_rows import MadeRows


class Preset(NamedTuple):
    """A named architecture and the source of its numbers."""

    arch: LlamaArch
    title: str
    source: str


def _preset(row: PresetRow) -> Preset:
    return Preset(LlamaArch(*row.sizes, **{"vocab_size": 32_000, **row.differs}), row.title, row.source)


FEWEST_LETTERS = 6  # shortest name that identifies a model inside another name: "7b" and "phi4" do not


def _llama() -> dict[str, PresetRow]:
    from llamalab.presets.llama import LLAMA_ROWS

    return LLAMA_ROWS


def _relatives() -> dict[str, PresetRow]:
    from llamalab.presets.relatives import RELATIVE_ROWS

    return RELATIVE_ROWS


def _beside() -> dict[str, PresetRow]:
    from llamalab.presets.beside import BESIDE_ROWS

    return BESIDE_ROWS


PRESETS = MadeRows(_preset, _llama, _relatives, _beside)  # a table is imported when the ones before lack a name


def resolve_model(name: str) -> tuple[str, LlamaArch]:
    """The name and architecture of a preset, or of a `params.json` or `config.json` path.

    All common spellings of a preset's name are accepted: case, owner, hyphens and words without meaning for the shape
    are ignored.

    >>> resolve_model("7b")[1].n_layers, resolve_model("meta-llama/Llama-2-7b-chat-hf")[0]
    (32, '7b')
    """
    if name in PRESETS:
        return name, PRESETS[name].arch
    if name.lower().endswith(".json"):
        return name, read_arch(name)
    from llamalab.presets.names import plain  # imported here: most models are named as their preset is

    found = _plain_names().get(plain(name))
    if found is not None:
        return found, PRESETS[found].arch
    hint = " or a path to params.json or config.json"
    raise UnknownNameError("model", name, PRESETS, hint=hint, nearest=_named_inside(name))


def _named_inside(name: str) -> list[str]:
    """The preset named inside the name of a fine-tune, whose shape may differ: suggested in the error, not used."""
    from llamalab.presets.names import plain

    given = plain(name)
    inside = [one for one in _plain_names() if len(one) >= FEWEST_LETTERS and one in given]
    return [_plain_names()[max(inside, key=len)]] if inside else []


@cache
def _plain_names() -> dict[str, str]:
    """Presets by all their names, without words that do not describe the shape."""
    from llamalab.presets.names import ALIASES, plain

    return {plain(one): one for one in PRESETS} | {plain(alias): one for alias, one in ALIASES.items()}
