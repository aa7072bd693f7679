"""Thousands of hostile templates: each writes a text within its limits or ends in a reason, and none sees a secret."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from llamalab.text.prompt_formats import TEMPLATES
from tests.checkpoints.test_fuzz import damaged

CASES = 2_000
SECRET = "a-secret-of-the-process"
LIMITS = {"steps": 3_000, "characters": 2_000, "bytes": 2**28, "seconds": 0.2}
MESSAGES = [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi {{ 7 * 6 }}"}]
CONTEXT = {"messages": MESSAGES, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None}

ATOMS = [
    "messages", "messages[0]", "message", "bos_token", "undefined_name", "none", "true", "self", "loop", "loop.index",
    "''", "'a'", "'%s'", "'%999999999d'", "'{0.__class__}'", "'{:>999999999}'", "0", "1", "-1", "3.5", "10**9",
    "10**18",
    "1e308", "[]", "[1, 'a']", "{}", "{'a': 1}", "(1, 2)", "range(9)", "range(99999)", "range(10**12)",
    "namespace(x=1)",
    "dict(a=1)", "cycler('a')", "joiner()", "lipsum", "lipsum()", "cycler", "caller",
    "varargs", "strftime_now",
    "strftime_now('%Y')", "raise_exception", "raise_exception('no')", "f", "f()", "generation",
]  # fmt: skip
NAMES = [
    "__class__", "__init__", "__globals__", "__mro__", "__subclasses__", "__builtins__", "__dict__", "__code__",
    "__import__", "f_globals", "gi_frame", "mro", "environment", "content", "role", "append", "format", "format_map",
    "join", "replace", "zfill", "ljust", "expandtabs", "encode", "translate", "items", "update", "pop",
    "clear", "__add__",
    "_TemplateReference__context", "__self__", "__module__", "__reduce__", "keys", "split", "strip", "upper",
    "x", "name",
]  # fmt: skip
FILTERS = [
    "abs", "attr('__class__')", "attr('__globals__')", "batch(2)", "batch(10**9)", "capitalize", "center(10**9)",
    "default('a')", "dictsort", "escape", "filesizeformat", "first", "float", "forceescape", "format(1)",
    "groupby('role')", "groupby('__class__')", "indent(10**9)", "indent", "int", "items", "join('a')", "join", "last",
    "length", "list", "lower", "map('upper')", "map(attribute='__class__')", "map('attr', '__globals__')", "max", "min",
    "pprint", "random", "reject", "rejectattr('role')", "replace('', 'aaaaaaaa')", "reverse", "round", "round(10**9)",
    "safe", "select", "selectattr('role', 'equalto', 'user')", "slice(3)", "slice(10**9)", "sort",
    "sort(attribute='__class__')", "string", "striptags", "sum", "sum(start='')", "title", "tojson",
    "tojson(indent=10**9)",
    "trim", "truncate(10**9)", "truncate(1)", "unique", "upper", "urlencode", "urlize", "wordcount", "wordwrap(1)",
    "xmlattr", "nonsense",
]  # fmt: skip
OPERATORS = ["+", "-", "*", "**", "/", "//", "%", "~", "==", "<", "in", "not in", "and", "or", "is", "if"]


def expression(draw: random.Random, depth: int = 0) -> str:
    """An operation, a call, an attribute, an index or a filter of smaller ones."""
    if depth > 4 or draw.random() < 0.25:
        return draw.choice(ATOMS)
    one, other = expression(draw, depth + 1), expression(draw, depth + 1)
    kinds = [
        f"({one} {draw.choice(OPERATORS)} {other})", f"({one}).{draw.choice(NAMES)}",
        f"({one})['{draw.choice(NAMES)}']",
        f"({one})({other})", f"({one}).{draw.choice(NAMES)}({other})", f"({one})[{other}]", f"({one})[:{other}]",
        f"({one}) | {draw.choice(FILTERS)}", f"({one}) | {draw.choice(FILTERS)}", f"[{one}, {other}]",
        f"({one} * {other})",
    ]  # fmt: skip
    return draw.choice(kinds)


def statement(draw: random.Random, depth: int = 0) -> str:
    """What a template is made of."""
    shown = f"{{{{ {expression(draw)} }}}}"
    if depth > 3:
        return shown
    inner = "".join(statement(draw, depth + 1) for _ in range(draw.randint(1, 2)))
    value = expression(draw, 2)
    kinds = [
        shown, shown, inner,
        f"{{% for message in {value} %}}{inner}{{% endfor %}}",
        f"{{% for m in messages recursive %}}{inner}{{{{ loop(messages) }}}}{{% endfor %}}",
        f"{{% if {value} %}}{inner}{{% else %}}{inner}{{% endif %}}",
        f"{{% set x = {value} %}}{inner}",
        f"{{% set n = namespace(x={value}) %}}{{% for i in range(99) %}}{{% set n.x = n.x ~ n.x %}}{{% endfor %}}",
        f"{{% macro f(a=1) %}}{inner}{{{{ f(a) }}}}{{% endmacro %}}{{{{ f() }}}}",
        f"{{% call f() %}}{inner}{{% endcall %}}",
        f"{{% filter {draw.choice(FILTERS)} %}}{inner}{{% endfilter %}}",
        f"{{% generation %}}{inner}{{% endgeneration %}}",
        "{% for i in range(99) %}{{ 'a' * 99 }}{% endfor %}",
        f"{{% include {value} %}}", f"{{% extends {value} %}}", f"{{% import {value} as y %}}{{{{ y }}}}",
        f"{{% block b %}}{inner}{{{{ self.b() }}}}{{% endblock %}}", "{% break %}", "{% raw %}{{ x }}",
        "{{ " + "(" * draw.choice([9, 99, 999]) + "1", "{{ " + "-" * draw.choice([9, 99, 9999]) + "1 }}",
    ]  # fmt: skip
    return draw.choice(kinds)


def template(draw: random.Random) -> str:
    """A program of hostile parts, or one of the known templates with damage."""
    if draw.random() < 0.3:
        return damaged(draw.choice(list(TEMPLATES.values())).encode(), draw).decode("utf-8", "replace")
    return statement(draw)


def test_hostile_templates_write_within_limits_or_end_in_a_reason() -> None:
    draw = random.Random(41)
    sources = [*(template(draw) for _ in range(CASES)), "{{ 9 ** (9 ** 9) }}", "{{ '<s>' }}"]
    jobs = [{"template": source, "contexts": [CONTEXT], "limits": LIMITS} for source in sources]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("forked_templates.py"))],
        input=json.dumps(jobs).encode(), capture_output=True, check=True, env=os.environ | {"LLAMALAB_SECRET": SECRET},
    )  # fmt: skip
    answers: list[dict[str, Any] | None] = list(map(json.loads, done.stdout.splitlines()))
    assert len(answers) == len(jobs)
    assert answers[-2:] == [None, {"texts": ["<s>"]}]
    assert SECRET.encode() not in done.stdout
    written = [text for answer in answers if answer for text in answer.get("texts", ())]
    reasons = [answer["error"] for answer in answers if answer and "error" in answer]
    ended = answers.count(None)
    assert len(written) + len(reasons) + ended == len(jobs)
    assert all(len(text) <= LIMITS["characters"] for text in written)
    assert not any("__subclasses__" in text or "<module" in text or "<frame" in text for text in written)
    # Every way to end is met: a text, an error of the template's, each of the limits.
    assert len(written) > CASES // 20
    for part in ("more than 3,000 steps", "more than 2,000 characters", "SecurityError", "TemplateSyntaxError"):
        assert any(part in reason for reason in reasons), part
    assert ended < CASES // 10
