"""Memory limits of control groups: limit and free bytes of the group of this process and of all above it.

A container, a service of systemd or a job of a batch system is a control group, and its limit holds for all processes
inside it. Version 1 (a hierarchy for memory alone), version 2 and both at once are read; what cannot be read
imposes no limit. Formats: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, and
proc_pid_mountinfo(5).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llamalab.measure.device.kernel_files import number_of, text_of


class GroupLimit(NamedTuple):
    """A group's limit and the unused part of it, both in bytes."""

    limit_bytes: int
    free_bytes: int


class _Hierarchy(NamedTuple):
    """Mount point of the groups, the group that it shows, and the names of their files."""

    mount: str
    top: str
    version: int


_USUAL = (
    _Hierarchy("/sys/fs/cgroup", "/", 2),
    _Hierarchy("/sys/fs/cgroup/unified", "/", 2),
    _Hierarchy("/sys/fs/cgroup/memory", "/", 1),
)
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}


def rooms(root: Path) -> list[GroupLimit]:
    """The limit of every limited group that holds this process, in any order; `root` is the root of the file system."""
    groups = {
        (folder, one.version) for one in _hierarchies(root) for folder in _with_parents(root, one, _own(root, one))
    }
    return [room for folder, version in groups for room in _rooms_of(folder, version)]


def _hierarchies(root: Path) -> set[_Hierarchy]:
    """The mounts that this process sees, and the usual ones."""
    found = set(_USUAL)
    for line in text_of(root / "proc/self/mountinfo").splitlines():
        fields, _, kind = line.partition(" - ")
        place, what = fields.split(), kind.split()
        if len(place) < 5 or len(what) < 3:
            continue
        if what[0] == "cgroup2":
            found.add(_Hierarchy(place[4], place[3], 2))
        elif what[0] == "cgroup" and "memory" in what[2].split(","):
            found.add(_Hierarchy(place[4], place[3], 1))
    return found


def _own(root: Path, hierarchy: _Hierarchy) -> str:
    """The group of this process according to /proc."""
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (hierarchy.version == 2 and controllers == "") or (
            hierarchy.version == 1 and "memory" in controllers.split(",")
        ):
            return path
    return "/"


def _with_parents(root: Path, hierarchy: _Hierarchy, own: str) -> Iterator[Path]:
    """Folders from the mount point down to the own group; a namespace shows fewer of them, and those suffice."""
    folder = root / hierarchy.mount.lstrip("/")
    yield folder
    inside = own[len(hierarchy.top) :] if own.startswith(hierarchy.top.rstrip("/") + "/") else own
    for part in inside.split("/"):
        if part not in ("", ".", ".."):
            folder /= part
            yield folder


def _rooms_of(folder: Path, version: int) -> Iterator[GroupLimit]:
    stat = _table(text_of(folder / "memory.stat"))
    limits = [number_of(text_of(folder / name)) for name in _LIMITS[version]]
    known = [limit for limit in (*limits, stat.get("hierarchical_memory_limit")) if limit is not None]
    used = number_of(text_of(folder / _USED[version])) or 0
    # Pages of inactive files count as free: the kernel drops them before it refuses memory.
    idle_files = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    for limit in known:
        yield GroupLimit(limit, max(0, limit - max(0, used - idle_files)))


def _table(text: str) -> dict[str, int]:
    pairs = [line.split() for line in text.splitlines()]
    found = {pair[0]: number_of(pair[1]) for pair in pairs if len(pair) == 2}
    return {name: value for name, value in found.items() if value is not None}
