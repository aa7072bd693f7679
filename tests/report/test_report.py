"""The page as text: nothing loaded, nothing unescaped, nothing that did not run shown as if it had."""

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.sentences import phase_sentence, verdict
from llamalab.comparison.wording import tokens_per_s
from llamalab.records.patterns import Patterns
from llamalab.records.ranks import RanksRun
from llamalab.records.record import NOT_LOOKED, MeasuredMemory, Record
from llamalab.records.record_json import record_from_json, record_to_json
from llamalab.records.roof import Roof
from llamalab.report import CSV_HEADS, OURS, csv_files, render
from llamalab.report.layout import page_script, script_hash
from llamalab.report.ranks_section import ranks_sections, ranks_tables
from llamalab.report.tables import tables
from tests.report.sample import GEMM, environment, roofs, sample_record
from tests.report.sample_patterns import sample_patterns
from tests.report.sample_ranks import constants, sample_run

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u2028</style>{{ 7 * 7 }}'
ELSEWHERE = {"ranks", "by_rank", "scaling", "llama2"}  # tables of several ranks, and of other families
PANELS = 28  # of all plots of a sample report
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Every element with its attributes, the text of each kind of element, and whether tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, *, outside: tuple[str, ...] = ("script", "style")) -> str:
        return " ".join(data for tag, data in self.texts if tag not in outside)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.elements for key, value in attrs.items() if key == attribute and value]


def embedded(html: str) -> Record:
    found = re.search(r'<script type="application/json" id="record">(.*?)</script>', html, re.DOTALL)
    assert found
    return record_from_json(found[1])


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_tags_balance_and_the_frame_is_there(page: Page) -> None:
    assert page.open == []
    count = Counter(tag for tag, _ in page.elements)
    assert [count[tag] for tag in ("html", "head", "body", "h1", "main")] == [1, 1, 1, 1, 1]
    assert count["svg"] == PANELS
    assert ("html", {"lang": "en"}) in page.elements


def test_loads_nothing_and_runs_only_its_own_script(page: Page, html: str) -> None:
    forbidden = {"iframe", "object", "embed", "base", "form", "foreignobject"}
    assert not forbidden & {tag for tag, _ in page.elements}
    assert page.values("src") == []
    assert all(value.startswith(("#", "data:")) for value in page.values("href"))
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": name} for name in ("record", "tables", "set")] + [{}]
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert not re.search(r"https?://(?!www\.w3\.org/)", html.partition('<script type="application/json"')[0])


def test_policy_lets_only_the_script_of_the_page_run(page: Page, html: str) -> None:
    policy = next(a["content"] or "" for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy.startswith(f"default-src 'none'; style-src 'unsafe-inline'; script-src '{script_hash(script)}';")
    assert len(script.encode()) <= 25_000
    assert script.strip() == page_script().strip()


def test_ids_are_unique_and_every_reference_resolves(page: Page, html: str) -> None:
    ids = page.values("id")
    assert [one for one, count in Counter(ids).items() if count > 1] == []
    references = [word for value in page.values("aria-labelledby") for word in value.split()]
    references += [value[1:] for value in page.values("href") if value.startswith("#")]
    references += re.findall(r"url\(#([^)]+)\)", html)
    assert len(references) > 30
    assert set(references) <= set(ids)


def test_plots_are_images_with_title_and_description(page: Page, html: str) -> None:
    plots = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert all(plot["role"] == "img" and "width" not in plot for plot in plots)
    assert page.values("style") == []  # the plots' styles are rules of the page
    classes = {name for value in page.values("class") for name in value.split()}
    rules = re.findall(r"^\.(p\d+)\{(.*)\}$", html, re.MULTILINE)
    assert {name for name, _ in rules} <= classes
    assert len(rules) > 50
    assert not re.search(r"#01fe[0-9a-f]{2}", html)


def test_tables_have_scopes_and_captions(page: Page) -> None:
    count = Counter(tag for tag, _ in page.elements)
    assert count["table"] == count["caption"] == 19
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.elements if tag == "th")


def hostile_patterns() -> Patterns:
    found = sample_patterns()
    return dataclasses.replace(found, text=HOSTILE, tokens=[HOSTILE] * len(found.tokens))


def test_hostile_names_stay_text(record: Record) -> None:
    changed = dataclasses.replace(
        record, model=HOSTILE, notes=[HOSTILE], patterns=hostile_patterns(),
        environment=environment(device_name=HOSTILE, command=HOSTILE, os=HOSTILE, git_revision=HOSTILE),
        passes=[dataclasses.replace(one, kernel=HOSTILE, attention=HOSTILE) for one in record.passes],
        attention=[dataclasses.replace(one, backend=HOSTILE, kernel=HOSTILE) for one in record.attention],
        roofs=[dataclasses.replace(one, shape=HOSTILE, reason=HOSTILE) for one in record.roofs],
    )  # fmt: skip
    html = render(changed)
    page = Page(html)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(render(record)).elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 4
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert page.text().count(HOSTILE) > 10
    assert "49" not in next(data for tag, data in page.texts if tag == "title")
    assert embedded(html) == changed


