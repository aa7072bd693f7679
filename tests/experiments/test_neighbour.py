"""Beside a busy core: who is asked what in which condition, and what the words say. All that runs is a fake."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import neighbour as lab
from llamalab.arch import LlamaArch

RECORDS = sorted((Path(lab.__file__).parent / "records").glob("*/neighbour.json"))
SLOWED = {"llamalab bf16": 3.0, "transformers": 2.0}


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Contestants that take a second, and longer while the neighbour is busy; the first round takes long by itself."""
    state, asked = {"busy": False}, dict[str, int]()

    @contextmanager
    def neighbour() -> Iterator[Any]:
        yield SimpleNamespace(set=lambda: state.update(busy=True), clear=lambda: state.update(busy=False))

    def ask(side: Any, name: str) -> float:
        asked[side.name] = asked.get(side.name, 0) + 1
        cold = 100.0 if asked[side.name] <= 4 else 0.0
        return cold + (SLOWED[side.name] if state["busy"] else 1.0)

    def started(entry: Any, *_: object) -> Any:
        names = [f"{phase}, {what}" for phase in ("prefill", "decode")
                 for what in ("ready", "sdpa attention, dynamic cache")]  # fmt: skip
        return SimpleNamespace(name=entry.name, names=names)

    monkeypatch.setattr(lab, "neighbour", neighbour)
    monkeypatch.setattr(lab, "started", started)
    monkeypatch.setattr(lab, "ask", ask)
    monkeypatch.setattr(lab, "end", lambda sides: None)
    return state


def test_both_are_asked_in_both_conditions_and_the_first_round_does_not_count(
    faked: dict[str, bool], tmp_path: Path
) -> None:
    samples = lab.measure(LlamaArch(64, 1, 4, 4, 96, 64), "bf16", 3, tmp_path)
    for name, slowed in SLOWED.items():
        for phase in ("prefill", "decode"):
            assert samples["alone"][name][phase] == [1.0] * 3
            assert samples["beside"][name][phase] == [slowed] * 3
    found = lab.summary(samples)
    assert found["decode"]["ours_over_theirs"]["beside"].middle == 1.5
    words = lab.conclude(found, lab.predict(2))
    assert "llamalab bf16 3.00 (3.00 to 3.00), transformers 2.00" in words
    assert "ours takes 1.50 (1.50 to 1.50) times as long as transformers there, 1.00 (1.00 to 1.00) alone" in words


def test_the_neighbour_keeps_a_core_busy_only_while_it_is_told_to() -> None:
    class Event:
        def __init__(self, told: list[bool]) -> None:
            self.told = told

        def is_set(self) -> bool:
            return not self.told

        def wait(self, seconds: float) -> bool:
            return self.told.pop()

    told = [True, False, True]
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    try:
        lab.spin(max(cores), Event(told), Event(told))  # type: ignore[arg-type]
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
    assert told == []


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_committed_record_says_what_its_samples_say(path: Path) -> None:
    answer = json.loads(path.read_text(encoding="utf-8"))
    found = lab.summary(answer["samples_s_per_token"])
    assert json.loads(json.dumps(found)) == answer["found"]
    assert answer["conclusion"] == lab.conclude(found, answer["predicted"])
