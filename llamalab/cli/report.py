"""`llamalab report`: measure this machine and write predicted against measured as HTML, JSON and CSV."""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from llamalab.analytic.params import weight_bytes
from llamalab.analytic.stacks import stack_names
from llamalab.cli.arguments import add_choice, one_of
from llamalab.cli.output import note
from llamalab.errors import InputError, MissingError
from llamalab.files import check_target, write_text
from llamalab.presets import resolve_model
from llamalab.units import format_bytes

if TYPE_CHECKING:
    from llamalab.records.record import Record

SUMMARY = "measure this machine and write predicted against measured as HTML"
EXAMPLES = (
    "llamalab report --model 7b",
    "llamalab report --model tiny --device cpu --out tiny.html",
    "llamalab report --from profile.json --out profile.html",
)
FOLDER = "reports"
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("bf16", "fp16", "fp32")
OUR_RECORD = '"environment": {\n  "llamalab":'  # how a record of ours is told from another JSON file


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab report`."""
    parser.add_argument(
        "--model", default="7b", help="a preset (see llamalab models) or a params.json or config.json (default: 7b)"
    )
    add_choice(parser, "--device", DEVICES, "auto", "where to measure; auto is cuda where there is one")
    parser.add_argument(
        "--dtype", type=one_of("--dtype", DTYPES), default="bf16", metavar="|".join(DTYPES),
        help="of weights, activations and cache (default: bf16)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="PATH", help="the HTML file (default: reports/<model>-<device>.html)")
    parser.add_argument(
        "--stack", type=one_of("--stack", stack_names()), metavar="NAME",
        help="the software that predictions for other devices are of (default: what is usual on each)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="run every block instead of a few; the model must fit")
    parser.add_argument(
        "--from", dest="record", metavar="FILE.json",
        help="render a record, or what llamalab profile --format json wrote, instead of measuring",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure or read, render, write; print the verdict, and beside it what to know and where the page is."""
    if args.record is None:
        return _show(args, _measure(args))
    text = _text(Path(args.record))
    from llamalab.records.profile import are_profiles

    return _show_profiles(args, text) if are_profiles(text) else _show(args, _read(args, text))


def _show(args: argparse.Namespace, record: "Record") -> int:
    from llamalab.comparison.comparison import Comparison
    from llamalab.comparison.sentences import verdict

    page = Path(args.out or _default(record.model, record.environment.device))
    size = write_report(record, page, args.stack)
    print(verdict(Comparison(record)).text, flush=True)
    for remark in (*record.notes, *_uncalibrated(record), f"the page is {page} ({format_bytes(size)})"):
        note(remark)
    return 0


def _show_profiles(args: argparse.Namespace, text: str) -> int:
    """The page and the CSVs of profiles; their JSON is what they were read from, and stays as it is."""
    from llamalab.records.profile import from_json
    from llamalab.report import profile_csv_files, render_profiles
    from llamalab.report.profile_captions import largest_parts

    profiles = from_json(text, source=args.record)
    page = Path(args.out or _default(f"{profiles[0].model}-profile", profiles[0].environment.device))
    texts = {page.with_suffix(f".{name}.csv"): csv for name, csv in profile_csv_files(profiles).items()}
    _check_page(page, tuple(texts))
    html = render_profiles(profiles)
    _write(texts, page, html)
    for profile in profiles:
        for phase in profile.phases:
            print(f"{profile.model}, {profile.kind}, {phase.phase}: {largest_parts(phase)}", flush=True)
        for remark in profile.notes:
            note(remark)
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _uncalibrated(record: "Record") -> tuple[str, ...]:
    if record.constants is not None:
        return ()
    return ("predictions rest on roofs alone, which leave out the time of a call; llamalab calibrate adds it",)


def write_report(record: "Record", page: Path, stack: str | None = None) -> int:
    """Write the page, and the record and the CSVs beside it; nothing where one of them is not ours.

    Returns the bytes of the page.
    """
    from llamalab.records.record import to_json
    from llamalab.report import csv_files, render
    from llamalab.report.experiment_results import recorded_answers
    from llamalab.report.recorded_runs import committed
    from llamalab.report.trend import stored_runs

    elsewhere = [one for one in committed(device="cuda") if one != record]
    html = render(record, elsewhere, recorded_answers(), stored_runs(), stack)
    texts = {page.with_suffix(f".{name}.csv"): text for name, text in csv_files(record, stack).items()}
    _write(texts | {page.with_suffix(".json"): to_json(record)}, page, html)
    return len(html.encode())


def _write(texts: dict[Path, str], page: Path, html: str) -> None:
    """All files or none: the page comes last, so that where it stands what belongs to it stands too."""
    marks = _targets(page)
    for path in (*texts, page):
        check_target(path, ours=marks[path])
    for path, text in (*texts.items(), (page, html)):
        write_text(path, text, ours=marks[path])


def _measure(args: argparse.Namespace) -> "Record":
    _, arch = resolve_model(args.model)
    name = model_name(args.model)
    device = _resolved(args.device)
    _check_page(Path(args.out or _default(name, device)))
    from llamalab.measure.calibration import constants_here
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.report.run import measure_report

    place = resolve_device(device)
    constants = constants_here.kept_constants(place, args.dtype)
    share = 1.0 if constants else 0.75

    with Progress() as progress:
        record = measure_report(
            name, arch, device=device, dtype=args.dtype, full=args.full,
            progress=lambda label, done: progress(label, share * done),
        )  # fmt: skip
        if constants is None:
            constants = constants_here.short_calibration(
                place, args.dtype, weight_bytes=weight_bytes(arch, args.dtype),
                progress=lambda label, done: progress(f"calibration, {label}", share + (1 - share) * done),
            )  # fmt: skip
    return replace(record, constants=constants)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingError(f"--from must name a record; there is no file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--from must name a readable record; {error}") from None


def _read(args: argparse.Namespace, text: str) -> "Record":
    from llamalab.records.record import from_json

    record = from_json(text, source=args.record)
    _check_page(Path(args.out or _default(record.model, record.environment.device)))
    return record


def _check_page(page: Path, beside: tuple[Path, ...] | None = None) -> None:
    """Refuse before any work what could not be written after it: the page and what goes beside it, or all of that."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out must end in .html; got {str(page)!r}; the record and the CSVs are named after it")
    for path, mark in _targets(page).items():
        if beside is None or path in (page, *beside):
            check_target(path, ours=mark)


def _targets(page: Path) -> dict[Path, str]:
    """Every file of a report, and what tells that one which stands there already is ours."""
    from llamalab.report import CSV_HEADS, OURS

    tables = {page.with_suffix(f".{name}.csv"): head for name, head in CSV_HEADS.items()}
    return tables | {page.with_suffix(".json"): OUR_RECORD, page: OURS}


def _default(model: str, device: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.") or "model"
    return Path(FOLDER) / f"{stem}-{device}.html"


def model_name(model: str) -> str:
    """A preset's name; of a path only what says which model it is, as records hold no paths.

    >>> model_name("7b"), model_name("/home/me/Llama-2-7b/config.json")
    ('7b', 'Llama-2-7b')
    """
    path = Path(model)
    if path.suffix != ".json":
        return model
    return path.resolve().parent.name if path.stem in ("config", "params") else path.stem


def _resolved(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Progress:
    """A bar on stderr that follows `progress(label, share done)`; a line per step where it is no terminal."""

    def __enter__(self) -> "Progress":
        from tqdm import tqdm

        self._bar = tqdm(total=1.0, bar_format="{desc:<28.28} {bar} {percentage:3.0f}% {elapsed}", file=sys.stderr,
                         leave=False, disable=not sys.stderr.isatty())  # fmt: skip
        return self

    def __call__(self, label: str, done: float) -> None:
        if self._bar.disable:
            print(f"{done:4.0%} {label}", file=sys.stderr, flush=True)
        self._bar.set_description_str(label, refresh=False)
        self._bar.update(max(0.0, done - self._bar.n))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
