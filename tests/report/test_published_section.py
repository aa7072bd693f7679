"""The section of GPUs that are not here: published kernels of all of them, or of the one that was asked for."""

import csv
import io

import pytest

from llamalab.report import csv_files, render
from tests.report.sample import sample_record


def rows_of(hardware: str | None) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_files(sample_record("7b"), hardware=hardware)["published"])))


def test_without_a_device_all_that_have_kernels_are_shown_and_no_row_without_one() -> None:
    rows = rows_of(None)
    assert {"a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm"} <= {row["device"] for row in rows}
    assert all(row["published_s"] and row["source"] and not row["reason"] for row in rows)


@pytest.mark.parametrize("device", ["a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm", "b200-180gb"])
def test_of_one_device_every_row_of_its_op_table_is_shown(device: str) -> None:
    rows = rows_of(device)
    assert {row["device"] for row in rows} == {device}
    assert {row["phase"] for row in rows} == {"prefill", "decode"}
    assert all(float(row["time_s"]) > 0 and bool(row["published_s"]) != bool(row["reason"]) for row in rows)
    assert any(row["published_s"] for row in rows) == (device != "b200-180gb")
    html = render(sample_record("7b"), hardware=device)
    assert ("no kernel of b200-180gb is published" in html) == (device == "b200-180gb")
