"""The page in a real browser without network: it opens, says nothing on the console, prints, is accessible."""

import html as entities
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import llamalab
from llamalab.comparison.comparison import Comparison
from llamalab.formatting import format_bytes, format_seconds
from llamalab.records.record import Record
from llamalab.report import render_bench, render_comparison, render_gallery, render_profiles
from llamalab.report.bench_page import rows_of_bench
from llamalab.report.gallery import NamedRecord
from tests.report.conftest import AXE, DARK, LIGHT, Browser, console
from tests.report.sample import sample_record
from tests.report.sample_profile import sample_profile
from tests.report.test_bench_page import bench_json
from tests.report.test_report import PANELS

pytestmark = pytest.mark.browser

PROBE = """
<script>
const errors = []; addEventListener("error", event => errors.push(String(event.message)));
addEventListener("load", () => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)], seen = {errors};
  const open = one => !one.closest("details:not([open])") || one.closest("summary");
  seen.width = innerWidth; seen.scroll = document.documentElement.scrollWidth;
  seen.height = document.documentElement.scrollHeight;
  seen.tables = all(".board > .shown .scroll").map(one => [one.ariaLabel, one.scrollWidth - one.clientWidth]);
  seen.nav = all("nav a").map(one => { const box = one.getBoundingClientRect();
    return [one.textContent, box.width > 0 && box.left >= 0 && box.right <= innerWidth, box.height]; });
  seen.current = all("nav [aria-current]").map(one => one.textContent);
  seen.over = all("main *").filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll"))
    .map(one => one.outerHTML.slice(0, 80));
  seen.panels = all(".board > .plot .panels svg").map(one => Math.round(one.getBoundingClientRect().left));
  seen.small = all("a, button, select, summary, input[type=search], input[type=range], label").filter(
    one => open(one) && one.offsetParent && !one.classList.contains("skip")).map(
    one => [one.outerHTML.slice(0, 60), one.getBoundingClientRect()]).filter(
    ([, box]) => box.width && Math.min(box.width, box.height) < 24);
  const table = document.querySelector("[data-table=worst] table");
  table.tHead.rows[0].cells[2].querySelector("button").click();
  const unit = {s: 1, ms: 1e-3, "µs": 1e-6, ns: 1e-9};
  seen.sorted = [...table.tBodies[0].rows].map(row => { const [number, name] = row.cells[2].textContent.split(" ");
    return number * unit[name]; });
  const ops = document.querySelector("[data-table=ops]"), filter = ops.querySelector("input[type=search]");
  seen.all = ops.querySelectorAll("tbody tr").length;
  filter.value = "decode norm"; filter.dispatchEvent(new Event("input"));
  seen.filtered = ops.querySelectorAll("tbody tr:not([hidden])").length;
  const plot = document.querySelector("#scatter");
  plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  seen.tip = document.querySelector("#tip").textContent;
  const frame = all(".frames > g").find(one => one.textContent.includes("attention:"));
  frame.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  seen.zoomed = +frame.querySelector("rect").getAttribute("width");
  const results = () => Object.fromEntries(all("[data-result]").map(one => [one.dataset.result, one.textContent]));
  seen.before = results();
  const weight = document.querySelector("[name=weight]");
  weight.value = "int4"; weight.dispatchEvent(new Event("input", {bubbles: true}));
  seen.after = results();
  document.querySelector(".settings button").click();
  seen.again = results();
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""

AXE_RUN = """
<script>
const told = result => parent.postMessage(JSON.stringify(result), "*");
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(one => { one.open = true; });
  axe.run(document).then(
    done => told({rules: done.passes.length, violations: done.violations.map(
      one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)]),
      undecided: done.incomplete.filter(one => one.id === "color-contrast").flatMap(one => one.nodes.map(
        node => node.html.slice(0, 90)))}),
    error => told({error: String(error)}));
});
</script>"""

# What Lighthouse's lists want of a page (accessibility, best practices, SEO), and that it is whole at any width.
SOUND = """
<script>
const errors = []; addEventListener("error", event => errors.push(String(event.message)));
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)], seen = {errors, width: innerWidth};
  const open = one => !one.closest("details:not([open])") || one.closest("summary");
  seen.scroll = document.documentElement.scrollWidth;
  seen.small = all("a, button, select, summary, input[type=search], label").filter(
    one => open(one) && one.offsetParent && !one.classList.contains("skip")).filter(
    one => { const box = one.getBoundingClientRect(); return box.width && Math.min(box.width, box.height) < 24; }).map(
    one => one.outerHTML.slice(0, 60));
  seen.nav = all("nav a").filter(one => one.getBoundingClientRect().right > innerWidth).map(one => one.textContent);
  seen.lang = document.documentElement.lang;
  seen.doctype = document.compatMode;
  seen.title = document.title;
  seen.described = (document.querySelector("meta[name=description]") || {}).content;
  seen.viewport = (document.querySelector("meta[name=viewport]") || {}).content;
  seen.loaded = performance.getEntriesByType("resource").map(one => one.name).filter(one => !/^data:/.test(one));
  seen.levels = all("h1, h2, h3, h4").map(one => +one.tagName[1]);
  const named = one => one.textContent.trim() || one.ariaLabel || one.labels && one.labels.length ||
    one.getAttribute("aria-labelledby");
  seen.nameless = all("a, button, input, select, svg[role=img]").filter(one => !named(one)).map(
    one => one.outerHTML.slice(0, 60));
  seen.repeated = all("[id]").map(one => one.id).filter((one, at, ids) => ids.indexOf(one) !== at);
  seen.broken = all("a[href^='#']").map(one => one.getAttribute("href").slice(1)).filter(
    one => one && !document.getElementById(one));
  seen.nodes = all("*").length;
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""


