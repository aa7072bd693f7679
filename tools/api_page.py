"""Writes docs/api.md from the docstrings of what `import llamalab` shows: python -m tools.api_page."""

import inspect
import re
from pathlib import Path
from typing import Any

import llamalab

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Python API

`import llamalab` gives one call for each thing that the command answers. Each takes the options of the command of its
name as arguments and runs the same function. What comes back has every figure as an attribute, with its unit in the
name, and

- `.to_frame()`: the first table as a pandas DataFrame; `.frames` has all of them;
- `.plot()`: a drawing with matplotlib;
- a readable `repr`, and a table in a notebook;
- `.to_json()`, `.to_csv()`, `.to_markdown()`: what the command prints; `.notes`: its remarks.

This page is made of docstrings by `python -m tools.api_page`; its examples are run by the tests.
"""
GROUPS = (
    ("Calculate", ("kv", "params", "flops", "fit", "predict", "roofline")),
    ("Measure", ("measure", "report", "profile", "bench")),
    ("Compare", ("compare",)),
    ("Models and text", ("load", "load_tokenizer", "generate")),
)
FURTHER = (
    ("Training", ("tune", "train_memory")),
    ("Records", ("frames",)),
    ("Models", ("build", "compile", "parallelize")),
    ("Look inside", ("capture", "edit")),
    ("Types", ("LlamaArch", "Transformer", "StaticKVCache")),
)
REST = """## Further names

`dir(llamalab)` lists what is above. What follows lives in rooms of its own, named with each, and can be had as
`llamalab.NAME` as well.
"""
TABLES = """## Tables

`llamalab.PRESETS` has the known models by name, each with `arch`, `title` and `source`; `llamalab.HARDWARE` the data
sheets, each with peaks in FLOP/s by dtype, `bandwidth_bytes_per_s`, `memory_bytes` and `source`.

```pycon
>>> import llamalab
>>> llamalab.PRESETS["70b"].arch.n_kv_heads, llamalab.HARDWARE["h100-80gb-sxm"].memory_bytes
(8, 80000000000)

```
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for title, names in GROUPS:
        parts.append(f"## {title}\n")
        parts += [_entry(name) for name in names]
    parts += [TABLES, REST]
    for title, names in FURTHER:
        parts.append(f"### {title}\n")
        parts += [_entry(name, "####") for name in names]
    return "\n".join(parts)


def _entry(name: str, level: str = "###") -> str:
    found: Any = getattr(llamalab, name)
    call = inspect.unwrap(found) if not inspect.isclass(found) else found
    signature = re.sub(r"\b(?:collections\.abc|llamalab(?:\.\w+)+|pathlib|os)\.", "", str(inspect.signature(call)))
    signature = re.sub(r"<function .*? at 0x[0-9a-f]+>", "...", signature.replace("'", ""))
    home = f"In `{call.__module__}`.\n\n" if name not in llamalab.__all__ else ""
    shown = f"```python\nllamalab.{name}{signature}\n```\n\n{home}{_text(inspect.getdoc(call) or '')}\n"
    return f"{level} {name}\n\n{shown}"


def _text(doc: str) -> str:
    """A docstring as Markdown: its arguments as a list, its examples as code."""
    lines: list[str] = []
    in_example = in_arguments = False
    for line in doc.splitlines():
        if line.startswith(">>>") and not in_example:
            lines.append("```pycon")
            in_example = True
        elif not line.strip() and in_example:
            lines += ["", "```"]
            in_example = False
        if line == "Args:":
            in_arguments = True
            continue
        if in_arguments and not line.startswith("    "):
            in_arguments = False
        argument = re.fullmatch(r"    (\w+): (.*)", line) if in_arguments else None
        lines.append(f"- `{argument[1]}`: {argument[2]}" if argument else line)
    return "\n".join([*lines, *(["", "```"] if in_example else [])])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
