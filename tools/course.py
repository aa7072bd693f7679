"""The course: source filled into its chapters, and the same chapters as notebooks.

    python -m tools.course [--notebooks build/course] [--execute]

A fence titled with a dotted name holds the source of that name; with an experiment, what its record concludes.
Notebooks are made from the chapters and their pictures alone: commands and answers become cells that run without a
network.
"""

import argparse
import base64
import inspect
import json
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "docs" / "course"
RECORDS = ROOT / "experiments" / "records"
SOURCE = re.compile(r'```python title="([\w.]+)"\n(.*?)```', re.DOTALL)
CONCLUSION = re.compile(r'```text title="python -m experiments\.(\w+)"\n(.*?)```', re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\((\.\./images/[\w/.-]+\.svg)\)")
_WIDTH = 118  # of a record's conclusion
_FENCE = re.compile(r"(```(?:console|pycon)\n.*?```)", re.DOTALL)
_SET_UP = "import llamalab\nimport torch"


def source_of(name: str) -> str:
    """The source of a function or class, at the left margin. Raises ImportError for a name that is nowhere."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return textwrap.dedent(inspect.getsource(found))
    raise ImportError(f"{name} must be a function or class of the package; it is none")


def conclusion_of(experiment: str) -> str:
    """What the record of an experiment says, in lines. Raises IndexError where there is no record."""
    said = json.loads(sorted(RECORDS.glob(f"*/{experiment}.json"))[0].read_text(encoding="utf-8"))["conclusion"]
    return textwrap.fill(said, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def filled(text: str) -> str:
    """A chapter with today's source and today's conclusions in its fences."""
    text = SOURCE.sub(lambda fence: f'```python title="{fence[1]}"\n{source_of(fence[1])}```', text)
    return CONCLUSION.sub(
        lambda fence: f'```text title="python -m experiments.{fence[1]}"\n{conclusion_of(fence[1])}```', text
    )


def with_pictures(text: str) -> str:
    """Markdown whose pictures are in it, so that a notebook is one file."""

    def inlined(found: re.Match[str]) -> str:
        encoded = base64.b64encode((CHAPTERS / found[2]).read_bytes()).decode()
        return f"![{found[1]}](data:image/svg+xml;base64,{encoded})"

    return PICTURE.sub(inlined, text)


def cells_of(text: str) -> list[tuple[str, str]]:
    r"""The cells of a chapter: ("markdown" or "code", what is in it).

    >>> cells_of("Hello\n\n```pycon\n>>> 1 + 1\n2\n```\n")[2]
    ('code', '1 + 1')
    """
    cells = [("code", _SET_UP)]
    for part in _FENCE.split(text):
        if part.startswith("```console"):
            commands = re.findall(r"^\$ (.*)$", part, re.MULTILINE)
            cells += [("code", f"!{{sys.executable}} -m {command}") for command in commands]
            cells[0] = ("code", f"import sys\n\n{_SET_UP}")
        elif part.startswith("```pycon"):
            cells.append(
                ("code", "\n".join(line[4:] for line in part.splitlines() if line.startswith((">>> ", "... "))))
            )
        elif part.strip():
            cells.append(("markdown", with_pictures(part.strip())))
    return cells


def notebook_of(path: Path) -> Any:
    """A chapter as a notebook."""
    from nbformat import v4

    book = v4.new_notebook()
    makers = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}
    book.cells = [makers[kind](text) for kind, text in cells_of(path.read_text(encoding="utf-8"))]
    return book


def main() -> None:
    """Write the notebooks, run where asked."""
    import nbformat
    from nbclient import NotebookClient

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", type=Path, default=ROOT / "build" / "course", metavar="FOLDER")
    parser.add_argument("--execute", action="store_true", help="run every cell; one that fails ends the command")
    args = parser.parse_args()
    args.notebooks.mkdir(parents=True, exist_ok=True)
    for path in sorted(CHAPTERS.glob("*.md")):
        book = notebook_of(path)
        if args.execute:
            NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(ROOT))
        nbformat.write(book, args.notebooks / f"{path.stem}.ipynb")
        print(f"wrote {args.notebooks / path.stem}.ipynb")


if __name__ == "__main__":
    main()
