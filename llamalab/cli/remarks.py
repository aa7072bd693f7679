"""Where remarks go: during a call from Python to its result, else to standard error, each of them once."""

from contextvars import ContextVar

HEARD: ContextVar[list[str] | None] = ContextVar("HEARD", default=None)
SAID: ContextVar[set[str] | None] = ContextVar("SAID", default=None)  # by the verb that runs
