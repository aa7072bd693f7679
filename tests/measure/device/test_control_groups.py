"""Control groups of every kind, faked: the least of all limits, and of what is free."""

import pytest

from llamalab.measure.device.control_groups import GroupLimit, rooms
from tests.measure.device.test_machine import put

HUGE = str(2**63 - 4096)  # what version 1 writes where there is no limit
OWN = "proc/self/cgroup"
MOUNTS = "proc/self/mountinfo"


def least(root):
    found = rooms(root)
    return min(room.limit_bytes for room in found), min(room.free_bytes for room in found)


def test_none_of_them(tmp_path):
    assert rooms(tmp_path) == []


def test_a_group_of_version_2_below_the_root(tmp_path):
    put(tmp_path, OWN, "0::/system.slice/job.service\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/job.service/memory.max", "5000\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/job.service/memory.current", "1200\n")
    assert rooms(tmp_path) == [GroupLimit(5000, 3800)]


@pytest.mark.parametrize(
    ("outer", "inner", "expected"), [("9000", "4000", 4000), ("3000", "4000", 3000), ("max", "7", 7)]
)
def test_the_least_of_all_above(tmp_path, outer, inner, expected):
    put(tmp_path, OWN, "0::/a/b/c\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", outer)
    put(tmp_path, "sys/fs/cgroup/a/b/memory.max", "max")
    put(tmp_path, "sys/fs/cgroup/a/b/c/memory.max", inner)
    assert least(tmp_path)[0] == expected


def test_what_is_free_may_be_least_elsewhere_than_the_limit(tmp_path):
    put(tmp_path, OWN, "0::/a/b\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", "9000")
    put(tmp_path, "sys/fs/cgroup/a/memory.current", "8500")  # siblings use it too
    put(tmp_path, "sys/fs/cgroup/a/b/memory.max", "4000")
    put(tmp_path, "sys/fs/cgroup/a/b/memory.current", "1000")
    assert least(tmp_path) == (4000, 500)


def test_a_high_mark_is_a_limit_too(tmp_path):
    put(tmp_path, OWN, "0::/a\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", "9000")
    put(tmp_path, "sys/fs/cgroup/a/memory.high", "6000")
    assert least(tmp_path)[0] == 6000


def test_idle_files_are_free(tmp_path):
    put(tmp_path, OWN, "0::/a\n")
    put(tmp_path, "sys/fs/cgroup/a/memory.max", "9000")
    put(tmp_path, "sys/fs/cgroup/a/memory.current", "8000")
    put(tmp_path, "sys/fs/cgroup/a/memory.stat", "anon 1500\nfile 6500\ninactive_file 6000\nodd line here\n")
    assert least(tmp_path) == (9000, 7000)


def test_nothing_is_free_where_more_is_used_than_allowed(tmp_path):
    put(tmp_path, "sys/fs/cgroup/memory.max", "4000")
    put(tmp_path, "sys/fs/cgroup/memory.current", "4100")
    assert least(tmp_path) == (4000, 0)


def test_version_1_nested_with_an_unlimited_root(tmp_path):
    put(tmp_path, OWN, "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    folder = "sys/fs/cgroup/memory"
    put(tmp_path, f"{folder}/memory.limit_in_bytes", HUGE)
    put(tmp_path, f"{folder}/memory.usage_in_bytes", "999999")
    put(tmp_path, f"{folder}/docker/abc/memory.limit_in_bytes", "8000")
    put(tmp_path, f"{folder}/docker/abc/memory.usage_in_bytes", "5000")
    put(tmp_path, f"{folder}/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n")
    assert least(tmp_path) == (8000, 5000)


def test_version_1_tells_limits_above_what_can_be_seen(tmp_path):
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", HUGE)
    put(tmp_path, "sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 7000\n")
    assert least(tmp_path) == (7000, 7000)


def test_a_container_of_version_1_sees_itself_at_the_mount_point(tmp_path):
    put(tmp_path, OWN, "4:memory:/docker/abc/inner\n")
    put(tmp_path, MOUNTS, "35 31 0:31 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:1 - cgroup cgroup rw,memory\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "8000")
    put(tmp_path, "sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "3000")
    assert least(tmp_path)[0] == 3000


def test_mounted_elsewhere(tmp_path):
    put(tmp_path, OWN, "0::/job\n")
    put(tmp_path, MOUNTS, "41 31 0:38 / /run/groups rw,relatime shared:9 - cgroup2 cgroup2 rw\nshort line\n")
    put(tmp_path, "run/groups/job/memory.max", "6000")
    assert least(tmp_path)[0] == 6000


@pytest.mark.parametrize("own", ["0::/../../job\n", "0::/\n", "0::/gone/away\n", "nonsense", ""])
def test_a_namespace_shows_its_own_root(tmp_path, own):
    put(tmp_path, OWN, own)
    put(tmp_path, "sys/fs/cgroup/memory.max", "6000")
    assert least(tmp_path)[0] == 6000


@pytest.mark.parametrize("limit", ["max", "", "-1", "1e9", "٣٤", "0x10"])
def test_what_is_no_number_binds_nobody(tmp_path, limit):
    put(tmp_path, "sys/fs/cgroup/memory.max", limit)
    assert rooms(tmp_path) == []
