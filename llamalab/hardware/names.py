"""Names of devices as people and drivers write them: `RTX 4090`, `A100-SXM4-80GB`, `M3 Max`, `EPYC 9654`."""

import re

from llamalab.startup.hints import NamedTuple

# Parts of names other than the chip: vendors, lines of products, kinds of memory.
_FILLING = {
    *("nvidia", "amd", "intel", "geforce", "instinct", "radeon", "tesla", "quadro", "platinum", "gold", "agx"),
    *("generation", "blackwell", "workstation", "server", "edition", "tensor", "gpu", "hbm3", "hbm3e", "hbm2", "hbm2e"),
}
_LINES = ("", "rtx", "rx", "apple", "jetson", "ryzen", "epyc", "xeon", "core")  # omitted by people before a number


class SpelledName(NamedTuple):
    """A parsed name: the chip without spaces, and cores, memory and form, None where it has none."""

    chip: str
    cores: int | None
    memory_gb: int | None
    form: str | None

    def may_mean(self, row: "SpelledName") -> bool:
        """Whether a row may be meant: the same chip, and no contradiction."""
        pairs = zip(self[1:], row[1:], strict=True)
        same = all(own is None or own == other for own, other in pairs)
        return same and (row.form != "cpu" or self.form == "cpu") and row.chip in {line + self.chip for line in _LINES}


def spelled_name(name: str) -> SpelledName:
    """The parts of a name in any spelling.

    >>> spelled_name("NVIDIA A100-SXM4-80GB")
    SpelledName(chip='a100', cores=None, memory_gb=80, form='sxm')
    >>> spelled_name("rtx4090-24gb").chip == spelled_name("GeForce RTX 4090 24 GB").chip
    True
    """
    text = re.sub(r"\b(ryzen )?threadripper( pro)?\b", "threadripper", name.strip().lower())
    text = re.sub(r"\bryzen \d\b", "ryzen", text)
    cores, text = _taken(r"\b(\d+)[ -]?cores?\b", text)
    memory, text = _taken(r"\b(\d+) ?gi?b\b", text)
    form = re.search(r"\b(sxm|pcie|nvl|cpu)\d?\b", text)
    words = re.findall(r"[a-z0-9.]+", text.replace(form[0], " ") if form else text)
    chip = "".join(word for word in words if word not in _FILLING)
    return SpelledName(chip, cores, memory, form[1] if form else None)


def _taken(pattern: str, text: str) -> tuple[int | None, str]:
    """The number that a pattern finds, and the text without it."""
    found = re.search(pattern, text)
    return (int(found[1]), text.replace(found[0], " ", 1)) if found else (None, text)
