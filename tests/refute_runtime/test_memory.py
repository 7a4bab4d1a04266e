"""What is free: the host's memory, and the limits of the control groups that a process is in."""

import pytest

from refute_runtime.memory import available

GIB = 2**30
HOST = (8 * GIB, "available on the host")
GROUP = "within the limit of the control group"


@pytest.fixture
def root(tmp_path):
    """A host of files with 8 GiB free."""
    write(tmp_path / "proc/meminfo", f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    return tmp_path


def test_without_a_limit_the_host_bounds(root):
    assert available(root) == HOST
    limit(root, "", "max", GIB, 0)
    assert available(root) == HOST


def test_what_a_group_can_give_back_counts_as_free(root):
    limit(root, "", 4 * GIB, 3 * GIB, GIB)
    assert available(root) == (2 * GIB, GROUP)


def test_a_group_over_its_limit_has_nothing_free(root):
    limit(root, "", 4 * GIB, 5 * GIB, 0)
    assert available(root) == (0, GROUP)


def test_the_tightest_of_all_groups_above_a_process_bounds(root):
    write(root / "proc/self/cgroup", "1:name=x:/y\n0::/user/mine\n")
    limit(root, "user", 3 * GIB, GIB, 0)
    limit(root, "user/mine", 6 * GIB, GIB, 0)
    assert available(root) == (2 * GIB, GROUP)


def test_where_nothing_tells_nothing_is_known(tmp_path):
    assert available(tmp_path)[0] is None


def test_this_host_tells():
    free, _ = available()
    assert free is None or free > 0


def limit(root, group, most, used, inactive):
    folder = root / "sys/fs/cgroup" / group
    write(folder / "memory.max", f"{most}\n")
    write(folder / "memory.current", f"{used}\n")
    write(folder / "memory.stat", f"anon 1\ninactive_file {inactive}\n")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
