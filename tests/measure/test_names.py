"""One word, one meaning: a public name is defined in one module, unless it is a part of a protocol."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import llamalab

PACKAGE = Path(llamalab.__file__).parent
# Names that several modules define because something calls every one of them by that name.
PROTOCOLS = {
    "a verb of the command line": {"SUMMARY", "EXAMPLES", "ON_RANKS", "configure", "run", "answer"},
    "a format of checkpoints, or of another tool's runs": {"KIND", "TOOL", "recognises", "survey", "read"},
    "an attention backend": {"attend", "check"},
}
TYPES = {"T", "TYPE_CHECKING"}


def defined(path: Path) -> Iterator[str]:
    """Names of classes, functions and constants at the top of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def homes() -> dict[str, set[str]]:
    """The modules that define each public name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined(path):
            if not name.startswith("_"):
                found[name].add(str(path.relative_to(PACKAGE)))
    return found


def test_no_public_name_has_two_meanings() -> None:
    allowed = set().union(*PROTOCOLS.values(), TYPES)
    assert {name: places for name, places in homes().items() if len(places) > 1 and name not in allowed} == {}


def test_a_protocol_is_of_several_modules() -> None:
    found = homes()
    assert {name for names in PROTOCOLS.values() for name in names if len(found[name]) < 2} == set()
