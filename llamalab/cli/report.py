"""`llamalab report`: measure this machine and write predicted against measured as HTML, JSON and CSV."""

import argparse
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from llamalab.analytic.params import weight_bytes
from llamalab.cli.arguments import add_choice, one_of
from llamalab.cli.output import note
from llamalab.cli.report_files import check_page, default_page, keep_record, write_files, write_report
from llamalab.errors import LlamaLabError, UnavailableError
from llamalab.measure.timing.deadline import Deadline, now_s
from llamalab.plain_text import printable
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
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("bf16", "fp16", "fp32")
SMALL_BYTES = 2**30  # of weights
SECONDS = {"small": 14.0, "large": 100.0}  # of measuring and calibrating; loading torch and rendering come on top
MEASURED_SHARE = 0.8  # of the time, where a calibration follows
_TICK_S = 1.6  # between two signs of life


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
    parser.add_argument("--full", action="store_true", help="run every block instead of a few; the model must fit")
    parser.add_argument(
        "--from", dest="record", metavar="FILE",
        help="render a record, the JSON of llamalab profile or bench, or a page's own, instead of measuring",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure or read, render, write; print the verdict, and beside it what to know and where the page is."""
    if args.record is None:
        return _measure(args)
    from llamalab.records.profile import are_profiles
    from llamalab.records.record import shown_text

    text = shown_text(args.record, "record of --from")
    from llamalab.report.bench_page import are_bench_rows

    if are_bench_rows(text):
        return _show_bench(args, text)
    return _show_profiles(args, text) if are_profiles(text) else _show(_read(args, text), args.out)


def _show(record: "Record", out: str | None) -> int:
    from llamalab.comparison.comparison import Comparison
    from llamalab.comparison.sentences import verdict

    page = Path(out or default_page(record.model, record.environment.device))
    size, remarks = write_report(record, page)
    print(printable(verdict(Comparison(record)).text), flush=True)
    for remark in (*record.notes, *_uncalibrated(record), *remarks, f"the page is {page} ({format_bytes(size)})"):
        note(remark)
    return 0


def _show_kept(record: "Record", out: str | None, kept: Path | None) -> int:
    """As _show; whatever goes wrong, the record is there, and it is said how to go on from it."""
    try:
        return _show(record, out)
    except Exception as error:
        again = f"the record is kept: render again with llamalab report --from {kept}" if kept else "see the record"
        told = str(error) if isinstance(error, LlamaLabError | OSError) else f"{type(error).__name__}: {error}"
        raise UnavailableError(f"the page must be drawn from what was measured; {told}; {again}") from error


def _show_profiles(args: argparse.Namespace, text: str) -> int:
    """The page and the CSVs of profiles; their JSON is what they were read from, and stays as it is."""
    from llamalab.records.profile import from_json
    from llamalab.report import profile_csv_files, render_profiles
    from llamalab.report.profile_captions import largest_parts

    profiles = from_json(text, source=args.record)
    page = Path(args.out or default_page(f"{profiles[0].model}-profile", profiles[0].environment.device))
    texts = {page.with_suffix(f".{name}.csv"): csv for name, csv in profile_csv_files(profiles).items()}
    check_page(page, tuple(texts))
    html = render_profiles(profiles)
    write_files(texts, page, html)
    for profile in profiles:
        for phase in profile.phases:
            told = f"{profile.model}, {profile.kind}, {phase.phase}: {largest_parts(phase)}"
            print(printable(told), flush=True)
        for remark in profile.notes:
            note(remark)
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _show_bench(args: argparse.Namespace, text: str) -> int:
    """The page of a bench; its JSON stays as it is."""
    from llamalab.report import render_bench
    from llamalab.report.bench_page import bench_rows, bench_table

    rows = bench_rows(text, source=args.record)
    page = Path(args.out or default_page(f"{rows[0]['model']}-bench", rows[0].get("backend") or "cpu"))
    check_page(page, ())
    html = render_bench(rows)
    write_files({}, page, html)
    for row in bench_table(rows).shown:
        print(printable("  ".join(row[:5])), flush=True)
    note(f"the page is {page} ({format_bytes(len(html.encode()))})")
    return 0


def _uncalibrated(record: "Record") -> tuple[str, ...]:
    if record.constants is not None:
        return ()
    return ("predictions rest on roofs alone, which leave out the time of a call; llamalab calibrate adds it",)


def _measure(args: argparse.Namespace) -> int:
    """Measure and write the record; only then calibrate, draw and judge, none of which can cost the measurement."""
    _, arch = resolve_model(args.model)
    name = model_name(args.model)
    device = _resolved(args.device)
    page = Path(args.out or default_page(name, device))
    check_page(page)
    from llamalab.measure.calibration import constants_here
    from llamalab.measure.device.machine import resolve_device
    from llamalab.measure.report.run import measure_report

    deadline = Deadline(SECONDS["small" if weight_bytes(arch, args.dtype) < SMALL_BYTES else "large"])
    place = resolve_device(device)
    constants = constants_here.kept_constants(place, args.dtype)
    share = 1.0 if constants else MEASURED_SHARE

    with Progress(deadline) as progress:
        measured = measure_report(
            name, arch, device=device, dtype=args.dtype, full=args.full, deadline=deadline.part(share),
            progress=lambda label, done: progress(label, share * done),
        )  # fmt: skip
        record = replace(measured, constants=constants)
        kept = keep_record(record, page)
        if constants is None:
            try:
                constants = constants_here.short_calibration(
                    place, args.dtype, weight_bytes=weight_bytes(arch, args.dtype), deadline=deadline,
                    progress=lambda label, done: progress(f"calibration, {label}", share + (1 - share) * done),
                )  # fmt: skip
            except Exception as error:
                note(f"the calibration failed ({type(error).__name__}: {error})")
            except BaseException:
                note(f"the record is kept as {kept}")
                raise
            if constants is not None:
                record = replace(measured, constants=constants)
                kept = keep_record(record, page)
    return _show_kept(record, args.out, kept)


def _read(args: argparse.Namespace, text: str) -> "Record":
    from llamalab.records.record import from_json

    record = from_json(text, source=args.record)
    check_page(Path(args.out or default_page(record.model, record.environment.device)))
    return record


def model_name(model: str) -> str:
    """A preset's name; of a path only what says which model it is, as records hold no paths.

    >>> model_name("7b"), model_name("/home/me/Llama-2-7b/config.json")
    ('7b', 'Llama-2-7b')
    """
    path = Path(model)
    if path.suffix.lower() != ".json":
        return model
    return path.resolve().parent.name if path.stem.lower() in ("config", "params") else path.stem


def _resolved(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class Progress:
    """A bar on stderr that follows `progress(label, share done)`; a line per step where it is no terminal.

    It ticks while a step is long, and tells how many seconds are left at most where there is a deadline.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self._deadline, self._label, self._done = deadline, "", 0.0
        self._over, self._told_s = threading.Event(), now_s()

    def __enter__(self) -> "Progress":
        from tqdm import tqdm

        self._bar = tqdm(total=1.0, bar_format="{desc:<44.44} {bar} {percentage:3.0f}% {elapsed}", file=sys.stderr,
                         leave=False, disable=not sys.stderr.isatty())  # fmt: skip
        self._ticks = threading.Thread(target=self._tick, daemon=True)
        self._ticks.start()
        return self

    def __call__(self, label: str, done: float) -> None:
        self._label, self._done = label, done
        self._tell()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._ticks.join()
        self._bar.close()

    def _tell(self) -> None:
        self._told_s, left = now_s(), self._left()
        if self._bar.disable:
            print(f"{self._done:4.0%} {self._label}{left}", file=sys.stderr, flush=True)
            return
        self._bar.set_description_str(f"{self._label[: 44 - len(left)]}{left}", refresh=False)
        self._bar.update(max(0.0, self._done - self._bar.n))
        self._bar.refresh()

    def _left(self) -> str:
        """How long it may still take, after the label."""
        return "" if self._deadline is None else f", at most {self._deadline.left_s:.0f} s left"

    def _tick(self) -> None:
        """Tell again what is going on where a step takes long."""
        while not self._over.wait(_TICK_S / 4):
            if self._label and now_s() - self._told_s > _TICK_S:
                self._tell()
