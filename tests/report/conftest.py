"""A rendered sample report, and a headless Chromium to open it in."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llamalab.records.record import Record
from llamalab.report import render
from tests.report.sample import sample_record
from tests.report.sample_patterns import sample_patterns

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"
# Names resolve to nothing, so that an external load would fail and be told on the console.
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--no-first-run")

Browser = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def record() -> Record:
    return sample_record(patterns=sample_patterns())


@pytest.fixture(scope="session")
def html(record: Record) -> str:
    return render(record)


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """browse(page, *options): run Chromium on a file; the console is in stderr, the DOM in stdout."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("headless Chromium is not installed: apt install chromium")

    def run(page: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        profile = tmp_path_factory.mktemp("profile")
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *OFFLINE]
        return subprocess.run(
            [*command, "--enable-logging=stderr", f"--user-data-dir={profile}", *options, page.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    return run


def console(finished: "subprocess.CompletedProcess[str]") -> list[str]:
    """What the page wrote to the console: errors, violations of its own policy, failed loads."""
    return re.findall(r"CONSOLE[^\n]*", finished.stderr)
