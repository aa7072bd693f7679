"""Destination of remarks: during a call from Python the result, else standard error, each remark once."""

from contextvars import ContextVar

HEARD: ContextVar[list[str] | None] = ContextVar("HEARD", default=None)
SAID: ContextVar[set[str] | None] = ContextVar("SAID", default=None)  # by the verb that runs