@pytest.fixture
def page(tmp_path: Path, html: str) -> Path:
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_opens_without_network_and_without_a_word_on_the_console(page: Path, browse: Browser, theme: str) -> None:
    finished = browse(page, theme, "--dump-dom")
    assert finished.stdout.count('role="img"') == PANELS
    assert finished.stdout.rstrip().endswith("</html>")
    # The policy's hash is that of the script: it has run, and the settings are there.
    assert re.search(r'<section id="settings"[^>]*>', finished.stdout)[0].count("hidden") == 0  # type: ignore[index]
    assert finished.stdout.count('aria-current="true"') == 1
    assert console(finished) == []


def test_console_would_tell_of_an_external_load(tmp_path: Path, html: str, browse: Browser) -> None:
    page = tmp_path / "loading.html"
    page.write_text(html.replace("</body>", '<img alt="" src="https://example.org/x.png"></body>'), encoding="utf-8")
    assert console(browse(page, "--dump-dom"))


def test_policy_stops_an_injected_script(tmp_path: Path, html: str, browse: Browser) -> None:
    page = tmp_path / "injected.html"
    page.write_text(html.replace("</h1>", "</h1><script>document.title = 'owned'</script>"), encoding="utf-8")
    finished = browse(page, "--dump-dom")
    assert "<title>owned" not in finished.stdout
    assert console(finished)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_follow_the_theme(page: Path, tmp_path: Path, browse: Browser, theme: str) -> None:
    probe = tmp_path / "probe.html"
    script = "<script>document.title = getComputedStyle(document.documentElement).backgroundColor</script>"
    probe.write_text(_without_policy(page.read_text(encoding="utf-8")).replace("</body>", script + "</body>"))
    expected = {LIGHT: "rgb(247, 246, 243)", DARK: "rgb(16, 19, 23)"}[theme]
    assert f"<title>{expected}</title>" in browse(probe, theme, "--dump-dom").stdout


