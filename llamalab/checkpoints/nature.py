"""A description of files that are not checkpoints: Git LFS pointers, old pickles, web pages, other files."""

from pathlib import Path

from llamalab.checkpoints.safetensors_file import is_safetensors
from llamalab.checkpoints.torch_file import LEGACY, is_torch_file
from llamalab.files.inputs import IS_POINTER, POINTER

_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".gguf")
_SHOWN = 6
_BEFORE_GGUF = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt and ggla, little-endian


def nature(path: Path) -> str:
    """The description of a path where no format is recognised, for the end of an error message."""
    if (cause := wrong_file(path)) is not None:
        return cause
    if path.is_dir():
        return _seen(path)
    if not path.is_file():
        return "no regular file"
    head = _head(path)
    if not head:
        return "empty"
    if is_torch_file(path) or is_safetensors(path):
        return "a file of weights alone; give the folder with its config.json or params.json"
    return f"none: it begins with the bytes {head[:8].hex(' ')}"


def wrong_file(path: Path) -> str | None:
    """The description of a file, or of one in a folder, with the name but not the content of weights; None if sound."""
    if path.is_file():
        return _cause(_head(path))
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        if file.suffix in _WEIGHTS and file.is_file() and (cause := _cause(_head(file))) is not None:
            return f"a folder whose {file.name} is {cause}"
    return None


def _seen(path: Path) -> str:
    files = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    if not files:
        return "a folder without files"
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"a folder without its files; it has {', '.join(files[:_SHOWN])}{more}"


def _cause(head: bytes) -> str | None:
    """The description of a file with the name but not the content of weights."""
    if head.startswith(POINTER):
        return IS_POINTER
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and not head.startswith(LEGACY):
        return "a pickle that torch.save did not write"
    if head[:4] in _BEFORE_GGUF:
        return "a file of GGML from before GGUF, which is not read; convert the original checkpoint again"
    if head[:5] in (b"<html", b"<!DOC", b"<!doc"):
        return "a web page, which was saved in place of a file"
    return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
