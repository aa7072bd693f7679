"""The check of --out before any work, so that a bad path does not cost a measurement."""

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from llamalab.errors import InputError
from llamalab.files.outputs import check_target


def check_out(args: Namespace) -> None:
    """Raise InputError or MissingError where --out is a folder, cannot be written, or is a file that the verb reads."""
    out = Path(args.out)
    if os.path.isfile(out):
        for read in _named_files(args):
            if os.path.samefile(read, out):
                raise InputError(f"--out must not be a file that is read; {read} is; choose another path")
    check_target(out)


def _named_files(args: Namespace) -> Iterator[str]:
    """Files that are there and that any other option or argument names."""
    for name, value in vars(args).items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if name != "out" and isinstance(one, str | Path) and "\0" not in str(one) and os.path.isfile(one):
                yield str(one)
