"""A matplotlib figure as a small, themed, accessible inline SVG.

Sentinel colours become CSS variables; ids get a prefix per figure or are removed, as are matplotlib's global style,
metadata and fonts; numbers are rounded to one or two decimals; named artists get a native tooltip. The result depends
on the figure alone: two renderings are equal byte for byte.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from matplotlib.figure import Figure

from llamalab.report.theme import sentinels

# matplotlib's settings while a figure is drawn and saved
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llamalab",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the layout is the same everywhere
    "font.size": 9.0,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.6,
    "path.simplify": False,
}

_NUMBER = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
_STEP = re.compile(r"([A-Za-z])([^A-Za-z]*)")  # of a path: a command and its numbers
_TAG = re.compile(r"<[a-z][^<>]*>", re.IGNORECASE)
_STYLED = re.compile(r' style="([^"]*)"')
_CLIPPED = re.compile(r' clip-path="(url\([^)"]*\))"')
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline(figure: Figure, *, prefix: str, title: str, description: str, tips: dict[str, str]) -> str:
    """The figure as one `<svg role="img">`; `tips` maps an artist's gid to its tooltip.

    Ids in the result begin with `prefix`.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _clean(root)
    used = {identity: f"{prefix}-{place}" for place, identity in enumerate(_referenced(root))}
    for element in list(root.iter()):
        _rewrite(element, used, tips)
    _drop_unpainted(root)
    _share_marks(root)
    _flatten(root)
    _head(root, prefix, title, description)
    return _themed(ElementTree.tostring(root, encoding="unicode"))


def share_styles(svgs: Sequence[str]) -> tuple[str, list[str]]:
    """CSS rules for the styles and clips of plots on one page, and the plots with classes in their place.

    >>> share_styles(['<path style="fill:none" d="" /><text>style="x"</text>'])
    ('.p0{fill:none}', ['<path class="p0" d="" /><text>style="x"</text>'])
    """
    names: dict[str, str] = {}

    def named(tag: re.Match[str]) -> str:
        style, clip = _STYLED.search(tag[0]), _CLIPPED.search(tag[0])
        if style is None:
            return tag[0]
        rules = [style[1], *([f"clip-path:{clip[1]}"] if clip else [])]
        classes = " ".join(names.setdefault(rule, f"p{len(names)}") for rule in rules)
        return _CLIPPED.sub("", _STYLED.sub(f' class="{classes}"', tag[0]))

    # Text has no raw `<`, so that a name that resembles a style is not changed.
    shared = [_TAG.sub(named, one) for one in svgs]
    return "\n".join(f".{name}{{{rule}}}" for rule, name in names.items()), shared


def _clean(root: Element) -> None:
    """Remove namespaces, metadata, styles and invisible elements."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            if key.startswith("{"):
                element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    for parent in root.iter():
        for child in list(parent):
            if child.tag in ("metadata", "style") or child.get("style", "")[-10:] == "opacity: 0":
                parent.remove(child)
            child.tail = None
        if parent.tag != "text":
            parent.text = None


def _referenced(root: Element) -> list[str]:
    """Ids that are referenced, in the order of the first reference."""
    found: dict[str, None] = {}
    for element in root.iter():
        found.update((value[1:], None) for key, value in element.attrib.items() if key == "href")
        for value in element.attrib.values():
            found.update((identity, None) for identity in _REFERENCE.findall(value))
    return list(found)


def _rewrite(element: Element, used: Mapping[str, str], tips: dict[str, str]) -> None:
    identity = element.attrib.pop("id", None)
    if identity in tips:
        tip = Element("title")
        tip.text = tips[identity]
        element.insert(0, tip)
    elif identity is not None and identity in used:
        element.set("id", used[identity])
    for key, value in list(element.attrib.items()):
        if key == "href":
            value = f"#{used[value[1:]]}"
        value = _REFERENCE.sub(lambda match: f"url(#{used[match[1]]})", value)
        value = " ".join(_NUMBER.sub(_rounded, value).split())
        element.set(key, compact_path(value) if key == "d" else value)
    if "style" in element.attrib:
        element.set("style", _style(element.attrib["style"]))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def compact_path(path: str) -> str:
    """A path without spaces around its commands, and with H and V for lines along the axes.

    >>> compact_path("M 1 2 L 5 2 L 5 8 L 1 8 z")
    'M1 2H5V8H1z'
    """
    shorter, x, y = "", "", ""
    for command, rest in _STEP.findall(path):
        numbers = rest.split()
        if command == "L" and len(numbers) == 2 and (numbers[0] == x or numbers[1] == y):
            shorter += f"V{numbers[1]}" if numbers[0] == x else f"H{numbers[0]}"
        else:
            shorter += command + " ".join(numbers)
        x, y = numbers[-2:] if command in "MLCQ" and len(numbers) >= 2 else (x, y)
    return shorter


def _rounded(match: re.Match[str]) -> str:
    value = float(match[0])
    # A unit is about 1.4 pixels; small numbers are radii, widths and opacities.
    return f"{value:.{1 if abs(value) >= 8 else 2}f}".rstrip("0").rstrip(".") or "0"


def _style(style: str) -> str:
    """Compact; of a font only size and weight remain, since the page sets the family."""
    kept = []
    for declaration in filter(None, (one.strip() for one in style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            kept += [f"font-size:{size[1]}px"] if size else []
            kept += ["font-weight:600"] if re.match(r"(bold|600|700)\b", value) else []
        elif key not in ("stroke-linejoin", "stroke-linecap", "font-family"):
            kept.append(f"{key}:{value}")
    return ";".join(kept)


def _drop_unpainted(parent: Element) -> None:
    """Remove backgrounds of transparent figures and axes, which paint nothing."""
    for child in list(parent):
        _drop_unpainted(child)
        style = child.get("style", "")
        if child.tag == "path" and "fill:none" in style and "stroke" not in style:
            parent.remove(child)


def _share_marks(root: Element) -> None:
    """Keep one definition of each mark, since matplotlib writes one for every use."""
    first: dict[tuple[str | None, ...], str] = {}
    same: dict[str, str] = {}
    for parent in root.iter("defs"):
        for child in list(parent):
            identity = child.get("id")
            if child.tag == "path" and identity:
                kept = first.setdefault((child.get("d"), child.get("style")), identity)
                if kept != identity:
                    same[f"#{identity}"] = f"#{kept}"
                    parent.remove(child)
    for use in root.iter("use"):
        use.set("href", same.get(use.get("href", ""), use.get("href", "")))


def _flatten(parent: Element) -> None:
    """Replace groups without attributes by their children, and drop empty groups."""
    for child in list(parent):
        _flatten(child)
        if (child.tag == "g" and (not child.attrib or not len(child))) or (child.tag == "defs" and not len(child)):
            if len(child) and child[0].tag == "title":
                continue
            index = list(parent).index(child)
            parent.remove(child)
            for offset, grandchild in enumerate(list(child)):
                parent.insert(index + offset, grandchild)


def _head(root: Element, prefix: str, title: str, description: str) -> None:
    for key in ("width", "height", "version", "id"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = Element(tag, id=f"{prefix}-{tag}")
        element.text = text
        root.insert(position, element)


def _themed(text: str) -> str:
    for name, sentinel in sentinels().items():
        text = text.replace(sentinel, f"var(--{name})")
    return text
