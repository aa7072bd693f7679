"""Pages that show real output: their `$ llamalab ...` commands are run one after the other and compared.

With LLAMALAB_OVERWRITE set, the output of today is written into the page instead.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

EXAMPLE = re.compile(r"^\$ (llamalab .*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def replay(page: Path, run: Callable[[str], str], *, commands: int) -> None:
    """Compare what `run` prints for each of the page's `commands` commands with what stands under it."""
    text = page.read_text(encoding="utf-8")
    examples = [(match[1], match[2]) for match in EXAMPLE.finditer(text)]
    assert len(examples) == commands
    for command, shown in examples:
        printed = run(command)
        if os.environ.get("LLAMALAB_OVERWRITE"):
            text = text.replace(f"$ {command}\n{shown}", f"$ {command}\n{printed}")
        else:
            assert printed == shown
    if os.environ.get("LLAMALAB_OVERWRITE"):
        page.write_text(text, encoding="utf-8")