def test_same_record_same_bytes(record: Record, html: str) -> None:
    assert render(record_from_json(record_to_json(record))) == html


def test_record_comes_back_from_the_page(record: Record, html: str) -> None:
    assert embedded(html) == record


def test_size_is_bounded_and_generator_is_told(html: str) -> None:
    assert len(html.encode()) <= 420_000
    assert OURS in html[:2_000]


def test_page_says_the_numbers_of_the_comparison(record: Record, page: Page) -> None:
    comparison, text = Comparison(record), page.text()
    told = verdict(comparison)
    said_by_cards = {phase_sentence(phase) for phase in comparison.phases}
    for sentence in (told.headline, *told.failures, *{*told.findings} - said_by_cards, *told.doubts):
        assert sentence in text
    for phase in comparison.phases:
        assert phase.predicted_tokens_per_s
        for speed in (phase.predicted_tokens_per_s, phase.measured_tokens_per_s):
            assert tokens_per_s(speed).partition(" ")[0] in text
    assert "6,738,415,616" in text


def test_extrapolated_stands_exactly_where_blocks_were_not_run(record: Record, html: str) -> None:
    label = "extrapolated from 2 of 32 blocks"
    assert html.count(label) >= 6
    full = render(sample_record(layers_measured=None))
    assert "extrapolated" not in full


@pytest.mark.parametrize("model", ["tiny", "70b", "stories260k"])
def test_other_shapes_render(model: str) -> None:
    page = Page(render(sample_record(model, patterns=sample_patterns())))
    assert sum(tag == "svg" for tag, _ in page.elements) >= PANELS - 2
    if model == "70b":
        assert "do not fit in this device's 24.00 GiB" in page.text()


def test_a_profile_that_there_was_no_time_for_says_so(record: Record) -> None:
    unseen = MeasuredMemory(peak_bytes=None, method=NOT_LOOKED, reason="there was no time left to look at memory")
    late = dataclasses.replace(
        record, profile=None, passes=[dataclasses.replace(one, memory=unseen) for one in record.passes]
    )
    text = Page(render(late)).text()
    assert "not measured: there was no time left for it" in text
    assert "took no profile" not in text


def test_what_was_not_measured_says_why(record: Record) -> None:
    bare = dataclasses.replace(
        record, attention=[], profile=None, patterns=None,
        passes=[
            dataclasses.replace(one, ops=[], kernel=None, observer_ratio=None,
                                memory=MeasuredMemory(peak_bytes=None, method="profiler", reason="no allocator events"))
            for one in record.passes
        ],
    )  # fmt: skip
    page = Page(render(bare))
    text = page.text()
    assert "not measured: attention was not run by itself" in text
    assert "not measured: the record was made by a version of llamalab that took no profile" in text
    profile = {"layers", "timeline", "kernels", "telemetry", "observers"}
    assert csv_files(bare).keys() == CSV_HEADS.keys() - profile - ELSEWHERE - {"heads"}
    assert text.count("not measured: the op-by-op pass has no") >= 3
    assert text.count("no allocator events") >= 2
    # Two panels of memory's prediction, three of the heat map and one of other devices remain.
    assert sum(tag == "svg" for tag, _ in page.elements) == 6


def test_gap_in_the_attention_sweep_is_named(page: Page) -> None:
    assert "naive at 4,096 tokens was not measured: 4.0 GiB of scores" in page.text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ([], "not predicted: there is no"),
        ([Roof(kind="gemm", dtype="bf16", per_second=GEMM, trusted=False, reason="doubled work took 1.2x")],
         "not predicted: the gemm roof for bf16 is not trusted (doubled work took 1.2x)"),
    ],
)  # fmt: skip
def test_without_roofs_there_is_no_prediction_and_it_says_why(record: Record, change: list[Roof], reason: str) -> None:
    others = [roof for roof in roofs("bf16") if roof.kind != "gemm"] if change else []
    html = render(dataclasses.replace(record, roofs=[*others, *change]))
    assert reason in Page(html).text()
    assert "predicted 0" not in html


