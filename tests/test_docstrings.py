"""Docstrings and comments are statements; a function with many options explains each; errors name no option."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamalab.cli.options_of import every_option
from llamalab.cli.output import option_of

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("llamalab", "experiments", "tools", "tests")
MANY = 4
EXAMPLE = re.compile(r"^\s*(>>>|llamalab\.errors|\.\.\.)|\?\[|[\"'`].*\?.*[\"'`]")  # a doctest, or a quoted text
QUOTED = re.compile(r"[\"“'`][^\"”'`]*\?[^\"”'`]*[\"”'`]")


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def options(function: ast.FunctionDef) -> int:
    """Arguments that are given by keyword, or that have a default."""
    return len(function.args.defaults) + len(function.args.kwonlyargs)


@pytest.mark.parametrize("folder", ["llamalab"])
def test_many_options_are_explained(folder: str) -> None:
    silent = {
        f"{path.relative_to(ROOT)} {one.name}"
        for path in modules(folder)
        for one in functions(path)
        if not one.name.startswith("_") and options(one) > MANY and "Args:" not in (ast.get_docstring(one) or "")
    }
    assert silent == set()


def questions(path: Path) -> Iterator[str]:
    """Lines of docstrings and comments that ask, quoted texts aside."""
    text = path.read_text()
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    documented = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    lines = [line for doc in documented for line in doc.splitlines() if not EXAMPLE.search(line)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline) if "?" in text else ()
    lines += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return (line.strip() for line in lines if re.search(r"\?(\s|$)", QUOTED.sub("", line)))


def test_docstrings_and_comments_ask_nothing() -> None:
    assert {str(path.relative_to(ROOT)): asked for path in modules(*FOLDERS) if (asked := list(questions(path)))} == {}


def raised(path: Path) -> Iterator[ast.Raise]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise))


def texts(node: ast.AST) -> Iterator[str]:
    return (one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def library() -> list[Path]:
    return [path for path in modules("llamalab") if path.relative_to(ROOT).parts[1] not in ("cli", "api")]


def test_errors_of_the_library_name_no_option() -> None:
    """But in the name of a command that is to be run."""
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno} {text!r}"
        for path in library()
        for node in raised(path)
        for text in texts(node)
        if re.search(r"(^|[\s(`'])--[a-z]", text) and not re.search(r"llamalab \w+[^;]* --", text)
    ]
    assert named == []


def test_a_hint_names_arguments_that_verbs_have() -> None:
    known = {name for options in every_option().values() for option in options for name in option.names}
    hints = [
        argument
        for path in library()
        for node in raised(path)
        if isinstance(node.exc, ast.Call)
        for given in node.exc.keywords
        if given.arg == "hint"
        for text in texts(given.value)
        for argument in re.findall(r"\{(\w+)\}", text)
    ]
    assert len(hints) > 10
    assert {argument for argument in hints if option_of(argument) not in known} == set()
