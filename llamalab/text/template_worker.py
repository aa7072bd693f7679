"""Renders an untrusted chat template in an isolated process. Not imported: run by its path.

Reads one JSON object from stdin: `template`, `contexts` (the variables of each rendering) and `limits`. Writes one to
stdout: `texts`, or `error` with a reason. A template may loop, call and concatenate; Jinja2's sandbox keeps it from
attributes that lead out. What no sandbox bounds is bounded here: steps (lines of the template and calls, counted, so
that the limit is the same on every machine), output, memory, and seconds of this process.
"""

import json
import signal
import sys
from datetime import datetime
from types import FrameType
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TooManySteps(BaseException):
    """The template has taken more steps than it may."""


class Steps:
    """Counts lines of templates and every call, through Python's tracing."""

    def __init__(self, most: int) -> None:
        self.left = most

    def on_call(self, frame: FrameType, event: str, _: Any) -> Any:
        """Count a call, and the lines of a template."""
        self._take()
        return self.on_line if frame.f_code.co_filename == "<template>" else None

    def on_line(self, frame: FrameType, event: str, _: Any) -> Any:
        """Count a line."""
        self._take()
        return self.on_line

    def _take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TooManySteps


class GenerationTag(Extension):
    """`{% generation %}`, by which templates mark answers for training: its content is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's own statements."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> None:
    """The function that templates call for a dialog they reject."""
    raise TemplateError(message)


def as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes that are for HTML, with the options that templates of transformers have."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def now(form: str) -> str:
    """Today's date, as templates write it into a system prompt."""
    return datetime.now().strftime(form)


def bounded(limits: dict[str, int]) -> None:
    """Limit memory and processor time of this process, where the system supports it."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limits["bytes"], limits["bytes"]))
    # Exhausted limits end the process, also inside one long operation.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, limits["seconds"])


def rendered(job: dict[str, Any]) -> list[str]:
    """The text of every context."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = as_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    template, most = environment.from_string(job["template"]), job["limits"]["characters"]
    sys.settrace(Steps(job["limits"]["steps"]).on_call)
    texts = []
    for context in job["contexts"]:
        parts, room = [], most
        for part in template.generate(**context):
            room -= len(part)
            if room < 0:
                raise TemplateError(f"it writes more than {most:,} characters")
            parts.append(part)
        texts.append("".join(parts))
    return texts


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The texts of one job, or the reason why there are none; from here on the process has its limits."""
    bounded(job["limits"])
    try:
        return {"texts": rendered(job)}
    except TooManySteps:
        return {"error": f"it takes more than {job['limits']['steps']:,} steps"}
    except MemoryError:
        return {"error": f"it needs more than {job['limits']['bytes']:,} bytes of memory"}
    except Exception as error:  # any exception that a template causes in jinja2
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    finally:
        sys.settrace(None)


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