def test_csv_tables_add_up_to_the_passes(record: Record) -> None:
    files = {name: _rows(text) for name, text in csv_files(record).items()}
    for one in files["passes"]:
        rows = [row for row in files["ops"] if row["phase"] == one["phase"]]
        total = sum(int(row["count"]) * float(row["predicted_s"]) for row in rows)
        assert total == pytest.approx(float(one["predicted_s"]), rel=1e-12)
        assert float(one["error"]) == pytest.approx(float(one["predicted_s"]) / float(one["measured_s"]) - 1)
    assert {row["kv_bytes"] for row in files["kv"] if row["attention"] == "MHA" and row["context"] == "4096"} >= {
        "2147483648", "34359738368"
    }  # fmt: skip


def test_csv_tables_begin_as_announced(record: Record) -> None:
    files = csv_files(record)
    assert files.keys() == CSV_HEADS.keys() - ELSEWHERE
    assert all(CSV_HEADS[name] in text.splitlines()[0] for name, text in files.items())


def test_tables_of_ranks_begin_as_announced_so_that_a_page_can_be_written_again(record: Record) -> None:
    files = csv_files(dataclasses.replace(record, ranks=sample_run()))
    own = {name: files[name].splitlines()[0] for name in ("ranks", "by_rank", "scaling")}
    assert all(head.startswith(CSV_HEADS[name]) for name, head in own.items())


def test_the_section_on_ranks_says_what_is_expected_and_what_was_not_calibrated(record: Record) -> None:
    def said(run: RanksRun) -> str:
        shown = dataclasses.replace(record, ranks=run)
        (section,) = ranks_sections(shown, ranks_tables(shown))
        return section.finding

    without = {name: one for name, one in constants()["classes"].items() if name != "attention_prefill"}
    assert re.search(r"Prefill took 150.00 ms, predicted \S+ ms \(\S+ ms to \S+ ms\), error", said(sample_run()))
    assert (
        "Prefill took 150.00 ms; not predicted, as the calibration of the ranks found no kernel of attention_prefill: "
        "llamalab calibrate --ranks 2 takes more time and memory for it. Decode took 150.00 ms, predicted"
    ) in said(sample_run(classes=without))


def test_unknown_is_empty_in_csv(record: Record) -> None:
    rows = _rows(csv_files(record)["attention"])
    (gap,) = [row for row in rows if row["backend"] == "naive" and row["new_tokens"] == "4096"]
    assert (gap["measured_s"], gap["error"], gap["measured_bytes"]) == ("", "", "")
    assert float(gap["predicted_s"]) > 0


def test_embedded_json_is_plain(html: str) -> None:
    raw = html.partition('id="record">')[2].partition("</script>")[0]
    assert "<" not in raw
    assert json.loads(raw)["schema_version"] == 1


def _rows(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text)))


ANCHORS = (
    "verdict", "predicted", "scatter", "time", "blocks", "roofline", "operations", "flame", "depth", "memory", "held",
    "timeline", "kv", "kv-cache", "kernels", "attention", "sweep", "next", "devices", "settings", "conditions", "state",
    "observers", "provenance", "formulas", "files", "patterns", "heads-previous", "every-head",
)  # fmt: skip


def test_links_into_a_page_stay_what_they_were(page: Page) -> None:
    assert set(ANCHORS) <= set(page.values("id"))
    links = {value for value in page.values("href") if value.startswith("#")}
    assert {
        f"#{anchor}" for anchor in ("predicted", "time", "memory", "kernels", "attention", "next", "provenance")
    } <= links


def test_without_scripts_nothing_is_shown_that_needs_one(page: Page) -> None:
    needing = [attrs for _, attrs in page.elements if "scripted" in (attrs.get("class") or "").split()]
    assert len(needing) == 2
    assert all("hidden" in attrs for attrs in needing)
    assert "Copy CSV" not in page.text()


def test_every_table_and_the_record_are_embedded_and_listed(record: Record, html: str, page: Page) -> None:
    held = json.loads(html.partition('id="tables">')[2].partition("</script>")[0])
    files = csv_files(record)
    assert held == files
    listed = page.values("data-file")
    assert listed == ["record.json", *(f"{name}.csv" for name in held)]


def test_main_columns_come_first_and_all_are_in_the_csv(record: Record) -> None:
    table = tables(Comparison(record))["ops"]
    assert [column.key for column in table.ordered][:5] == ["name", "phase", "predicted_s", "measured_s", "error"]
    assert sorted(column.key for column in table.ordered) == sorted(table.csv.splitlines()[0].split(","))
    assert all(len(row) == len(table.columns) for row in table.shown)


def test_what_to_distrust_is_told_once(record: Record) -> None:
    doubts = verdict(Comparison(record)).doubts
    text = Page(render(dataclasses.replace(record, notes=["A note.", "A note.", *doubts]))).text()
    assert text.count("A note.") == 1
    assert all(text.count(one) == 1 for one in doubts)
