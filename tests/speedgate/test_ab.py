"""The A/B run: what is measured, what is said, what passes, and that nothing is left behind."""

import io
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.speedgate import ab, baseline, worker
from tools.speedgate.benchmarks import BENCHMARKS
from tools.speedgate.decision import MOST_SETS, Ratios
from tools.speedgate.lockstep import Plan, Run, Samples, measure
from tools.speedgate.references import REFERENCES
from tools.speedgate.revisions import find_base, git, worktree
from tools.speedgate.verdicts import exit_code, judge

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits on main; the first has a file `old`, the second `new`."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    for name in ("old", "new"):
        (root / name).write_text(name)
        subprocess.run(["git", "-C", str(root), "add", name], check=True)
        subprocess.run(["git", "-C", str(root), "commit", "-q", "-m", name], check=True)
    return root


def runs(factor: float, *, lacks: str = "") -> list[Run]:
    """Three runs of two benchmarks that take `factor` times their reference."""
    samples = Samples([1000, 1001, 1002], [int(1000 * factor)] * 3)
    return [{"decode step": samples, "attention": lacks or samples} for _ in range(3)]


def worktrees(root: Path) -> int:
    return len((git(root, "worktree", "list") or "").splitlines())


def test_an_unknown_base_is_told_from_one_that_is_there(repository: Path) -> None:
    old, new = (git(repository, "rev-parse", name) for name in ("HEAD~1", "HEAD"))
    assert find_base(repository, "HEAD") == new
    assert find_base(repository, "no-such-branch") is None
    assert find_base(repository, "auto") == old  # on main: the commit before
    subprocess.run(["git", "-C", str(repository), "checkout", "-q", "-b", "topic", "HEAD~1"], check=True)
    assert find_base(repository, "auto") is None  # the first commit of all
    subprocess.run(["git", "-C", str(repository), "commit", "-q", "--allow-empty", "-m", "more"], check=True)
    assert find_base(repository, "auto") == old  # on a branch: where it left main


def test_there_is_no_base_without_history(tmp_path: Path, repository: Path) -> None:
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", repository.as_uri(), str(shallow)], check=True)
    assert find_base(shallow, "auto") is None
    (tmp_path / "none").mkdir()
    assert find_base(tmp_path / "none", "auto") is None


def test_a_worktree_has_the_base_and_is_gone_after_success_failure_and_interruption(repository: Path) -> None:
    commit = find_base(repository, "HEAD~1")
    assert commit
    with worktree(repository, commit) as tree:
        assert sorted(path.name for path in tree.iterdir()) == [".git", "old"]
        assert worktrees(repository) == 2
    assert not tree.parent.exists()
    assert worktrees(repository) == 1
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), worktree(repository, commit) as tree:
            raise error
        assert not tree.parent.exists()
        assert worktrees(repository) == 1


def test_a_worktree_that_cannot_be_made_leaves_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with pytest.raises(OSError, match="could not check out"), worktree(repository, "0" * 40):
        pass
    assert not list((tmp_path / "temporary").iterdir())
    assert worktrees(repository) == 1


def test_verdicts() -> None:
    assert exit_code(judge(runs(2.0), runs(2.0))) == 0
    assert exit_code(judge(runs(2.0), runs(1.0))) == 0
    assert exit_code(judge(runs(2.0), runs(2.2))) == 1
    (decode, attention) = judge(runs(2.0), runs(2.2))
    assert decode.cells[0] == "decode step"
    assert decode.cells[-3:] == ("+10.0%", "+10.0%", "SLOWER")
    assert attention.fails


def test_a_benchmark_the_base_lacks_passes_and_one_the_head_lacks_fails() -> None:
    new = judge(runs(2.0, lacks="ImportError: no chunks"), runs(2.2))[1]
    assert not new.fails
    assert "recorded, not compared: the base cannot run it: ImportError: no chunks" in new.why
    lost = judge(runs(2.0), runs(2.0, lacks="ImportError: no chunks"))[1]
    assert lost.fails
    assert "this tree cannot run it" in lost.why


def test_the_table_without_a_base_says_so_and_passes() -> None:
    said: list[str] = []
    assert ab.compare({"head": runs(2.0)}, None, said.append) == 0
    text = "\n".join(said)
    assert "no base to compare with" in text
    assert "decode step" in text
    assert ab.compare({"base": runs(1.0), "head": runs(2.0)}, "1234567890abcdef", said.append) == 1
    assert "base 1234567890ab against the working tree" in "\n".join(said)


def test_an_unknown_machine_records_and_passes_and_a_known_one_is_held_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ab, "ROOT", tmp_path)
    monkeypatch.setattr(baseline, "FOLDER", tmp_path / "baseline")
    monkeypatch.delenv("LLAMALAB_OVERWRITE", raising=False)
    said: list[str] = []
    assert ab.known_machine(runs(2.0), said.append) == 0
    assert "no ratios are committed for" in said[-1]
    (recorded,) = (tmp_path / ".benchmarks" / "ratios").iterdir()
    monkeypatch.setenv("LLAMALAB_OVERWRITE", "1")
    assert ab.known_machine(runs(2.0), said.append) == 0
    monkeypatch.delenv("LLAMALAB_OVERWRITE")
    assert (tmp_path / "baseline" / recorded.name).read_text() == recorded.read_text()
    assert ab.known_machine(runs(2.3), said.append) == 0  # within a quarter
    assert ab.known_machine(runs(2.6), said.append) == 1
    assert "decode step: +30% and +30%, more than 25%" in "\n".join(said)


