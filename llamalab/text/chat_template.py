"""A dialog by a checkpoint's own chat template, rendered in a separate process (template_worker), never trusted."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llamalab.errors import InputError

LIMITS = {"steps": 200_000, "characters": 2**20, "bytes": 2**29, "seconds": 5}
_WAIT_S = 60  # of wall-clock time, which other programs on the machine lengthen
_WORKER = Path(__file__).with_name("template_worker.py")


def render_template(
    template: str, contexts: Sequence[Mapping[str, Any]], *, limits: Mapping[str, int] = LIMITS
) -> list[str]:
    r"""The text of each context, a mapping of the template's variables, in one process with limits.

    Raises InputError where the template is none, refuses a dialog, reaches for what is not its own, or takes more
    steps, characters, memory or seconds than `limits` allow.

    >>> render_template("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", [{"messages": [
    ...     {"role": "user", "content": "Hi"}]}])
    ['<user>Hi']
    """
    job = json.dumps({"template": template, "contexts": list(contexts), "limits": dict(limits)})
    try:
        # -P: the worker's folder is no place to import from.
        done = subprocess.run(
            [sys.executable, "-P", str(_WORKER)], input=job.encode(), capture_output=True, timeout=_WAIT_S
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise _refused(f"it takes more than {_WAIT_S} s") from None
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        over = f"it takes more than {limits['seconds']} s or {limits['bytes']:,} bytes of memory"
        raise _refused(
            over if done.returncode < 0 or not said or "MemoryError" in said[-1] else said[-1][:200]
        ) from None
    if "error" in answer:
        raise _refused(answer["error"])
    texts: list[str] = answer["texts"]
    return texts


def _refused(reason: str) -> InputError:
    return InputError(f"the chat template must write this dialog within its limits; {reason}")
