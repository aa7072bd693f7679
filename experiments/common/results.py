"""The end of an experiment: its conclusion in words and one line of JSON, and in a file where asked.

A file of answers lies under experiments/records/<device>/; the report shows those that it finds there.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from llamalab.files.outputs import write_text
from llamalab.measure.device.machine import device_name, resolve_device

SCHEMA_VERSION = 1


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of an experiment whose module docstring is `doc`; all have --out."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, metavar="PATH.json", help="write the answer here too")
    return made


def finish(
    question: str, experiment: str, out: Path | None, conclusion: str, *, device: str = "cpu", **rows: Any
) -> None:
    """Print conclusion and answer; `rows` are what was predicted and measured."""
    answer = {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "question": question,
        "device": device_name(resolve_device(device)),
        "made_on": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        **rows,
        "conclusion": conclusion,
    }
    print(f"\n{conclusion}\n")
    if out is not None:
        write_text(out, json.dumps(answer, indent=1, allow_nan=False) + "\n", ours='"experiment"')
    print(json.dumps(answer, allow_nan=False))
