"""The documentation: the page of the Python API is of today and runs, and the site is built without a warning."""

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console import replay
from tests.test_readme import run
from tools.api_page import FURTHER, GROUPS, PAGE, page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_the_page_of_the_api_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tools.api_page writes it anew"


def test_every_public_name_is_on_the_page() -> None:
    import llamalab

    listed = {name for _, names in GROUPS for name in names}
    assert listed | {"PRESETS", "HARDWARE"} == set(llamalab.__all__)


def test_the_examples_of_the_api_run() -> None:
    import llamalab

    listed = {name for _, names in (*GROUPS, *FURTHER) for name in names} | {"PRESETS", "HARDWARE"}
    public = {name: getattr(llamalab, name) for name in listed}
    tried = doctest.testfile(str(PAGE), module_relative=False, globs=public)
    assert tried.attempted > 15
    assert tried.failed == 0


def test_the_start_page_shows_real_output() -> None:
    replay(DOCS / "index.md", run, commands=1)


def test_links_between_pages_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {path.name for path in DOCS.glob("*.md")}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for html in (tmp_path / "site").glob("*.html"):
        text = html.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"', text)
        loaded += re.findall(
            r'<link[^>]+rel="(?:stylesheet|preload|preconnect|dns-prefetch)"[^>]+href="(https?:[^"]+)"', text
        )
        assert loaded == [], html.name
    shutil.rmtree(tmp_path / "site")
