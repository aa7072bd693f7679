"""Where experiments leave what they measured."""

from pathlib import Path

RECORDS = Path(__file__).resolve().parents[1] / "records"  # one folder a machine
