"""README shows real output: every `$ llamalab ...` in it is run and compared.

`LLAMALAB_OVERWRITE=1 pytest tests/test_readme.py` writes the output of today into README.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.console import replay

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def run(command: str) -> str:
    arguments = [sys.executable, "-m", "llamalab", *shlex.split(command)[1:]]
    finished = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_every_command_prints_what_is_shown() -> None:
    replay(README, run, commands=2)


def test_the_python_prints_what_is_shown() -> None:
    text = README.read_text(encoding="utf-8")
    match = re.search(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", text, re.DOTALL)
    assert match
    code, shown = match.groups()
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    if os.environ.get("LLAMALAB_OVERWRITE"):
        README.write_text(text.replace(f"```text\n{shown}```", f"```text\n{finished.stdout}```"), encoding="utf-8")
    else:
        assert finished.stdout == shown


def test_readme_names_the_two_commands_and_the_makefile_has_them() -> None:
    text, makefile = README.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert {"make report MODEL=7b", "make test"} <= set(re.findall(r"^make .*?(?=\s*(?:#|$))", text, re.MULTILINE))


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
