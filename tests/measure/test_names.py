"""One word, one meaning: a public class is defined in one module, and so is any name of measuring and of the model."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import llamalab

PACKAGE = Path(llamalab.__file__).parent
# The same thing in modules that may not import each other: command lines start without torch.
SAME = {"LOGITS", "PHASES", "SMALL_BYTES"}
VERBS = {"build", "profile"}  # calls of the front door: llamalab.build, llamalab.profile
TYPES = {"T"}


def defined(path: Path) -> Iterator[str]:
    """Names of classes, functions and constants at the top of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def test_no_public_name_has_two_meanings() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined(path):
            if not name.startswith("_"):
                homes[name].add(str(path.relative_to(PACKAGE)))
    ours = ("measure/", "model/")
    twice = {
        name: places for name, places in homes.items() if len(places) > 1 and any(p.startswith(ours) for p in places)
    }
    assert {name: places for name, places in twice.items() if name not in SAME | VERBS | TYPES} == {}


def test_no_class_has_two_meanings() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
