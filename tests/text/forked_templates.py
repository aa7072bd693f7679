"""Answers many jobs of the template worker in few processes: one forked from this goes on until a job ends it.

Run by its path: reads a JSON list of jobs from stdin, writes for each a line of JSON, what the worker answers or null
where the process was ended.
"""

import json
import os
import sys

from llamalab.text import template_worker

SECRET = os.environ.get("LLAMALAB_SECRET", "")  # what no template may see


def answers(jobs: list[dict[str, object]]) -> list[bytes]:
    """The lines of the first jobs, as many as one process lives for."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            for job in jobs:
                pipe.write(json.dumps(template_worker.answer(job)) + "\n")
                pipe.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().splitlines()
    os.waitpid(child, 0)
    return said if len(said) == len(jobs) else [*said, b"null"]


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    while jobs:
        lines = answers(jobs)
        sys.stdout.buffer.writelines(line + b"\n" for line in lines)
        jobs = jobs[len(lines) :]
