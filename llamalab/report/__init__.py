"""How is a record shown? As one self-contained HTML page with inline SVG, and as CSV files.

The page loads nothing and runs nothing: no network, no script. The record itself is embedded, so
that a page can be rendered again from what it shows.
"""

import dataclasses
import json

from llamalab.compare import Comparison
from llamalab.records import Record
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
}


def render(record: Record) -> str:
    """The report as HTML. The same record gives the same bytes."""
    return page(Comparison(record), embedded(record), f"{GENERATOR} {record.environment.llamalab}")


def csv_files(record: Record) -> dict[str, str]:
    """The report's tables as CSV text, by the names of CSV_HEADS."""
    return {name: table.csv for name, table in tables(Comparison(record)).items()}


def embedded(record: Record) -> str:
    """The record as compact JSON that cannot end or open an element of the page around it.

    Autoescaping would corrupt JSON in a script element, and leaving `<` alone would let a name close it.
    """
    text = json.dumps(dataclasses.asdict(record), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
