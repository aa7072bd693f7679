"""Tier 0: what is counted must be what was reviewed, to the last digit, on every machine.

`LLAMALAB_OVERWRITE=1 pytest tests/benchmarks/test_counters.py` writes the counters of today into counters.json; the
change of that file then says in a review what a change of the code costs. Other versions of torch and Python count
otherwise: one that the file does not know is recorded and passes with a notice at the end; the same command adds it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamalab.files.outputs import write_text
from tools.speedgate.counters import ROOT, Counters
from tools.speedgate.differences import differences, flat, text_table, unknown_scopes

REVIEWED = Path(__file__).with_name("counters.json")
ACCEPT = "LLAMALAB_OVERWRITE=1 pytest tests/benchmarks/test_counters.py"
RECORDED = ROOT / ".benchmarks" / "counters.json"
SEEDS = ("0", "1")


@pytest.fixture(scope="module")
def counted() -> list[Counters]:
    """The counters of two fresh processes whose sets have other orders."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.speedgate.counters"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
        )
        for seed in SEEDS
    ]  # fmt: skip
    found = []
    for process in processes:
        out, complaints = process.communicate(timeout=300)
        assert process.returncode == 0, complaints
        found.append(json.loads(out))
    return found


def test_two_processes_count_the_same(counted: list[Counters]) -> None:
    assert counted[0] == counted[1]


def test_counters_are_those_that_were_reviewed(counted: list[Counters]) -> None:
    now, reviewed = counted[0], json.loads(REVIEWED.read_text(encoding="utf-8")) if REVIEWED.exists() else {}
    if os.environ.get("LLAMALAB_OVERWRITE"):
        write_text(REVIEWED, json.dumps(reviewed | now, indent=1) + "\n")
        return
    rows = differences(reviewed, now)
    if rows:
        table = text_table(("counter", "reviewed", "now"), rows)
        pytest.fail(f"{len(rows)} counters differ from counters.json:\n{table}\nto accept: {ACCEPT}", pytrace=False)


def test_versions_that_nobody_reviewed_are_recorded_and_told(counted: list[Counters]) -> None:
    unknown = unknown_scopes(json.loads(REVIEWED.read_text(encoding="utf-8")), counted[0])
    if unknown:
        write_text(RECORDED, json.dumps(counted[0], indent=1) + "\n")
        pytest.skip(
            f"nobody has reviewed counters for {' and '.join(unknown)}: recorded in {RECORDED}; to add: {ACCEPT}"
        )


def test_op_table_and_counter_agree(counted: list[Counters]) -> None:
    leaves = flat(counted[0])
    pairs = [(name, name.replace("from the op table", "counted")) for name in leaves if "from the op table" in name]
    assert len(pairs) == 2
    for table, counter in pairs:
        assert leaves[table] == leaves[counter] != "0"
