"""The revision that is the base, and where its files lie while it is measured.

The base is checked out into a git worktree of its own in a temporary folder, which is removed whatever happens.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AUTO = "auto"
MAIN = ("origin/main", "main")


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, or where there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find_base(root: Path, wanted: str) -> str | None:
    """The commit to compare the working tree with; None where there is none.

    "auto" is where this branch left the main one; on that branch itself it is the commit before this one.
    """
    if wanted != AUTO:
        return git(root, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    head = git(root, "rev-parse", "HEAD")
    forks = (git(root, "merge-base", "HEAD", branch) for branch in MAIN)
    parent = git(root, "rev-parse", "--verify", "--quiet", "HEAD~1")
    return next((fork for fork in forks if fork and fork != head), parent)


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A folder with the files of `commit`; gone when the block ends. Raises OSError where git makes none."""
    folder = Path(tempfile.mkdtemp(prefix="llamalab-base-"))
    tree = folder / "tree"
    try:
        if git(root, "worktree", "add", "--detach", str(tree), commit) is None:
            raise OSError(f"git could not check out {commit[:12]} into {tree}")
        yield tree
    finally:
        git(root, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)
        git(root, "worktree", "prune")
