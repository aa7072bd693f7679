"""What experiments found, quoted in README and the docs: each quote anew from its record (python -m experiments.draw).

A quote follows a comment that names the experiment and the quoted part, and takes the lines that begin
with ">":

    <!-- versus: headline -->
    > On AMD EPYC, ...
"""

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import versus
from experiments.common.folders import RECORDS
from llamalab.errors import InputError
from llamalab.report.experiment_results import read_result

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "speed.md")
_QUOTE = re.compile(r"<!-- (?P<experiment>\w+): (?P<words>\w+) -->\n(?:>.*\n)*")
_WIDTH = 118
WORDS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], str]] = {("versus", "headline"): versus.headline}


def quoted(text: str, folder: Path = RECORDS / "cpu-amd-epyc-2-threads") -> str:
    """A page with its quotes from the records of a machine. Raises InputError for a quote that no record has."""

    def quote(found: re.Match[str]) -> str:
        answer = read_result(folder / f"{found['experiment']}.json").data
        if found["words"] == "conclusion":
            said = answer["conclusion"]
        elif (make := WORDS.get((found["experiment"], found["words"]))) is not None:
            said = make(answer)
        else:
            raise InputError(f"a quote must be of words that an experiment has; got {found[0].splitlines()[0]}")
        lines = textwrap.wrap(
            said, _WIDTH, initial_indent="> ", subsequent_indent="> ", break_long_words=False, break_on_hyphens=False
        )
        return "\n".join([found[0].splitlines()[0], *lines, ""])

    return _QUOTE.sub(quote, text)


def write_pages() -> list[Path]:
    """Write the pages anew; those that changed."""
    changed = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (made := quoted(text)) != text:
            page.write_text(made, encoding="utf-8")
            changed.append(page)
    return changed
