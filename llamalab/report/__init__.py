"""Rendering of records: one self-contained HTML page with inline SVG, and CSV files.

The page loads nothing: its policy allows only its own script, and its text is complete without scripts. The record
itself is embedded, so that a page can be rendered again from its own data.

Belongs here: `page` (a report's sections in their order), one file a further page or section (`profile_page`,
`bench_page`, `compare_page`, `ranks_section`), `tables` and `captions` (figures and sentences of a report), `layout`
(what a page is made of), `charts` (plots), `templates` (HTML, CSS and the script).
Does not belong here: measuring, figures that the comparison should compute, anything loaded from outside the page.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from llamalab.comparison.comparison import Comparison
from llamalab.records.profile import KEY, Profile
from llamalab.records.record import Record
from llamalab.report.bench_page import bench_page
from llamalab.report.compare_page import compare_page
from llamalab.report.experiment_results import ExperimentResult
from llamalab.report.gallery import NamedRecord, gallery_page
from llamalab.report.layout import plain_json
from llamalab.report.page import page, report_tables
from llamalab.report.profile_page import profile_page
from llamalab.report.profile_parts import profile_of
from llamalab.report.profile_tables import csv_tables
from llamalab.report.training_page import training_page
from llamalab.report.trend import StoredRun
from llamalab.version import __version__

GENERATOR = "llamalab"
OURS = f'<meta name="generator" content="{GENERATOR} '  # mark of a page of ours
CSV_HEADS = {  # and of a table of ours: a part of its first line
    "passes": "phase,batch,new_tokens",
    "ops": "name,phase,kind,count,flops_causal",
    "memory": "what,predicted_bytes,measured_bytes",
    "kv": "attention,n_kv_heads,context,batch",
    "attention": "backend,algorithm,batch,new_tokens",
    "roofs": "kind,dtype,per_second,seconds",
    "llama2": "term,before,after,parameters",
    "devices": "device,devices,prefill_s",
    "next": "what,saved_s,share",
    "layers": "calls,time_s,shortest_s,longest_s",
    "timeline": "kv_bytes,activation_bytes,logits_bytes",
    "kernels": "kernels,calls,time_s,device_s",
    "telemetry": "moment,clock_hz,memory_clock_hz",
    "observers": "ratio,about",
    "published": "device,phase,op,shape,time_s",
    "ranks": "phase,ranks,batch,new_tokens,blocks",
    "by_rank": "phase,rank,compute_s,communication_s",
    "scaling": "phase,ranks,predicted_s,measured_s",
    "heads": "layer,head,previous,first",
}


def render(
    record: Record,
    recorded: Sequence[Record] = (),
    results: Sequence[ExperimentResult] = (),
    stored: Sequence[StoredRun] = (),
    stack: str | None = None,
    hardware: str | None = None,
) -> str:
    """The report as HTML. The same arguments give the same bytes.

    Args:
        record: the measurements.
        recorded: runs on other devices, shown beside it.
        results: of experiments.
        stored: stored benchmark runs.
        stack: the software of predictions for other devices (default: the usual one of each).
        hardware: the device of which published kernels are shown (default: every device that has some).
    """
    generator = f"{GENERATOR} {record.environment.llamalab}"
    return page(Comparison(record, stack, hardware), embedded(record), generator, recorded, results, stored)


def render_profiles(profiles: Sequence[Profile]) -> str:
    """The page of one or more profiles, which are embedded in it; the same profiles give the same bytes."""
    return profile_page(profiles, embedded(*profiles), f"{GENERATOR} {profiles[0].environment.llamalab}")


def render_gallery(records: Sequence[NamedRecord]) -> str:
    """The page of the errors of all records' predictions."""
    return gallery_page(records, f"{GENERATOR} {__version__}")


def render_bench(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of a bench from the rows of its JSON."""
    return bench_page(rows, f"{GENERATOR} {__version__}")


def render_comparison(data: dict[str, Any]) -> str:
    """The page of what `llamalab compare --format json` prints."""
    return compare_page(data, f"{GENERATOR} {__version__}")


def render_training(run: Mapping[str, Any]) -> str:
    """The page of a training run from its JSON."""
    return training_page(run, f"{GENERATOR} {__version__}")


def csv_files(record: Record, stack: str | None = None, hardware: str | None = None) -> dict[str, str]:
    """The report's tables as CSV text, by names of CSV_HEADS; those of its profile where it has one."""
    comparison = Comparison(record, stack, hardware)
    own = profile_of(comparison)
    made = {name: table.csv for name, table in report_tables(comparison).items()}
    return made | (profile_csv_files([own]) if own else {})


def profile_csv_files(profiles: Sequence[Profile]) -> dict[str, str]:
    """The tables of profiles as CSV text, by names of CSV_HEADS."""
    return {name: table.csv for name, table in csv_tables(profiles).items()}


def embedded(*shown: Record | Profile) -> str:
    """A record, or profiles, as compact JSON that cannot end or open an element of the page around it."""
    plain = [dataclasses.asdict(one) for one in shown]
    return plain_json(plain[0] if isinstance(shown[0], Record) else {KEY: plain})
