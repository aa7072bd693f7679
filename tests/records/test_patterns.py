"""Patterns in a record: sound ones come back, and what no pattern has is refused before a page is drawn of it."""

import dataclasses
import json
from typing import Any

import pytest

from llamalab.errors import FormatError
from llamalab.records.record_json import record_from_json, record_to_json
from tests.report.sample import sample_record
from tests.report.sample_patterns import sample_patterns


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return dataclasses.asdict(sample_record(patterns=sample_patterns()))


def test_they_come_back(data: dict[str, Any]) -> None:
    record = record_from_json(json.dumps(data))
    assert record.patterns == sample_patterns()
    assert record_from_json(record_to_json(record)) == record


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("tokens",), [], "neither tokens and heads nor a reason"),
        (("heads",), [], "neither tokens and heads nor a reason"),
        (("tokens", 0), 7, "must be str"),
        (("heads", 0, "layer"), 2, "head 0 of layer 2"),
        (("heads", 0, "head"), -1, "head -1 of layer 0"),
        (("heads", 0, "first"), 1.5, "a share that is none"),
        (("shown", 0, "layer"), 1, None),
        (("shown", 0, "head"), 99, "no previous of head 99"),
        (("shown", 0, "kind"), "last", "no last of head 0"),
        (("shown", 0, "kind"), "__class__", "no __class__ of head 0"),
        (("heads", 0, "previous"), None, "no previous of head 0"),
        (("shown", 0, "rows_permille", 3), [1000], "not one for each token"),
        (("shown", 0, "rows_permille", 0), [400], "do not add up to 1000"),
        (("shown", 0, "rows_permille", 1), [-500, 1500], "do not add up to 1000"),
        (("shown", 0, "rows_permille"), [], "not one for each token"),
    ],
)
def test_what_no_pattern_has_is_refused(
    data: dict[str, Any], place: tuple[str | int, ...], value: Any, fault: str | None
) -> None:
    changed = json.loads(json.dumps(data))
    inner = changed["patterns"]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if fault is None:
        assert record_from_json(json.dumps(changed)).patterns
        return
    with pytest.raises(FormatError, match=fault):
        record_from_json(json.dumps(changed))
