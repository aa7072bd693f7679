"""Errors of the operating system as one sentence: no space, no memory, too many files, no such name."""

import errno
import os

_ADVICE = {
    errno.ENOSPC: "free some room or write elsewhere",
    errno.EDQUOT: "free some room or write elsewhere",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f) or write elsewhere",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs that hold many files open",
    errno.ENOMEM: "free some memory or ask for less",
    errno.EAGAIN: "raise the limits of processes and memory (ulimit -u, ulimit -v)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "name the file that the links should lead to",
}
# torch's own allocators, threads and mappings say it in a RuntimeError's text.
_LACKS = {
    "memory": ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "unable to mmap"),
    "threads": ("can't start new thread", "resource temporarily unavailable"),
}


def sentence_of(error: Exception) -> str | None:
    """The refused operation, and the remedy; None for an error that is not the system's."""
    if isinstance(error, OSError):
        where = "".join(f"{os.fsdecode(name)}: " for name in (error.filename,) if isinstance(name, str | bytes))
        said = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "check the path and what you may do there")
        return f"the system must grant what the command needs; {where}{said}; {advice}"
    if isinstance(error, RecursionError):
        return "the input must be nested less deeply; Python's stack is full; simplify it"
    if isinstance(error, UnicodeError):
        return f"text must be what the system's encoding can say; {error}; set PYTHONUTF8=1"
    if isinstance(error, MemoryError) or _lacks("memory", error):
        return f"the memory must hold what the command needs; {_first_line(error)}; free some or ask for less"
    if _lacks("threads", error):
        return f"the system must grant the threads a command needs; {_first_line(error)}; raise ulimit -u"
    return None


def _lacks(what: str, error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _LACKS[what])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".") or type(error).__name__
