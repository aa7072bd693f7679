"""The speed of a report made from its record."""

from collections.abc import Callable

from llamalab.report import csv_files, render
from tests.report.sample import sample_record


def test_page(benchmark: Callable[..., str]) -> None:
    record = sample_record()
    html = benchmark(render, record)
    assert html.lower().startswith("<!doctype html>")


def test_csv(benchmark: Callable[..., dict[str, str]]) -> None:
    assert benchmark(csv_files, sample_record())["passes"].count("\n") == 3
