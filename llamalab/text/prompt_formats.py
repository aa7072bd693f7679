r"""Dialogue formats: as Llama 2 Chat was trained, as another model by name, or by a stored template.

A format gives the ids up to the beginning of the answer. Those of a conversation only grow: a template is rendered with
a mark in place of the last answer, and only the text after it is encoded. Where the template changes the answer or
repeats it, the whole dialog is encoded again.

Sources: FlagAlpha/Llama2-Chinese README ("<s>Human: ...\n</s><s>Assistant: "); ymcui/Chinese-LLaMA-Alpaca-2,
scripts/inference (Llama 2's format with its own system prompt); tloen/alpaca-lora templates/alpaca.json, which is
Stanford Alpaca's; ChatML and Llama 3's as their models' cards have them.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from llamalab.choices import PROMPT_FORMATS
from llamalab.errors import InputError, UnknownNameError
from llamalab.text.chat_template import render_template
from llamalab.text.dialog import MARKS, Message, question_text
from llamalab.text.tokenizer import Tokenizer

_ANSWER = "\ue000answer\ue001"  # characters of private use, which no dialog has
_ALPACA = """\
{%- set task = 'Below is an instruction that describes a task' -%}
{%- set ask = 'rite a response that appropriately completes the request.\n\n' -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{- message.content + '\n\n' -}}
{%- elif message.role == 'user' -%}
{%- if loop.first -%}
{%- if '### Input:' in message.content -%}
{{- task + ', paired with an input that provides further context. W' + ask -}}
{%- else -%}{{- task + '. W' + ask -}}{%- endif -%}
{%- endif -%}
{{- '### Instruction:\n' + message.content + '\n\n### Response:\n' -}}
{%- else -%}{{- message.content + eos_token + '\n\n' -}}{%- endif -%}
{%- endfor -%}"""
_LLAMA2_CHINESE = """\
{%- set names = {'user': 'Human', 'assistant': 'Assistant', 'system': 'System'} -%}
{%- for message in messages -%}
{{- bos_token + names[message.role] + ': ' + message.content + '\n' + eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- bos_token + 'Assistant: ' -}}{%- endif -%}"""
_CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""
_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content.strip() + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}"""
TEMPLATES = {"alpaca": _ALPACA, "llama2-chinese": _LLAMA2_CHINESE, "chatml": _CHATML, "llama3": _LLAMA3}
_NEEDED = {"chatml": ("<|im_start|>", "<|im_end|>"), "llama3": ("<|start_header_id|>", "<|eot_id|>")}
CHINESE_ALPACA_2_SYSTEM = "You are a helpful assistant. 你是一个乐于助人的助手。"


class PromptFormat(Protocol):
    """A way to write a dialog; `closing` ends an answer in the ids, `stop_ids` end it as it is made."""

    marks: tuple[str, ...]
    closing: list[int]
    stop_ids: frozenset[int]

    def asked(self, ids: list[int], messages: Sequence[Message], question: str, *, system: str) -> list[int]:
        """The ids up to where the answer begins: `ids` and `messages` are the dialog so far, closed."""
        ...


class Llama2Format:
    """Llama 2 Chat's own format: see dialog."""

    def __init__(self, tokenizer: Tokenizer, *, default_system: str = "") -> None:
        if tokenizer.bos_id is None or tokenizer.eos_id is None:
            raise InputError("Llama 2's chat format must have a tokenizer with BOS and EOS; this one lacks them")
        self._tokenizer, self._default = tokenizer, default_system
        self.marks = (*MARKS, *(piece.text for piece in tokenizer.settings.added if piece.always and piece.special))
        self.closing = [tokenizer.eos_id]
        self.stop_ids = tokenizer.settings.stop_ids

    def asked(self, ids: list[int], messages: Sequence[Message], question: str, *, system: str) -> list[int]:
        """The ids of the dialog so far and of the question."""
        text = question_text(question, system=None if ids else system or self._default or None)
        return ids + self._tokenizer.encode(text, bos=True)


