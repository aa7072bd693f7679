"""Text settings in the files of a Hugging Face model: up to eight files, of which later ones take precedence.

config.json and generation_config.json name the ids that end a text (generation_config alone where it names any, as
transformers generates; the tokenizer's own EOS too, as vLLM has it), generation_config.json also strings that do.
special_tokens_map.json and tokenizer_config.json name special pieces, the BOS and EOS rule and added pieces;
added_tokens.json is the older form of those. The chat template is chat_template.jinja, chat_template.json or a part
of tokenizer_config.json. Source: transformers 5.23.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llamalab.errors import FormatError
from llamalab.files.inputs import MOST_BYTES, read_object
from llamalab.files.mapped import map_file
from llamalab.text.settings import MAX_ID, Added, Rules, TextSettings

FILES = (
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
)
MAX_TEMPLATE_BYTES = 2**20
MOST_STOP_STRINGS, MOST_STOP_CHARACTERS = 1_000, 1_000
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_LISTED = ("additional_special_tokens", "extra_special_tokens")


class SideFiles(NamedTuple):
    """The content of the files; empty for a missing one."""

    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer: dict[str, Any]
    added: dict[str, Any]
    template: str | None

    def keeps(self, token_id: int, base: TextSettings) -> bool:
        """Whether a special piece of the vocabulary is one here: BOS or EOS is not where another piece replaces it.

        transformers replaces them only where pieces are listed.
        """
        key = {base.bos_id: "bos_token", base.eos_id: "eos_token"}.get(token_id)
        return key not in self.tokenizer or not any(self.tokenizer.get(listed) for listed in _LISTED)

    @property
    def rules(self) -> Rules:
        """How a SentencePiece vocabulary is used: where transformers described its tokenizer, as transformers does."""
        if not self.tokenizer:
            return Rules()
        return Rules(
            space_first=_flag(self.tokenizer, "add_prefix_space", True),
            space_in_middle=_flag(self.tokenizer, "legacy", False),
            space_before_space=False,
            whole_runs=True,
        )


def has_side_files(folder: Path) -> bool:
    """Whether any of the files is there."""
    return any((folder / name).is_file() for name in FILES)


def read_side_files(folder: Path) -> SideFiles:
    """All of them. Raises FormatError for one that is unsound."""

    def read(name: str) -> dict[str, Any]:
        return read_object(folder / name, name, most=MOST_BYTES) if (folder / name).is_file() else {}

    own, named = read("tokenizer_config.json"), read("special_tokens_map.json")
    # With added pieces, its newer form, tokenizer_config.json takes precedence; in its older form the map does.
    tokenizer = named | own if "added_tokens_decoder" in own else own | named
    template = _template(folder, read("chat_template.json").get("chat_template", tokenizer.get("chat_template")))
    return SideFiles(
        read("config.json"), read("generation_config.json"), tokenizer, read("added_tokens.json"), template
    )


def settings_from(
    files: SideFiles, base: TextSettings, *, id_of: Callable[[str], int | None], vocab_size: int
) -> TextSettings:
    """The settings of a vocabulary (`base`, with ids found by `id_of`), updated by those of the files.

    Raises FormatError for ids and pieces that cannot be.
    """
    added = {piece.text: piece for piece in (*base.added, *_added(files, base, vocab_size, id_of))}

    def named(key: str, own: int | None) -> int | None:
        text = _text(files.tokenizer.get(key))
        if text is None:
            return None if key in files.tokenizer and files.tokenizer[key] is None else own
        return added[text].token_id if text in added else id_of(text)

    config, generation = files.config, files.generation
    splits = _flag(files.tokenizer, "split_special_tokens", False)
    endings = _ids(generation, "eos_token_id") or _ids(config, "eos_token_id")
    first = next(iter(endings), None)
    bos_id = named("bos_token", _first(base.bos_id, *_ids(generation, "bos_token_id"), *_ids(config, "bos_token_id")))
    eos_id = named("eos_token", base.eos_id if base.eos_id is not None else first)
    return base._replace(
        bos_id=bos_id,
        eos_id=eos_id if eos_id is not None else first,
        stop_ids=frozenset(index for index in (*endings, eos_id) if index is not None),
        stop_strings=_stop_strings(generation.get("stop_strings")),
        add_bos=_flag(files.tokenizer, "add_bos_token", base.add_bos) and bos_id is not None,
        add_eos=_flag(files.tokenizer, "add_eos_token", base.add_eos),
        unknown_id=named("unk_token", base.unknown_id),
        pad_id=named("pad_token", base.pad_id),
        added=tuple(sorted(piece._replace(always=piece.always and not splits) for piece in added.values())),
        chat_template=files.template or base.chat_template,
        special_in_prompts=base.special_in_prompts and not splits,
    )


def _first(*ids: int | None) -> int | None:
    return next((index for index in ids if index is not None), None)


def _added(
    files: SideFiles, base: TextSettings, vocab_size: int, id_of: Callable[[str], int | None]
) -> Iterator[Added]:
    """The pieces that files add, each once: those with an id, then special ones that have none yet and get the next."""
    special = _special_texts(files.tokenizer)
    taken = {piece.text: piece.token_id for piece in base.added}
    for text, token_id in files.added.items():
        taken[text] = _id(token_id, f"added_tokens.json, {text!r}")
        yield Added(taken[text], text, special=text in special)
    for key, token in _objects(files.tokenizer.get("added_tokens_decoder")):
        content = _text(token)
        if content is None or not key.isdecimal():
            raise FormatError(f"added_tokens_decoder must map ids to pieces; got {key[:20]!r}")
        text = content
        taken[text] = _id(int(key[:20]), f"added_tokens_decoder, {text!r}")
        flags = token if isinstance(token, dict) else {}
        yield Added(
            taken[text],
            text,
            special=flags.get("special") is True or text in special,
            lstrip=flags.get("lstrip") is True,
            rstrip=flags.get("rstrip") is True,
            single_word=flags.get("single_word") is True,
        )
    following = max([vocab_size, *(index + 1 for index in taken.values())])
    for text in special:
        if text in taken:
            continue
        token_id = id_of(text)
        if token_id is None:
            token_id, following = following, following + 1
        taken[text] = token_id
        yield Added(token_id, text)


def _special_texts(config: dict[str, Any]) -> list[str]:
    """Named and listed special pieces, each once and in order."""
    found: list[Any] = [config.get(key) for key in _NAMED]
    for key in _LISTED:
        value = config.get(key)
        found += value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    return list(dict.fromkeys(text for text in map(_text, found) if text))


def _text(token: Any) -> str | None:
    """A piece as a text, or as an object that has one."""
    if isinstance(token, dict):
        token = token.get("content")
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise FormatError(f"a special piece must be a text; got {type(token).__name__}")
    return token


def _objects(value: Any) -> Iterator[tuple[str, Any]]:
    if value is not None and not isinstance(value, dict):
        raise FormatError(f"added_tokens_decoder must be an object; got {type(value).__name__}")
    return iter((value or {}).items())


def _stop_strings(value: Any) -> tuple[str, ...]:
    """One text or a list of them, as generation_config.json has them."""
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise FormatError(f"stop_strings must be a text or a list of texts, none empty; got {str(value)[:60]!r}")
    if len(texts) > MOST_STOP_STRINGS or any(len(text) > MOST_STOP_CHARACTERS for text in texts):
        raise FormatError(
            f"stop_strings must be at most {MOST_STOP_STRINGS} of {MOST_STOP_CHARACTERS:,} characters; got more"
        )
    return tuple(dict.fromkeys(texts))


def _ids(config: dict[str, Any], key: str) -> list[int]:
    value = config.get(key)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [_id(index, key) for index in values]


def _id(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < MAX_ID:
        raise FormatError(f"an id must be a number from 0 to {MAX_ID - 1:,}; got {value!r} ({what[:60]})")
    return value


def _flag(config: dict[str, Any], key: str, default: bool) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise FormatError(f"{key} must be true or false; got {value!r}")
    return default if value is None else value


def _template(folder: Path, stored: Any) -> str | None:
    """The template of its own file, or a stored one: a text, or the default of several."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            stored = bytes(map_file(path, "chat template")[: MAX_TEMPLATE_BYTES + 1]).decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{path.name} must be UTF-8; it is not, at byte {error.start}") from None
    if isinstance(stored, list):
        stored = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, dict)}
    if isinstance(stored, dict):
        stored = stored.get("default", next(iter(stored.values()), None))
    if stored is None or stored == "":
        return None
    if not isinstance(stored, str) or len(stored) > MAX_TEMPLATE_BYTES:
        raise FormatError(f"a chat template must be a text of at most {MAX_TEMPLATE_BYTES:,} characters; it is not")
    return stored
