"""A record as JSON, and back: from its own file, or from the page that embeds it.

Fields are checked by type, an architecture by its own rules, and times for being finite and positive.
"""

import dataclasses
import json
import os

from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json, read_bounded_text
from llamalab.records.codec import from_plain
from llamalab.records.record import RECORD_SCHEMA, Record

EMBEDDED = '<script type="application/json" id="record">'  # marks the JSON in a page (report/templates/page.html)


def record_to_json(record: Record) -> str:
    """The record as indented JSON."""
    return json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False) + "\n"


def shown_text(path: str | os.PathLike[str], what: str) -> str:
    """The JSON of a record or of profiles, from their own file or from the page that embeds it.

    Errors as for read_bounded_text, and FormatError for a page without either; `what` names the file in them.
    """
    text = read_bounded_text(path, what)
    if not text.lstrip().startswith("<"):
        return text
    _, _, after = text.partition(EMBEDDED)
    data, end, _ = after.partition("</script>")
    if not end:
        raise FormatError(f"the {what} must be JSON, or a page that embeds it; {os.fspath(path)} embeds none")
    return data


def record_from_json(text: str, *, source: str = "the record") -> Record:
    """Read a record back. Raises FormatError for other text, or another schema."""
    data = parse_json(text, source)
    if not isinstance(data, dict) or "schema_version" not in data:
        raise FormatError(f"{source} must be a record that llamalab wrote; it has no schema_version")
    if data["schema_version"] != RECORD_SCHEMA:
        raise FormatError(
            f"{source} must have schema_version {RECORD_SCHEMA}; got {data['schema_version']!r}; measure anew"
        )
    record = from_plain(Record, data, source)
    assert isinstance(record, Record)
    try:
        fault = _fault(record)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source} must hold a Llama's sizes; {error}") from None
    if fault is not None:
        raise FormatError(f"{source} must hold a sound measurement; {fault}")
    return record


def _fault(record: Record) -> str | None:
    """The first inconsistency of a record that types do not exclude.

    Raises TypeError or InputError where `arch` is no architecture.
    """
    record.llama_arch  # noqa: B018  # raises where its fields cannot be
    for one in record.passes:
        if not 1 <= one.new_tokens <= one.context_tokens or one.batch < 1:
            return f"{one.phase} has {one.new_tokens} new tokens in a context of {one.context_tokens}"
        if not 1 <= one.layers_measured <= one.layers_total:
            return f"{one.phase} measured {one.layers_measured} of {one.layers_total} blocks"
        for row in (*one.parts, *one.ops):
            if not row.samples_s or row.count < 1:
                return f"{row.name} in {one.phase} has no sample or no occurrence"
    for profiled in record.profile or ():
        if profiled.fault is not None:
            return f"the profile of {profiled.phase} {profiled.fault}"
    if record.patterns is not None and record.patterns.fault is not None:
        return f"attention in {record.patterns.text[:40]!r} {record.patterns.fault}"
    times = [row.samples_s for one in record.passes for row in (*one.parts, *one.ops)]
    times += [one.samples_s for one in record.roofs] + [one.samples_s for one in record.attention]
    return "a time is negative" if any(sample < 0 for samples in times for sample in samples) else None
