"""Ranks of a machine share its processors, where all were given the same; gloo's loop goes behind other threads."""

import os
from pathlib import Path

import pytest

from llamalab.parallel import affinity


class Store(dict[str, bytes]):
    """What the ranks tell each other, already told."""

    def set(self, name: str, text: str) -> None:
        self[name] = text.encode()

    def get(self, name: str) -> bytes:  # type: ignore[override]
        return self[name]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The processors that a process was kept to; a core has two of them."""
    found: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, share: found.append(share), raising=False)
    monkeypatch.setattr(affinity, "_place", lambda processor: (0, processor % 4, processor))
    return found


def store_of(monkeypatch: pytest.MonkeyPatch, *hosts: tuple[str, list[int]]) -> Store:
    """Of every rank where it is and what it was given; this process is each of them in turn."""
    store = Store()
    for rank, (host, processors) in enumerate(hosts):
        monkeypatch.setattr(affinity.socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(affinity, "_allowed", lambda processors=processors: processors)
        store.set(f"processors/{rank}", f"{host} {processors}")
    return store


def test_ranks_of_a_machine_take_whole_cores_that_no_other_takes(
    monkeypatch: pytest.MonkeyPatch, kept: list[tuple[int, ...]]
) -> None:
    processors = list(range(8))  # 0 and 4 are one core
    store = store_of(monkeypatch, ("one", processors), ("one", processors))
    assert [affinity.take_processors(store, rank, 2) for rank in (0, 1)] == [(0, 4, 1, 5), (2, 6, 3, 7)]
    assert kept == [(0, 4, 1, 5), (2, 6, 3, 7)]


def test_ranks_of_another_machine_do_not_count(monkeypatch: pytest.MonkeyPatch, kept: list[tuple[int, ...]]) -> None:
    store = store_of(monkeypatch, ("other", [0, 1, 2, 3]), ("one", [0, 1]), ("one", [0, 1]))
    assert [affinity.take_processors(store, rank, 3) for rank in (1, 2)] == [(0,), (1,)]


@pytest.mark.parametrize(
    "hosts",
    [
        (("one", [0, 1]), ("one", [2, 3])),  # somebody has placed them already
        (("one", [0]), ("one", [0])),  # fewer than ranks
        (("one", []), ("one", [])),  # a system that does not tell
    ],
)
def test_elsewhere_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, kept: list[tuple[int, ...]], hosts: tuple[tuple[str, list[int]], ...]
) -> None:
    assert affinity.take_processors(store_of(monkeypatch, *hosts), 1, 2) is None
    assert kept == []


def test_only_the_loops_of_gloo_go_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in ((11, "python"), (12, "gloo_tcp_loop"), (13, "pt_gloo_runloop")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(name + "\n")
    (tmp_path / "14").mkdir()  # ended meanwhile
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, policy, _: asked.append((thread, policy)))
    monkeypatch.setattr(os, "setpriority", lambda which, thread, nice: asked.append((which, thread, nice)))
    assert affinity.let_loops_yield(sorted(tmp_path.iterdir())) == 1
    assert asked == [(12, os.SCHED_BATCH), (os.PRIO_PROCESS, 12, 10)]
