"""The page in a real browser without network: it opens, says nothing on the console, prints, is accessible."""

import html as entities
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from llamalab.comparison.comparison import Comparison
from llamalab.records.record import Record
from llamalab.report import render_profiles
from llamalab.units import format_bytes, format_seconds
from tests.report.conftest import AXE, DARK, LIGHT, Browser, console
from tests.report.sample_profile import sample_profile
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
const shown = result => { const pre = document.createElement("pre"); pre.id = "axe-result";
  pre.textContent = JSON.stringify(result); document.body.append(pre); };
document.querySelectorAll("details").forEach(one => { one.open = true; });
axe.run(document).then(
  done => shown({rules: done.passes.length, violations: done.violations.map(
    one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)]),
    undecided: done.incomplete.filter(one => one.id === "color-contrast").flatMap(one => one.nodes.map(
      node => node.html.slice(0, 90)))}),
  error => shown({error: String(error)}));
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


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_no_violation(page: Path, tmp_path: Path, browse: Browser, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save --prefix tests/report axe-core")
    result = _axe(page.read_text(encoding="utf-8"), tmp_path, browse, theme)
    assert result.get("violations") == [], result
    assert result["rules"] > 20
    # The words of plots lie on pictures, where axe cannot look; test_theme holds their colours to each other.
    assert [one for one in result["undecided"] if not one.startswith(("<text", "<tspan"))] == []


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_no_violation_in_a_page_of_profiles(
    record: Record, tmp_path: Path, browse: Browser, theme: str
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save --prefix tests/report axe-core")
    profile = sample_profile(record)
    html = render_profiles([profile, replace(profile, kind="transformers")])
    result = _axe(html, tmp_path, browse, theme)
    assert result.get("violations") == [], result


def test_axe_would_find_one(page: Path, tmp_path: Path, browse: Browser) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save --prefix tests/report axe-core")
    broken = page.read_text(encoding="utf-8").replace('<html lang="en">', "<html>")
    assert [one[0] for one in _axe(broken, tmp_path, browse, LIGHT)["violations"]] == ["html-has-lang"]


def _axe(html: str, tmp_path: Path, browse: Browser, theme: str) -> dict:
    """Run axe-core in a copy of the page whose policy lets it."""
    probe = tmp_path / "axe.html"
    library = f"<script>{AXE.read_text(encoding='utf-8')}</script>"
    probe.write_text(_without_policy(html).replace("</body>", library + AXE_RUN + "</body>"), encoding="utf-8")
    dom = browse(probe, theme, "--virtual-time-budget=60000", "--window-size=1400,3000", "--dump-dom").stdout
    found = re.search(r'<pre id="axe-result">(.*?)</pre>', dom, re.DOTALL)
    assert found, "axe did not finish"
    return json.loads(entities.unescape(found[1]))


def _probed(page: Path, tmp_path: Path, browse: Browser, width: int) -> dict:
    """What a script finds in a copy of the page in a frame of that width; a window is at least 500 wide."""
    inner = _without_policy(page.read_text(encoding="utf-8")).replace("<head>", "<head>" + PROBE, 1)
    outer = tmp_path / "outer.html"
    style = f"border: 0; width: {width}px; height: 900px"
    listen = "addEventListener('message', event => { document.querySelector('pre').textContent = event.data; });"
    outer.write_text(
        f"<!doctype html><pre></pre><script>{listen}</script>"
        f'<iframe style="{style}" srcdoc="{entities.escape(inner)}"></iframe>', encoding="utf-8"
    )  # fmt: skip
    options = ("--window-size=1600,1000", "--hide-scrollbars", "--virtual-time-budget=20000", "--dump-dom")
    found = re.search(r"<pre>(.+?)</pre>", browse(outer, LIGHT, *options).stdout, re.DOTALL)
    assert found, "the page's probe did not finish"
    return json.loads(entities.unescape(found[1]))


def _without_policy(html: str) -> str:
    changed, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert count == 1
    return changed
