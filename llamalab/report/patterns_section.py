"""The section on the attention of a checkpoint's heads over a sentence."""

from collections import Counter

from llamalab.comparison.comparison import Comparison
from llamalab.records.patterns import HeadShares, HeadWeights, Patterns
from llamalab.report.charts.patterns import patterns
from llamalab.report.data_table import DataColumn, DataTable, number, share
from llamalab.report.layout import Figure, Fold, Section

_WORDS = {
    "previous": "to the token before",
    "first": "to the first token",
    "after_same": "to what followed the same token",
    "itself": "to the token itself",
    "same": "to the same token earlier",
}
SHOWN = 3  # heads shown; the others are folded


def patterns_tables(found: Patterns | None) -> dict[str, DataTable]:
    """The table of the heads by name; none without patterns."""
    if found is None or not found.heads:
        return {}
    columns = (
        number("layer", "layer"),
        number("head", "head"),
        *(share(kind, title) for kind, title in _WORDS.items()),
        DataColumn("distance_tokens", "tokens back, mean", "{:.1f}".format),
    )
    rows = [{column.key: getattr(one, column.key) for column in columns} for one in found.heads]
    return {"heads": DataTable("heads", "Where the attention of each head goes", columns, rows)}


def patterns_sections(comparison: Comparison, made: dict[str, DataTable]) -> list[Section]:
    """The section, where the weights were a checkpoint's own."""
    found = comparison.record.patterns
    if found is None:
        return []
    name, heading = "Patterns", "What its heads look at"
    if found.reason is not None:
        return [Section("patterns", name, heading, f"“{found.text}” was not read: {found.reason}.")]
    first, others = (_figure(found, part) for part in (found.shown[:SHOWN], found.shown[SHOWN:]))
    fold = Fold("every-head", "More heads, and the shares of every one", figures=others, tables=(made["heads"],))
    return [Section("patterns", name, heading, finding(comparison, found), first, folds=(fold,))]


def finding(comparison: Comparison, found: Patterns) -> str:
    """The main kinds of heads, in words."""
    total, ran = comparison.arch.n_layers, found.layers * found.n_heads
    layers = f"all {total} layers" if found.layers == total else f"layers 0 to {found.layers - 1} of {total}"
    heads = f"{ran} heads of {layers}" if len(found.heads) == ran else f"{len(found.heads)} clearest heads of {layers}"
    leaning = Counter(one.most[0] for one in found.heads).most_common()
    (most, count), *others = leaning
    other_words = "".join(f", {_WORDS[kind]} in {number}" for kind, number in others)
    return (
        f"“{found.text}” is {len(found.tokens)} tokens, which the checkpoint read once. Of attention to tokens of "
        f"these kinds most goes {_WORDS[most]} in {count} of the {heads}{other_words}. A row is a token, "
        "stronger where it looks."
    )


def heading_of(shares: HeadShares, kind: str) -> str:
    """A head with its largest share.

    >>> one = HeadShares(layer=1, head=3, first=0.0, previous=0.547, itself=0.43, same=None, after_same=None,
    ...                  distance_tokens=0.6)
    >>> heading_of(one, "previous"), heading_of(one, "distance_tokens")
    ('Layer 1, head 3: 55% to the token before', 'Layer 1, head 3: 0.6 tokens back on average')
    """
    value = getattr(shares, kind)
    share_words = f"{value:.0%} {_WORDS[kind]}" if kind in _WORDS else f"{value:.1f} tokens back on average"
    return f"Layer {shares.layer}, head {shares.head}: {share_words}"


def _figure(found: Patterns, shown: list[HeadWeights]) -> tuple[Figure, ...]:
    if not shown:
        return ()
    shares = {(one.layer, one.head): one for one in found.heads}
    panels = [(one, heading_of(shares[one.layer, one.head], one.kind)) for one in shown]
    anchor = f"heads-{shown[0].kind.replace('_', '-')}"
    return (Figure(patterns(found, panels, anchor), "", None, anchor),)
