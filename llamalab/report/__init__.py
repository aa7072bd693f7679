"""How is a record shown? As one self-contained HTML page with inline SVG, and as CSV files.

The page loads nothing and runs nothing: no network, no script. The record itself is embedded, so
that a page can be rendered again from what it shows.
"""

import dataclasses
import json
from collections.abc import Sequence

from llamalab.compare import Comparison
from llamalab.records import Record
from llamalab.report import outlook
from llamalab.report.answers import Answer
from llamalab.report.page import page
from llamalab.report.tables import tables

GENERATOR = "llamalab"
OURS = f'<meta name="generator" content="{GENERATOR} '  # how a page of ours is told from another's
CSV_HEADS = {  # and a table of ours: how its first line begins
    "passes": "phase,batch,new_tokens",
    "ops": "name,phase,kind,count,flops_causal",
    "memory": "what,predicted_bytes,measured_bytes",
    "kv": "attention,n_kv_heads,seq,batch",
    "attention": "backend,algorithm,batch,new_tokens",
    "roofs": "kind,dtype,per_second,seconds",
    "devices": "device,devices,prefill_s",
    "next": "what,saved_s,share",
}


def render(record: Record, recorded: Sequence[Record] = (), answers: Sequence[Answer] = ()) -> str:
    """The report as HTML, with runs recorded on other devices and answers of experiments beside it.

    The same records and answers give the same bytes.
    """
    return page(Comparison(record), embedded(record), f"{GENERATOR} {record.environment.llamalab}", recorded, answers)


def csv_files(record: Record) -> dict[str, str]:
    """The report's tables as CSV text, by the names of CSV_HEADS."""
    comparison = Comparison(record)
    rows, found = outlook.told(comparison)
    prospects = (outlook.devices(rows), outlook.next_steps(found, comparison.basis.words))
    return {table.name: table.csv for table in (*tables(comparison).values(), *prospects)}


def embedded(record: Record) -> str:
    """The record as compact JSON that cannot end or open an element of the page around it.

    Autoescaping would corrupt JSON in a script element, and leaving `<` alone would let a name close it.
    """
    text = json.dumps(dataclasses.asdict(record), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
