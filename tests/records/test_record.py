import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.errors import FormatError
from llamalab.records.record import Measurement, Record
from llamalab.records.record_json import record_from_json, record_to_json
from tests.report.sample import sample_record

SAMPLE = record_to_json(sample_record("7b"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("model", ["7b", "70b", "tiny"])
def test_round_trip(model):
    record = sample_record(model)
    assert record_from_json(record_to_json(record)) == record


def paths(data, prefix=()):
    """Every place in JSON data."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in children:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


PATHS = list(paths(json.loads(SAMPLE)))


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON, delete=st.booleans())
def test_a_changed_record_is_read_or_refused(path, value, delete):
    data = json.loads(SAMPLE)
    place = data
    for key in path[:-1]:
        place = place[key]
    if delete:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    try:
        record = record_from_json(json.dumps(data))
    except FormatError:
        return
    assert isinstance(record, Record)
    assert record_from_json(record_to_json(record)) == record


@settings(max_examples=200, deadline=None)
@given(st.text() | JSON.map(json.dumps))
def test_other_text_is_refused(text):
    with pytest.raises(FormatError):
        record_from_json(text)


@given(st.integers(0, len(SAMPLE) - 3))
def test_a_truncated_record_is_refused(end):
    with pytest.raises(FormatError):
        record_from_json(SAMPLE[:end])


def changed(**changes):
    return json.dumps(json.loads(SAMPLE) | changes)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": NaN}', "1" * 10_000, '{"schema_version": 1e999}'])
def test_hostile_json_is_refused(text):
    with pytest.raises(FormatError):
        record_from_json(text)


def test_another_schema_says_so():
    with pytest.raises(FormatError, match=r"old\.json must have schema_version 1; got 2; measure anew"):
        record_from_json(changed(schema_version=2), source="old.json")


def test_a_record_of_before_profiles_is_read():
    data = json.loads(SAMPLE)
    del data["profile"]
    assert record_from_json(json.dumps(data)).profile is None


def test_an_unknown_field_is_named():
    with pytest.raises(FormatError, match="odd or missing: extra"):
        record_from_json(changed(extra=1))


@pytest.mark.parametrize("arch", [{}, {"dim": 7}, json.loads(SAMPLE)["arch"] | {"n_kv_heads": 5},
                                  json.loads(SAMPLE)["arch"] | {"tied_embeddings": "no"}])  # fmt: skip
def test_an_impossible_architecture_is_refused(arch):
    with pytest.raises(FormatError):
        record_from_json(changed(arch=arch))


def mutated(edit):
    data = json.loads(SAMPLE)
    edit(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda data: data["passes"][0]["parts"][0].update(samples_s=[]), "no sample"),
        (lambda data: data["passes"][0]["ops"][3].update(count=0), "no occurrence"),
        (lambda data: data["passes"][1].update(context_tokens=0), "1 new tokens in a context of 0"),
        (lambda data: data["passes"][1].update(batch=0), "new tokens"),
        (lambda data: data["passes"][0].update(layers_measured=33), "33 of 32 blocks"),
        (lambda data: data["roofs"][0].update(samples_s=[-1.0]), "negative"),
        (lambda data: data.update(elapsed_s=10**300), "elapsed_s must be float"),
        (lambda data: data.update(elapsed_s=10**400), "larger than any double"),
        (lambda data: data.update(parameters_measured=1.5), "parameters_measured must be int"),
        (lambda data: data.update(parameters_measured=True), "parameters_measured must be int"),
        (lambda data: data["passes"][0]["parts"][0].update(basis="guessed"), "guessed"),
        (lambda data: data["profile"][0].update(wall_s=0), "the profile of prefill has no time"),
        (lambda data: data["profile"][1].update(layers_measured=40), "ran 40 of 32 blocks"),
        (lambda data: data["profile"][1]["ops"][2]["layers_s"].append(1.0), "has 3 blocks of layers"),
        (lambda data: data["profile"][0]["ops"][0].update(time_s=-1.0), "has a negative time"),
    ],
)
def test_what_nothing_can_be_computed_from_is_refused(edit, fault):
    with pytest.raises(FormatError, match=fault):
        record_from_json(mutated(edit))


def test_not_a_number_is_never_written():
    with pytest.raises(ValueError, match="JSON"):
        record_to_json(replace(sample_record("tiny"), elapsed_s=float("nan")))


def test_median_and_quartiles():
    rows = Measurement(name="x", samples_s=[5.0, 1.0, 2.0, 4.0, 3.0])
    assert (rows.median_s, rows.quartiles_s) == (3.0, (2.0, 4.0))
    assert Measurement(name="x", samples_s=[7.0]).quartiles_s == (7.0, 7.0)


def test_a_pass_adds_its_parts_up():
    run = sample_record("7b").phase("decode")
    expected = run.part("embedding").median_s + 32 * run.part("block").median_s + run.part("head").median_s
    assert run.total_s == pytest.approx(expected)
    assert run.basis == "extrapolated"
    assert replace(run, layers_measured=32).basis == "measured"