class TemplateFormat:
    """A Jinja template's format. Raises InputError where it cannot write a question."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self.marks = _special_marks(tokenizer, template)
        self.closing: list[int] = []
        self.stop_ids = tokenizer.settings.stop_ids | self._turn_ends()

    def asked(self, ids: list[int], messages: Sequence[Message], question: str, *, system: str) -> list[int]:
        """The ids of the dialog so far and of the question."""
        dialog = [*([Message("system", system)] if system else []), *messages, Message("user", question.strip())]
        if not messages:
            return self._tokenizer.encode(self.texts([dialog])[0], special=True)
        marked = [*dialog[:-2], Message("assistant", _ANSWER), dialog[-1]]
        text, whole = self.texts([marked, dialog])
        if text.count(_ANSWER) != 1:
            return self._tokenizer.encode(whole, special=True)
        return ids + self._tokenizer.encode(text.partition(_ANSWER)[2], special=True, middle=True)

    def texts(self, dialogs: Sequence[Sequence[Message]], *, answering: bool = True) -> list[str]:
        """The template's rendering of dialogs, up to the beginning of an answer."""
        return render_template(self._template, [self._context(dialog, answering) for dialog in dialogs])

    def _context(self, dialog: Sequence[Message], answering: bool) -> dict[str, Any]:
        settings = self._tokenizer.settings
        named = {
            "bos_token": settings.bos_id,
            "eos_token": settings.eos_id,
            "unk_token": settings.unknown_id,
            "pad_token": settings.pad_id,
        }
        return {
            "messages": [message._asdict() for message in dialog],
            "add_generation_prompt": answering,
            "tools": None,
            "documents": None,
            **{key: self._tokenizer.name(index) for key, index in named.items() if index is not None},
        }

    def _turn_ends(self) -> frozenset[int]:
        """The special piece that the template writes behind an answer, where it does."""
        text = self.texts([[Message("user", "Hi"), Message("assistant", _ANSWER)]], answering=False)[0]
        after = self._tokenizer.encode(text.partition(_ANSWER)[2].lstrip(), special=True, middle=True)
        specials = {piece.token_id for piece in self._tokenizer.settings.added}
        return frozenset(index for index in after[:1] if index in specials)


def prompt_format(tokenizer: Tokenizer, name: str | None = None) -> tuple[PromptFormat, str]:
    """The format of this name, or without one that of the checkpoint, and a note on it where it is not Llama 2's.

    Raises UnknownNameError for another name.
    """
    stored = tokenizer.settings.chat_template
    if name is None and stored is not None:
        form = TemplateFormat(tokenizer, stored)
        if _is_llama2(form, tokenizer):
            return Llama2Format(tokenizer), ""
        return form, "the checkpoint's own chat template is used, which is not Llama 2's"
    if name in (None, "llama2"):
        return Llama2Format(tokenizer), ""
    if name == "chinese-alpaca-2":
        return Llama2Format(tokenizer, default_system=CHINESE_ALPACA_2_SYSTEM), ""
    if name not in TEMPLATES:
        raise UnknownNameError("prompt format", str(name), PROMPT_FORMATS)
    known = {piece.text for piece in tokenizer.settings.added}
    missing = [piece for piece in _NEEDED.get(name, ()) if piece not in known]
    if missing:
        raise InputError(
            f"a tokenizer for the prompt format {name} must have the piece {missing[0]}; this one lacks it"
        )
    return TemplateFormat(tokenizer, TEMPLATES[name]), ""


def _special_marks(tokenizer: Tokenizer, template: str) -> tuple[str, ...]:
    """The pieces with which a content could pose as another message: special ones, and those a template writes."""
    added = tokenizer.settings.added
    return tuple(piece.text for piece in added if piece.text.strip() and (piece.special or piece.text in template))


def _is_llama2(form: TemplateFormat, tokenizer: Tokenizer) -> bool:
    if tokenizer.bos_id is None or tokenizer.eos_id is None:
        return False
    bos, eos = tokenizer.name(tokenizer.bos_id), tokenizer.name(tokenizer.eos_id)
    dialog = [Message("system", "S"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    try:
        text = form.texts([dialog])[0]
    except InputError:
        return False
    return text == f"{bos}{question_text('a', system='S')} b {eos}{bos}{question_text('c')}"
