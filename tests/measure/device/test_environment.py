import getpass
import json
import platform
import subprocess
from dataclasses import asdict

import pytest
import torch

from llamalab.measure.device.cpu import Cpu
from llamalab.measure.device.environment import environment, git_state, read_telemetry

CPU = torch.device("cpu")


def test_it_names_no_host_user_or_path():
    text = json.dumps(asdict(environment(CPU, "llamalab report")))
    assert platform.node() not in text
    assert "/" not in text.replace("+00:00", "")
    assert getpass.getuser() not in text.lower().split()


def test_it_says_what_ran():
    found = environment(CPU, "llamalab report --model 7b")
    assert (found.torch, found.python) == (torch.__version__, platform.python_version())
    assert found.threads == torch.get_num_threads()
    assert (found.device, found.cuda, found.driver) == ("cpu", None, None)
    assert found.command == "llamalab report --model 7b"
    assert found.memory_bytes > 0


def test_what_a_cpu_does_not_tell_has_a_reason():
    state = read_telemetry(CPU)
    nulls = {name for name, value in asdict(state).items() if value is None}
    assert nulls == state.missing.keys()
    assert all(state.missing.values())


def test_clock_is_the_mean_of_the_cores(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t: 1000.0\ncpu MHz\t: 3000.0\n")
    assert Cpu(CPU, root=tmp_path).telemetry().clock_hz == 2_000_000_000


def test_no_clock_is_null_with_a_reason(tmp_path):
    state = Cpu(CPU, root=tmp_path).telemetry()
    assert state.clock_hz is None
    assert state.missing["clock_hz"]


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first", "--no-gpg-sign")
    return tmp_path.resolve()


def test_git_revision_and_dirt(checkout):
    revision, dirty = git_state(checkout)
    assert revision is not None
    assert len(revision) == 40
    assert dirty is False
    (checkout / "file").write_text("2")
    assert git_state(checkout) == (revision, True)


def test_another_projects_checkout_is_not_ours(checkout):
    inside = checkout / "venv"
    inside.mkdir()
    assert git_state(inside) == (None, None)


def test_no_checkout_and_no_git(tmp_path, monkeypatch):
    assert git_state(tmp_path) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == (None, None)
