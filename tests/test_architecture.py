"""The map in docs/architecture.md against the tree: every package named, imports downwards only, no circle."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAP = (ROOT / "docs" / "architecture.md").read_text()
# From the bottom up; packages of one floor do not import each other.
FLOORS = (
    {"errors", "startup", "version"},
    {"checks", "choices", "extras", "plain_text", "files", "hardware"},
    {"units"},
    {"formatting"},
    {"arch"},
    {"presets", "records"},
    {"analytic"},
    {"streamed"},
    {"attention", "comparison"},
    {"model"},
    {"instrument", "formats"},
    {"classic"},
    {"text"},
    {"checkpoints"},
    {"train"},
    {"parallel"},
    {"measure"},
    {"report"},
    {"cli"},
    {"api"},
)
MOST_LINES = 18  # of a package's docstring
MOST_LINES_OF_A_FILE = 250
MEASURE = (
    "timing",
    "device",
    "roofs",
    "training",
    "target",
    "calibration",
    "ranks",
    "profile",
    "attention",
    "bench",
    "report",
)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "llamalab").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports at any level, types included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llamalab"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("llamalab"))


def arrows() -> list[tuple[str, str]]:
    """All imports between different modules of the package."""
    known = modules()
    return [(name, other) for name, path in known.items() for other in imports(name, path, known) if other != name]


def packages() -> set[str]:
    """Folders with an __init__ inside the package, as paths from the top."""
    return {str(path.parent.relative_to(ROOT)) for path in (ROOT / "llamalab").rglob("__init__.py")}


def floor_of(module: str) -> int | None:
    """The floor of a module's room; None for the package's own front door."""
    parts = module.split(".")
    if len(parts) < 2 or parts[1] == "__main__":
        return None
    return next(number for number, rooms in enumerate(FLOORS) if parts[1] in rooms)


def test_the_map_names_every_package_and_no_other() -> None:
    named = {name.rstrip("/") for name in re.findall(r"`(llamalab/[a-z_/]*)`", MAP)}
    assert named - {"llamalab"} == packages() - {"llamalab"}


def test_every_module_at_the_root_is_on_the_map() -> None:
    loose = {path.stem for path in (ROOT / "llamalab").glob("*.py")} - {"__init__", "__main__"}
    assert {name for name in loose if f"`{name}.py`" not in MAP} == set()


def test_no_file_is_long() -> None:
    long = {
        name: lines
        for name, path in modules().items()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES_OF_A_FILE
    }
    assert long == {}, "split it by meaning: a part with a name of its own goes to a file of that name"


# Rows that may be positional: a table of constants, and the sizes of a model in their usual order.
POSITIONAL = {"ClassFit", "LlamaArch"}


def test_rows_of_more_than_five_fields_are_made_by_keyword() -> None:
    trees = {name: ast.parse(path.read_text()) for name, path in modules().items()}
    nodes = [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]
    rows = {one.name for _, one in nodes if isinstance(one, ast.ClassDef)} - POSITIONAL
    calls = [(name, one) for name, one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    assert [
        f"{name}:{call.lineno}"
        for name, call in calls
        if call.func.id in rows and sum(not isinstance(one, ast.Starred) for one in call.args) > 5
    ] == []


def test_a_name_is_imported_from_its_home() -> None:
    """`from a import b as b` gives b a second home; only the package's front door and typing's stand-ins do."""
    doors = {"llamalab", "llamalab.startup.hints"}
    again = [
        f"{name}: {alias.name}"
        for name, path in modules().items()
        if name not in doors
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]
    assert again == []


def test_a_package_that_is_a_door_is_the_one_way_to_its_names() -> None:
    """A name in the `__all__` of a package's __init__ that a module below defines is not imported from that module."""
    doors = {}
    for package in packages() - {"llamalab"}:
        tree = ast.parse((ROOT / package / "__init__.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                doors[package.replace("/", ".")] = set(ast.literal_eval(node.value))
    again = [
        f"{name}: {node.module}.{alias.name}"
        for name, path in modules().items()
        if name != "llamalab"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for door, names in doors.items()
        if (node.module or "").startswith(f"{door}.") and not f"{name}.".startswith(f"{door}.")
        for alias in node.names
        if alias.name in names
    ]
    assert again == []
    modules_with_all = [
        name
        for name, path in modules().items()
        if path.name != "__init__.py" and re.search(r"^__all__ = ", path.read_text(), re.MULTILINE)
    ]
    assert modules_with_all == [], "a module's names are its own; only a package is a door to those of others"


@pytest.mark.parametrize("package", sorted(packages() - {"llamalab"}))
def test_a_package_says_what_belongs_inside(package: str) -> None:
    doc = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    words = " ".join(doc.split())
    assert "Belongs here: " in words, f"{package}/__init__.py must say what belongs inside"
    assert "oes not belong here: " in words, f"{package}/__init__.py must say what may not"
    assert 3 <= len(doc.splitlines()) <= MOST_LINES


def test_imports_run_downwards() -> None:
    upward = []
    for name, other in arrows():
        here, there = floor_of(name), floor_of(other)
        if here is not None and there is not None and name.split(".")[1] != other.split(".")[1] and there >= here:
            upward.append(f"{name} -> {other}")
    assert upward == []


def test_rooms_of_measuring_import_only_earlier_ones() -> None:
    upward = []
    for name, other in arrows():
        here, there = (one.removeprefix("llamalab.measure.").split(".")[0] for one in (name, other))
        both = name.startswith("llamalab.measure.") and other.startswith("llamalab.measure.")
        if both and MEASURE.index(there) > MEASURE.index(here):
            upward.append(f"{name} -> {other}")
    assert upward == []


def test_there_is_no_circle_of_modules() -> None:
    below: dict[str, set[str]] = {}
    for name, other in arrows():
        below.setdefault(name, set()).add(other)
    below = {name: {one for one in others if one != "llamalab"} for name, others in below.items()}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in sorted(below.get(name, ())):
                walk(other, (*trail, name))
            done.add(name)

    for name in list(below):
        walk(name, ())