def test_prints_to_at_most_eight_pages_without_raw_tables(page: Path, tmp_path: Path, browse: Browser) -> None:
    target = tmp_path / "report.pdf"
    finished = browse(page, DARK, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    data = target.read_bytes()
    assert data.startswith(b"%PDF")
    assert console(finished) == []
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 8


@pytest.mark.parametrize("width", [1440, 1280, 768, 390])
def test_nothing_is_cut_off_at_any_width(page: Path, tmp_path: Path, browse: Browser, width: int) -> None:
    seen = _probed(page, tmp_path, browse, width)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["over"] == []
    assert all(whole and height >= 24 for _, whole, height in seen["nav"])
    assert len(seen["nav"]) >= 10
    assert seen["small"] == []
    if width >= 1280:
        assert [table for table, more in seen["tables"] if more > 0] == []
        assert seen["height"] <= 8_000
    if width == 390:  # panels stand below each other
        assert len(set(seen["panels"])) == 1


def test_the_script_marks_sorts_filters_and_computes(page: Path, tmp_path: Path, browse: Browser) -> None:
    seen = _probed(page, tmp_path, browse, 1280)
    assert seen["errors"] == []
    assert len(seen["current"]) == 1
    assert seen["sorted"] == sorted(seen["sorted"])
    assert len(seen["sorted"]) > 5
    assert 0 < seen["filtered"] < seen["all"]
    assert seen["tip"]
    assert seen["zoomed"] > 300
    assert seen["before"] != seen["after"]
    assert seen["again"] == seen["before"]


def test_the_settings_begin_with_what_the_page_predicts(
    record: Record, page: Path, tmp_path: Path, browse: Browser
) -> None:
    comparison = Comparison(record)
    seen = _probed(page, tmp_path, browse, 1280)
    assert seen["before"]["prefill_s"] == format_seconds(comparison.phases[0].predicted_s or 0.0)
    assert seen["before"]["weight_bytes"] == format_bytes(comparison.weight_bytes)


@pytest.fixture(scope="module")
def pages(record: Record, html: str) -> dict[str, str]:
    """A page of each kind."""
    profile = sample_profile(record)
    return {
        "report": html,
        "profiles": render_profiles([profile, replace(profile, kind="transformers")]),
        "bench": render_bench(rows_of_bench(bench_json())),
        "gallery": render_gallery(
            [NamedRecord("records/one", record), NamedRecord("records/two", sample_record("tiny"))]
        ),
        "comparison": render_comparison(dict(llamalab.compare("7b@l4", "7b@h200-141gb-sxm"))),
    }


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_sound(pages: dict[str, str], tmp_path: Path, browse: Browser, width: int) -> None:
    found = _framed([(SOUND, html) for html in pages.values()], [width] * len(pages), tmp_path, browse, LIGHT)
    for name, seen in zip(pages, found, strict=True):
        assert {key: seen[key] for key in ("errors", "small", "nav", "loaded", "nameless", "repeated", "broken")} == {
            "errors": [], "small": [], "nav": [], "loaded": [], "nameless": [], "repeated": [], "broken": [],
        }, name  # fmt: skip
        assert (seen["width"], seen["lang"], seen["doctype"]) == (width, "en", "CSS1Compat")
        assert seen["scroll"] <= width, name
        assert len(seen["title"]) > 10
        assert len(seen["described"]) > 20
        assert "width=device-width" in seen["viewport"]
        assert "user-scalable" not in seen["viewport"]
        levels = seen["levels"]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), name


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_no_violation_wide_and_narrow(
    pages: dict[str, str], tmp_path: Path, browse: Browser, theme: str
) -> None:
    asked = [("report", 1280), ("report", 390), *((name, 390) for name in pages if name != "report")]
    probe = _axe_probe()
    found = _framed([(probe, pages[name]) for name, _ in asked], [width for _, width in asked], tmp_path, browse, theme)
    for (name, width), result in zip(asked, found, strict=True):
        assert result.get("violations") == [], (name, width, result)
        assert result["rules"] > 20
        # The words of plots lie on pictures, where axe cannot look; test_theme holds their colours to each other.
        assert [one for one in result["undecided"] if not one.startswith(("<text", "<tspan"))] == [], (name, width)


def test_axe_would_find_one(page: Path, tmp_path: Path, browse: Browser) -> None:
    broken = page.read_text(encoding="utf-8").replace('<html lang="en">', "<html>")
    (found,) = _framed([(_axe_probe(), broken)], [1280], tmp_path, browse, LIGHT)
    assert [one[0] for one in found["violations"]] == ["html-has-lang"]


def _axe_probe() -> str:
    """The library and its run, for a page whose policy is taken away."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save --prefix tests/report axe-core")
    return f"<script>{AXE.read_text(encoding='utf-8')}</script>{AXE_RUN}"


def _probed(page: Path, tmp_path: Path, browse: Browser, width: int) -> dict:
    """What a script finds in a copy of the page at that width."""
    return _framed([(PROBE, page.read_text(encoding="utf-8"))], [width], tmp_path, browse, LIGHT)[0]


def _framed(
    probes: Sequence[tuple[str, str]], widths: Sequence[int], tmp_path: Path, browse: Browser, theme: str
) -> list[dict]:
    """What a script tells in copies of pages, each in a frame of its width: a window is at least 500 wide."""
    frames = []
    for number, ((probe, html), width) in enumerate(zip(probes, widths, strict=True)):
        inner = tmp_path / f"inner-{number}.html"
        inner.write_text(_without_policy(html).replace("<head>", "<head>" + probe, 1), encoding="utf-8")
        style = f"position: absolute; top: 0; left: 0; border: 0; width: {width}px; height: 900px"
        frames.append(f'<iframe style="{style}" src="{inner.name}"></iframe>')
    listen = (
        "const frames = [...document.querySelectorAll('iframe')], told = {};"
        "addEventListener('message', event => { told[frames.findIndex(one => one.contentWindow === event.source)] = "
        "event.data; if (Object.keys(told).length === frames.length) "
        "document.querySelector('pre').textContent = JSON.stringify(told); });"
    )
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html><pre></pre>{''.join(frames)}<script>{listen}</script>", encoding="utf-8")
    options = ("--window-size=1600,1000", "--hide-scrollbars", "--virtual-time-budget=60000", "--dump-dom")
    found = re.search(r"<pre>(.+?)</pre>", browse(outer, theme, *options).stdout, re.DOTALL)
    assert found, "a page's probe did not finish"
    told = json.loads(entities.unescape(found[1]))
    return [json.loads(told[str(number)]) for number in range(len(frames))]


def _without_policy(html: str) -> str:
    changed, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert count == 1
    return changed
