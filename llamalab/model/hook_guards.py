"""Guards that make a compiled model call hooks added later; by default torch ignores such hooks silently.

torch.compile leaves out the guards on empty hook tables of modules (`skip_nnmodule_hook_guards`), so
that a hook registered after the first call is never seen. While one of our blocks is traced that
option is switched off, for the process: guards are built when the tracing is done, a late hook
fails one, and the graph is traced again with the hook in it.
"""


def keep_hook_guards() -> int:
    """Called by the tracer, never by compiled or eager code."""
    from torch._dynamo import config

    config.skip_nnmodule_hook_guards = False
    return 0


# torch.compiler.assume_constant_result does just this, after importing all of the compiler: the tracer
# calls the function instead of tracing it.
keep_hook_guards._dynamo_marked_constant = True  # type: ignore[attr-defined]
