"""Where remarks go during a call from Python: to the result, not to standard error."""

from contextvars import ContextVar

HEARD: ContextVar[list[str] | None] = ContextVar("HEARD", default=None)
