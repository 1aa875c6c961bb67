"""Threads by what the process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_numba.engines.cpu.threads import core_quota

_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
_V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def _system(root: Path, mounts: str, groups: str, **files: str) -> Path:
    """A file system with the files of control groups; names have two underscores for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("22 1 0:20 / / rw - ext4 /dev/sda rw\n" + mounts)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name.replace("___", ".").replace("__", "/").replace("AND", ",")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "quota"),
    [
        (_V2, "0::/\n", {"cpu___max": "150000 100000"}, 1.5),
        (_V2, "0::/\n", {"cpu___max": "max 100000"}, None),
        (_V2, "0::/\n", {}, None),
        # The smallest of the group's and of those above it.
        (_V2, "0::/a/b\n", {"a__cpu___max": "50000 100000", "a__b__cpu___max": "400000 100000"}, 0.5),
        (_V2, "0::/a/b\n", {"a__cpu___max": "max 100000", "a__b__cpu___max": "300000 100000"}, 3.0),
        # A path of the host's, of which the container sees the end only.
        (_V2, "0::/../../x\n", {"cpu___max": "200000 100000"}, 2.0),
        (
            _V1.format(top="/"),
            "5:cpu,cpuacct:/job\n3:memory:/\n",
            {
                "cpuANDcpuacct__job__cpu___cfs_quota_us": "25000",
                "cpuANDcpuacct__job__cpu___cfs_period_us": "50000",
            },
            0.5,
        ),
        (
            _V1.format(top="/docker/123"),
            "5:cpu,cpuacct:/docker/123\n",
            {"cpuANDcpuacct__cpu___cfs_quota_us": "300000", "cpuANDcpuacct__cpu___cfs_period_us": "100000"},
            3.0,
        ),
        (
            _V1.format(top="/"),
            "5:cpu,cpuacct:/docker/123\n",  # not seen from within
            {"cpuANDcpuacct__cpu___cfs_quota_us": "100000", "cpuANDcpuacct__cpu___cfs_period_us": "100000"},
            1.0,
        ),
        (
            _V1.format(top="/"),
            "5:cpu,cpuacct:/\n",
            {"cpuANDcpuacct__cpu___cfs_quota_us": "-1", "cpuANDcpuacct__cpu___cfs_period_us": "100000"},
            None,
        ),
        ("", "0::/\n", {}, None),
    ],
)
def test_quota(tmp_path: Path, mounts: str, groups: str, files: dict[str, str], quota: float | None) -> None:
    assert core_quota(_system(tmp_path, mounts, groups, **files)) == quota


def test_without_such_files_there_is_no_quota(tmp_path: Path) -> None:
    assert core_quota(tmp_path) is None


@pytest.mark.parametrize("text", ["", "100000", "a b"])
def test_files_of_another_form_are_no_quota(tmp_path: Path, text: str) -> None:
    assert core_quota(_system(tmp_path, _V2, "0::/\n", cpu___max=text)) is None


_PROGRAM = """
import numba
from lstm_numba.engines.cpu import threads
threads.core_quota = lambda: {quota}
{call}
print(threads.thread_count())
"""


@pytest.mark.parametrize(
    ("quota", "call", "settings", "expected"),
    [
        ("None", "", {}, "all"),
        ("0.5", "", {}, 1),
        ("1.0", "", {}, 1),
        ("1.2", "", {}, 2),
        ("64", "", {}, "all"),
        ("1", "", {"NUMBA_NUM_THREADS": "3"}, 3),
        ("1", "threads.set_thread_count(numba.config.NUMBA_NUM_THREADS)", {}, "all"),
        ("1", "numba.set_num_threads(2)", {"NUMBA_NUM_THREADS": "3"}, 2),
    ],
)
def test_thread_count(quota: str, call: str, settings: dict[str, str], expected: int | str) -> None:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(quota=quota, call=call)],
        capture_output=True, text=True, check=True, env={**environment, **settings},
    )  # fmt: skip
    wanted = available if expected == "all" else expected
    assert int(done.stdout) == (wanted if settings else min(int(wanted), available))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from lstm_numba.engines.cpu.threads import thread_count; print(thread_count())"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "1"
