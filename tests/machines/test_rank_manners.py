"""Ranks end together: the first that fails speaks, a killed one ends the run, Ctrl-C and a lost launcher leave none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import llamalab
from llamalab.checkpoints import write_llama2c

ENDS_WITHIN_S = 10.0
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "llamalab")
OURS = (sys.executable, "-m", "llamalab")
BENCH = ("bench", "--model", "tiny", "-p", "4", "-n", "4000", "--dtype", "fp32", "--device", "cpu")


class Ranks:
    """A run on two ranks that is under way."""

    def __init__(self, command: tuple[str, ...]) -> None:
        pipe = subprocess.PIPE
        self.run = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        self.by_rank = self._wait()

    def _wait(self) -> dict[int, psutil.Process]:
        """Until both are there and have met: a model is being run."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            found = {}
            for child in psutil.Process(self.run.pid).children(recursive=True):
                try:
                    rank = child.environ().get("RANK")
                    if rank is not None and child.cpu_times().user > 3:
                        found[int(rank)] = child
                except psutil.Error:
                    continue
            if len(found) == 2:
                return found
            time.sleep(0.2)
        raise AssertionError("two ranks did not start")

    def ended(self, began_s: float) -> tuple[int, str]:
        """The exit code and what was said, when nothing of the run is left."""
        _, said = self.run.communicate(timeout=4 * ENDS_WITHIN_S)
        _, alive = psutil.wait_procs(list(self.by_rank.values()), timeout=ENDS_WITHIN_S)
        assert alive == []
        assert time.monotonic() - began_s < ENDS_WITHIN_S
        return self.run.returncode, said


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    run = Ranks((*OURS, *BENCH, "--tensor-parallel", "2"))
    yield run
    run.run.kill()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run(ranks: Ranks, rank: int) -> None:
    began_s = time.monotonic()
    ranks.by_rank[rank].kill()
    code, said = ranks.ended(began_s)
    assert code == 3
    assert said.strip().splitlines()[-1].startswith("llamalab: every rank must run to the end; rank")
    assert f"rank {rank} was killed by SIGKILL" in said
    assert "Traceback" not in said


def test_ctrl_c_leaves_no_process(ranks: Ranks) -> None:
    began_s = time.monotonic()
    os.killpg(ranks.run.pid, signal.SIGINT)
    code, said = ranks.ended(began_s)
    assert (code, said.strip().splitlines()[-1]) == (130, "llamalab: interrupted")


def test_a_killed_launcher_leaves_no_process(ranks: Ranks) -> None:
    began_s = time.monotonic()
    ranks.run.kill()
    assert ranks.ended(began_s)[0] == -signal.SIGKILL


def test_a_rank_that_is_killed_ends_torchrun_too() -> None:
    run = Ranks((*TORCHRUN, *BENCH))
    began_s = time.monotonic()
    run.by_rank[1].kill()
    assert run.ended(began_s)[0] != 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.bin"
    write_llama2c(path, llamalab.build("stories260k", dtype="fp32"))
    return path


@pytest.mark.parametrize("launcher", [OURS, TORCHRUN])
def test_an_error_of_all_ranks_is_said_once(launcher: tuple[str, ...], checkpoint: Path) -> None:
    more = ("--tensor-parallel", "2") if launcher == OURS else ()
    command = (*launcher, "generate", "--model", str(checkpoint), "--tokenizer", "tests/absent.bin", *more)
    made = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert made.returncode == (3 if launcher == OURS else 1)
    assert made.stdout == ""
    assert made.stderr.count("llamalab: ") == 1
    assert "absent.bin" in made.stderr


def test_ranks_that_do_not_divide_the_model_are_refused_in_one_sentence(shared_real: Path) -> None:
    files = ("--model", str(shared_real / "stories260K.bin"), "--tokenizer", str(shared_real / "tok512.bin"))
    made = subprocess.run(
        (*OURS, "generate", *files, "--tensor-parallel", "3"), capture_output=True, text=True, timeout=90
    )
    assert (made.returncode, made.stderr) == (2, "llamalab: tensor-parallel ranks must divide n_heads=8; got 3\n")
