"""Files of torch.save, checked before they are loaded: a zip archive of a pickle and raw storages, or the older form
of five pickles and storages (torch_legacy).

A pickle is a program. torch.load runs it with `weights_only`, which allows a short list of
calls, and mapped, so that storages are not read. That alone is not enough (measured with torch 2.13): 407 bytes
that call bytearray took 3 GiB, 945 bytes of a dictionary whose keys are pairs of pairs did not end, and 1 MB of a
compressed pickle became 1 GiB. So the archive is checked first: nothing in it may be compressed, and its pickle may
name and build only the parts of a dictionary of tensors.
torch before 2.10 can be made to run code in spite of weights_only (CVE-2025-32434, CVE-2026-24747): it is refused.
"""

import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from llamalab.checkpoints.checkpoint import FLOAT_NAMES, StoredTensor
from llamalab.checkpoints.torch_legacy import read_legacy
from llamalab.errors import FormatError, MissingError

SAFE_TORCH = (2, 10)
MAX_PICKLE_BYTES = 64 * 2**20
MAX_MEMBERS = 100_000
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save began with before its archives
_ALLOWED = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch.nn.parameter", "Parameter"),
        *(
            ("torch", f"{kind}Storage")
            for kind in ("Float", "Half", "BFloat16", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
        ),
    }
)
# Every opcode of torch's own pickles of tensors; all others are refused.
_OPCODES = frozenset(
    (
        "PROTO",
        "STOP",
        "MARK",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "SETITEM",
        "SETITEMS",
        "APPEND",
        "APPENDS",
        "BINGET",
        "LONG_BINGET",
        "BINPUT",
        "LONG_BINPUT",
        "BINUNICODE",
        "SHORT_BINSTRING",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "BINPERSID",
    )
)
_PUTS, _GETS = ("BINPUT", "LONG_BINPUT"), ("BINGET", "LONG_BINGET")
_FULL_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MADE = frozenset(
    (
        *_FULL_TUPLES,
        "EMPTY_TUPLE",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "GLOBAL",
        "BINUNICODE",
        "SHORT_BINSTRING",
        "LONG1",
        "REDUCE",
        "BINPERSID",
    )
)


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as a zip archive does, or as torch.save began before."""
    with path.open("rb") as file:
        head = file.read(len(LEGACY))
    return head[:4] == b"PK\3\4" or head == LEGACY


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of torch.save, mapped copy-on-write.

    Raises FormatError where it is anything but a sound dictionary of dense CPU tensors, MissingError
    where torch is too old to be trusted with it.
    """
    check_torch(torch.__version__)
    try:
        with path.open("rb") as file:
            is_legacy = file.read(len(LEGACY)) == LEGACY
        value = read_legacy(path, _check_pickle, MAX_PICKLE_BYTES) if is_legacy else _read_archive(path)
    except FormatError:
        raise
    except OSError as error:
        raise MissingError(f"the checkpoint must be readable; {path}: {error}") from None
    except Exception as error:  # the unpickler raises any exception of the classes that a wrong pickle calls
        raise FormatError(f"{path.name} must be a sound file of torch.save; {_first_line(error)}") from None
    return _tensors(value, path)


def _read_archive(path: Path) -> Any:
    with path.open("rb") as file:
        _check_pickle(_pickle_of(file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated storages, which the file may name
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def stored_in(tensors: dict[str, Tensor]) -> Iterable[StoredTensor]:
    """The tensors of a file, by name."""
    for name, tensor in tensors.items():
        dtype = FLOAT_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        yield StoredTensor(name, tuple(tensor.shape), dtype, tensor.nbytes)


def check_torch(version: str) -> None:
    """Raise MissingError for a torch version whose weights_only is unsafe.

    >>> check_torch("2.9.1+cu128")
    Traceback (most recent call last):
    llamalab.errors.MissingError: reading a pickle needs torch 2.10 or newer; this is 2.9.1+cu128; pip install -U torch
    """
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_TORCH:
        wanted = ".".join(map(str, SAFE_TORCH))
        raise MissingError(f"reading a pickle needs torch {wanted} or newer; this is {version}; pip install -U torch")


def _pickle_of(file: BinaryIO) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(archive, members)
            pickles = [member for member in members if member.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
                raise FormatError(
                    f"an archive of torch.save must have one data.pkl of at most {MAX_PICKLE_BYTES:,} bytes; "
                    f"got {[member.file_size for member in pickles]}"
                )
            return archive.read(pickles[0])
    except FormatError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, struct.error, NotImplementedError, RuntimeError …
        raise FormatError(f"a file of torch.save must be a sound zip archive; {_first_line(error)}") from None


def _check_members(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    # A comment could hold a second directory, which torch's reader might take for the first.
    if len(members) > MAX_MEMBERS or archive.comment:
        raise FormatError(f"an archive of torch.save must have at most {MAX_MEMBERS:,} members and no comment")
    if len({member.filename for member in members}) < len(members):
        raise FormatError("an archive of torch.save must not have two members of one name")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise FormatError(f"an archive of torch.save must store its members as they are; {member.filename} is not")


def _check_pickle(data: bytes) -> None:
    """Raise FormatError for opcodes and names that no dictionary of tensors needs.

    A tuple that is used twice is refused: n nested pairs of the same pair take 2**n steps to hash.
    """
    before, tuples = "", set()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        name = opcode.name
        if name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _ALLOWED:
            raise FormatError(
                f"a pickle of tensors must name nothing but tensors; it names {argument!r} and is refused"
            )
        if name not in _OPCODES or (name in _PUTS and before not in _MADE) or (name in _GETS and argument in tuples):
            raise FormatError(f"a pickle of tensors must be built as torch builds it; {name} after {before} is refused")
        if name in _PUTS and before in _FULL_TUPLES:
            tuples.add(argument)
        before = name


def _tensors(value: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, dict) or not all(type(name) is str for name in value):
        raise FormatError(f"{path.name} must hold a dictionary of tensors by name; got {type(value).__name__}")
    for name, tensor in value.items():
        if not isinstance(tensor, Tensor) or tensor.device.type != "cpu" or not _is_dense(tensor):
            raise FormatError(f"{name!r} in {path.name} must be a tensor that lies whole in its storage; it is not")
    claimed, held = sum(tensor.nbytes for tensor in value.values()), path.stat().st_size
    # Tensors may share a storage, as a tied head does, and could otherwise claim more memory than the file has.
    if claimed > 2 * held:
        raise FormatError(f"the tensors in {path.name} must be in it; they are {claimed:,} bytes, the file is {held:,}")
    return {name: tensor.detach() for name, tensor in value.items()}


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor's elements are distinct places inside its storage, in any order."""
    if tensor.layout is not torch.strided or 0 in tensor.shape:
        return tensor.layout is torch.strided
    reach = 0  # the span of the dimensions with smaller strides, which each stride must exceed
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return False
        reach += (size - 1) * stride
    return tensor.storage_offset() + reach < tensor.untyped_storage().nbytes() // tensor.element_size()


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's message advises to disable its protection
        return "its pickle is not what torch.save makes of tensors"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
