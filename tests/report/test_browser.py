"""The page in a real browser without network: it opens, says nothing on the console, prints, is accessible."""

import html as entities
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from llamalab.records.record import Record
from llamalab.report import render_profiles
from tests.report.conftest import AXE, DARK, LIGHT, Browser, console
from tests.report.sample_profile import sample_profile
from tests.report.test_report import PANELS

pytestmark = pytest.mark.browser

AXE_RUN = """
<script>
const shown = result => { const pre = document.createElement("pre"); pre.id = "axe-result";
  pre.textContent = JSON.stringify(result); document.body.append(pre); };
document.querySelectorAll("details").forEach(one => { one.open = true; });
axe.run(document).then(
  done => shown({rules: done.passes.length, violations: done.violations.map(
    one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)])}),
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


def test_prints_to_pdf_in_light_with_its_data(page: Path, tmp_path: Path, browse: Browser) -> None:
    target = tmp_path / "report.pdf"
    finished = browse(page, DARK, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    data = target.read_bytes()
    assert data.startswith(b"%PDF")
    assert console(finished) == []
    # Details are closed on the screen and open on paper: the tables make the pages.
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 6


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_axe_finds_no_violation(page: Path, tmp_path: Path, browse: Browser, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save --prefix tests/report axe-core")
    result = _axe(page.read_text(encoding="utf-8"), tmp_path, browse, theme)
    assert result.get("violations") == [], result
    assert result["rules"] > 20


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


def _without_policy(html: str) -> str:
    changed, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert count == 1
    return changed
