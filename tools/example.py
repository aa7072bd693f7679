"""The example of the README made anew: record, page, its pictures under docs/images, and the verdict in the README.

python -m tools.example [--from RECORD.json]      without a record the 7B model is measured here, in about two minutes
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llamalab.cli import main as llamalab
from llamalab.files.outputs import write_text

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "reports" / "example-7b-cpu"
COMMAND = "llamalab report --from reports/example-7b-cpu.json --out build/report.html"
PICTURES = (("report", "verdict", "1280,860"), ("report-settings", "settings", "1280,540"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure or read, draw, take pictures; nothing is replaced before all of it is there."""
    parser = argparse.ArgumentParser(description="make the example of the README anew")
    parser.add_argument("--from", dest="record", type=Path, metavar="RECORD.json", help="draw this record anew")
    record = parser.parse_args(arguments).record
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("a browser is needed for the pictures: apt install chromium", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as name:
        page, said = Path(name) / "example.html", io.StringIO()
        asked = ["--from", str(record)] if record else ["--model", "7b", "--device", "cpu"]
        with contextlib.redirect_stdout(said):
            code = llamalab(["report", *asked, "--out", str(page)])
        if code:
            return code
        pictures = [
            (ROOT / "docs" / "images" / f"{stem}.png", _picture(browser, page, anchor, size, Path(name) / stem))
            for stem, anchor, size in PICTURES
        ]
        for suffix in (".html", ".json"):
            shutil.copyfile(page.with_suffix(suffix), EXAMPLE.with_suffix(suffix))
        for target, picture in pictures:
            shutil.copyfile(picture, target)
    readme = ROOT / "README.md"
    write_text(readme, with_verdict(readme.read_text(encoding="utf-8"), said.getvalue()))
    return 0


def with_verdict(readme: str, verdict: str) -> str:
    r"""The README with another verdict under the command that prints it.

    >>> with_verdict(f"$ {COMMAND}\nold\n```\n", "new\n") == f"$ {COMMAND}\nnew\n```\n"
    True
    """
    return re.sub(
        rf"({re.escape(f'$ {COMMAND}')}\n).*?(```)",
        lambda found: f"{found[1]}{verdict}{found[2]}",
        readme,
        count=1,
        flags=re.DOTALL,
    )


def _picture(browser: str, page: Path, anchor: str, size: str, stem: Path) -> Path:
    """A screenshot of one section of the page, in the light theme; a fragment alone would not be scrolled to."""
    target, alone = stem.with_suffix(".png"), stem.with_suffix(".html")
    others = f"<style>main > section:not(#{anchor}) {{ display: none; }}</style></head>"
    alone.write_text(page.read_text(encoding="utf-8").replace("</head>", others, 1), encoding="utf-8")
    command = (
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
        "--disable-background-networking",
        "--blink-settings=preferredColorScheme=1",
        f"--user-data-dir={stem.with_suffix('.profile')}",
        f"--window-size={size}",
        f"--screenshot={target}",
        alone.as_uri(),
    )
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


if __name__ == "__main__":
    sys.exit(main())
