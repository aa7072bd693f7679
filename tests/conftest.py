"""Fixtures that every test may use, the order of tests, and the rule about skipping in CI."""

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"
LAST = ("slow", "reference", "browser")  # these take long: a mistake shows sooner when the fast ones run first

# No example is timed: these machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# For CI: the same tree gets the same answer. Examples of chance are found where somebody can look at them.
settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they are, whatever the terminal that the tests were started from."""
    monkeypatch.delenv("COLUMNS", raising=False)
    os.unsetenv("COLUMNS")  # readline, once imported, sets it where os.environ does not see it and a subprocess does


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """Measuring collects garbage often: what earlier modules left in this process is not looked through each time."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_real() -> Path:
    """The folder of real checkpoints and tokenizers beside the checkout."""
    folder = SHARED / "real"
    if not folder.is_dir():
        pytest.skip("the real checkpoint and tokenizers are not here: ../shared/real is absent")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in LAST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure for the marks named in LLAMALAB_NO_SKIP, where all they need must be present."""
    report = yield
    needed = [mark for mark in os.environ.get("LLAMALAB_NO_SKIP", "").split() if item.get_closest_marker(mark)]
    if report.skipped and needed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a test marked {needed[0]} must not skip here; {report.longrepr}"
    return report
