"""Constants of ranks: where they are kept, and that those of quantised weights are of weights that all keep alike."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llamalab.measure.ranks import constants
from llamalab.measure.ranks.constants import kept_ranks_constants, ranks_constants, ranks_path
from llamalab.measure.ranks.link import LinkRuns
from llamalab.parallel.team import Place
from llamalab.units import KeptWeights
from tests.report.sample_ranks import constants as sample_constants

CPU = torch.device("cpu")


class Team:
    """Two ranks of which this one leads; calls that all make are made here."""

    device, place = CPU, Place(0, 2, 0)

    def everywhere(self, call: Any, *args: Any, own: Any = None) -> Any:
        return call(self, *args, **(own or {}))

    def told(self, value: Any) -> Any:
        return value


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nothing was calibrated before."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was calibrated; nothing is."""
    found: list[dict[str, Any]] = []

    def calibrate(**options: Any) -> Any:
        found.append(options)
        return SimpleNamespace(json=json.dumps(sample_constants(fitted={})))

    monkeypatch.setattr(constants, "calibrate", calibrate)
    monkeypatch.setattr(constants, "time_links", lambda team, dtype, storage: LinkRuns([], []))
    monkeypatch.setattr(constants.RanksCalibration, "link_fits", {})
    monkeypatch.setattr(constants.RanksCalibration, "waiting_share", 0.0)
    monkeypatch.setattr(constants.RanksCalibration, "resuming_s", 0.0)
    return found


def test_each_storage_of_weights_has_a_file_of_its_own() -> None:
    names = {ranks_path(CPU, 2, "bf16", storage).name for storage in (None, "int8", "int4")}
    assert len(names) == 3


@pytest.mark.parametrize("kept", [None, KeptWeights("int4", "kernel", 8)])
def test_ranks_are_calibrated_on_weights_that_are_kept_as_those_that_run(
    asked: list[dict[str, Any]], kept: KeptWeights | None
) -> None:
    team: Any = Team()
    ranks_constants(team, "bf16", 2**20, kept)
    (options,) = asked
    assert (options["weight_dtype"], options["kernel_rows"]) == (("int4", 8) if kept else (None, None))


def test_kept_constants_of_plain_weights_are_not_taken_for_quantised_ones() -> None:
    path = ranks_path(CPU, 2, "bf16")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(sample_constants(title=constants.device_name(CPU))))
    assert kept_ranks_constants(CPU, 2, "bf16") is not None
    assert kept_ranks_constants(CPU, 2, "bf16", "int8") is None
