"""The tool that makes the README's example anew: what it replaces, and that it replaces nothing where it fails."""

from pathlib import Path

import pytest

from tools import example


def test_the_verdict_of_the_readme_is_replaced_and_nothing_else() -> None:
    readme = (example.ROOT / "README.md").read_text(encoding="utf-8")
    changed = example.with_verdict(readme, "One line.\nAnother \\1.\n")
    assert f"$ {example.COMMAND}\nOne line.\nAnother \\1.\n```" in changed
    before, _, after = readme.partition(f"$ {example.COMMAND}\n")
    assert changed.startswith(before)
    assert changed.endswith(after.partition("```")[2])


def test_without_a_browser_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example.shutil, "which", lambda name: None)
    monkeypatch.setattr(example, "llamalab", lambda arguments: pytest.fail("nothing may be run"))
    assert example.main([]) == 3
    assert "apt install chromium" in capsys.readouterr().err


def test_a_record_that_is_none_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr(example, "EXAMPLE", tmp_path / "example")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert example.main(["--from", str(broken)]) == 2
    assert list(tmp_path.glob("example*")) == []