def test_a_machine_is_known_by_its_processor_and_torch_and_not_by_its_name() -> None:
    key = baseline.machine_key()
    assert "torch-" in key
    assert key.endswith(f"fp32-schema-{baseline.SCHEMA}")
    assert os.uname().nodename.lower() not in key
    for path in baseline.FOLDER.glob("*.json"):
        known = baseline.read(baseline.FOLDER, path.stem)
        assert known
        assert set(known) == set(BENCHMARKS)
        assert all(ratio > 0 for one in known.values() for ratio in one)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_timed_against_its_reference(name: str) -> None:
    answers = io.StringIO()
    worker.serve(io.StringIO(json.dumps({"benchmark": name, "rounds": 2}) + "\n"), answers)
    samples = Samples(**json.loads(answers.getvalue()))
    assert len(samples.reference_ns) == len(samples.benchmark_ns) == 2
    assert min(*samples.reference_ns, *samples.benchmark_ns) > 0
    assert BENCHMARKS[name].reference in REFERENCES


def test_a_benchmark_that_cannot_be_made_is_an_answer() -> None:
    answers = io.StringIO()
    worker.serve(io.StringIO('{"benchmark": "no such", "rounds": 2}\n' * 2), answers)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [{"missing": "KeyError: 'no such'"}] * 2


def test_rounds_alternate() -> None:
    order: list[str] = []
    worker.interleaved(lambda: order.append("a"), lambda: order.append("b"), 3)
    assert "".join(order) == "abbaab"


def test_a_base_of_another_layout_passes(tmp_path: Path) -> None:
    """One whose process ends at once, with the last line of what it said."""
    (tmp_path / "llamalab").mkdir()
    (tmp_path / "llamalab" / "__init__.py").write_text("raise SystemExit('an older layout')\n")
    found = measure({"base": tmp_path}, ["decode step", "attention"], Plan(runs=1, turns=3), lambda text: None)
    verdicts = judge(found["base"], runs(2.0))
    assert exit_code(verdicts) == 0
    assert "an older layout" in verdicts[0].why
    assert "cannot run it" in verdicts[1].why


def measured_by(*sets: dict[str, list[list[Ratios]]]) -> tuple[Any, list[list[str]]]:
    """A measure that gives the sets of runs one after the other, and the benchmarks that it was asked for."""
    asked: list[list[str]] = []
    waiting = iter(sets)

    def measure(trees: object, benchmarks: Sequence[str], plan: Plan, say: ab.Say) -> dict[str, list[Run]]:
        asked.append(list(benchmarks))
        found = next(waiting)
        return {
            tree: [dict(zip(benchmarks, map(samples, run), strict=True)) for run in found[tree]]
            for tree in ("base", "head")
        }

    return measure, asked


def samples(wanted: Ratios) -> Samples:
    """Rounds of a fake clock whose ratios are these: in a fifth of them one of the two was faster."""
    fast = wanted.low / wanted.median
    reference = [round(1e6 / max(1.0, fast))] * 20 + [10**6] * 80
    benchmark = [round(1e6 * wanted.median * min(1.0, fast))] * 20 + [round(1e6 * wanted.median)] * 80
    return Samples(reference, benchmark)


def test_runs_that_disagree_are_followed_by_more_of_that_benchmark_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case that once passed: a tenth more work, median +6.9 % and shortest -6.4 % in the best of three runs."""
    monkeypatch.setattr(ab, "BENCHMARKS", {"decode step": None, "attention": None})
    same, slow = Ratios(1.5, 1.5), Ratios(1.65, 1.65)
    wrong = Ratios(1.65 / 1.069, 1.65 / 0.936)  # of the base: one run of three
    first = {"base": [[same, same], [wrong, same], [same, same]], "head": [[slow, same]] * 3}
    assert exit_code(judge(*measured_by(first)[0](None, ["decode step", "attention"], Plan(), str).values())) == 0
    measure, asked = measured_by(first, {"base": [[same]] * 3, "head": [[slow]] * 3})
    found = ab.measured_until_clear({}, Plan(), measure)
    assert asked == [["decode step", "attention"], ["decode step"]]
    decode, attention = judge(found["base"], found["head"])
    assert (decode.fails, decode.cells[3], attention.fails, attention.cells[3]) == (True, "6", False, "3")


def test_what_stays_unclear_passes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ab, "BENCHMARKS", {"decode step": None})
    unclear = {"base": [[Ratios(1.5, 1.5)]] * 3, "head": [[Ratios(1.65, 1.4)]] * 3}
    measure, asked = measured_by(*[unclear] * 9)
    found = ab.measured_until_clear({}, Plan(), measure)
    (verdict,) = judge(found["base"], found["head"])
    assert len(asked) == MOST_SETS
    assert (verdict.fails, verdict.cells[-1]) == (False, "passes, unclear")


def test_without_a_base_one_set_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ab, "BENCHMARKS", {"decode step": None})
    asked = []
    assert ab.measured_until_clear({}, Plan(), lambda *given: asked.append(given) or {"head": runs(2.0)})
    assert len(asked) == 1


def test_a_process_that_measures_keeps_every_round() -> None:
    """A real one, three rounds; how long they took decides nothing here."""
    (run,) = measure({"head": ab.ROOT}, ["calculators"], Plan(runs=1, turns=3, rounds=1), str)["head"]
    outcome = run["calculators"]
    assert isinstance(outcome, Samples)
    assert len(outcome.reference_ns) == len(outcome.benchmark_ns) == 3
