"""How many threads there are to compute with: as many as the process may use cores."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numba
from numba.np.ufunc import parallel

#: Whether somebody asked for a number of threads, which then is no default any more.
_chosen = False


def thread_count() -> int:
    """Threads to compute with.

    Numba's number, which by default is that of the cores in the process's affinity; of these as many as its
    control group's quota pays for, unless the number was chosen: by ``NUMBA_NUM_THREADS``,
    `numba.set_num_threads` or `set_thread_count`.
    """
    # `numba.get_num_threads`, but for two locks, which cost 30 microseconds when caches are cold.
    count = int(getattr(parallel, "_get_num_threads", numba.get_num_threads)())
    if _chosen or count < numba.config.NUMBA_NUM_THREADS:
        return count
    return min(count, _affordable())


def set_thread_count(count: int) -> None:
    """`numba.set_num_threads`, whatever the quota."""
    global _chosen
    numba.set_num_threads(count)
    _chosen = True


@functools.cache
def _affordable() -> int:
    """Threads that the quota pays for, if nothing else was asked for."""
    quota = None if "NUMBA_NUM_THREADS" in os.environ else core_quota()
    return numba.config.NUMBA_NUM_THREADS if quota is None else max(1, math.ceil(quota))


def core_quota(root: Path = Path("/")) -> float | None:
    """Cores that the process's control group may use on average, as containers limit them; None for all.

    The smallest quota of the group and those above it, of Linux's control groups of either version [1]_ [2]_.

    Parameters
    ----------
    root : Path
        Of the file system.

    References
    ----------
    .. [1] Linux kernel, "Control Group v2", section "CPU Interface Files": ``cpu.max``.
    .. [2] Linux kernel, "CFS Bandwidth Control": ``cpu.cfs_quota_us``, ``cpu.cfs_period_us``.
    """
    try:
        return min((quota for folder in _groups(root) if (quota := _quota(folder)) is not None), default=None)
    except (OSError, ValueError):  # no such files, as elsewhere than on Linux, or of another form
        return None


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the process's control groups for the processor, and of those above them."""
    memberships = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        memberships.update(dict.fromkeys(controllers.split(","), path))
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        kind, _, options = kind.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller is None or controller not in ["", *options.split(",")]:
            continue
        top, folder = mount.split(" ")[3:5]
        # Within a container the mount's root may be outside of what the path is relative to.
        whole = Path(memberships.get(controller, "/"))
        inner = whole.relative_to(top) if whole.is_relative_to(top) else whole.relative_to("/")
        group = root / folder.lstrip("/") / inner
        for above in (group, *group.parents):
            if above.is_relative_to(root / folder.lstrip("/")) and above.is_dir():
                yield above


def _quota(folder: Path) -> float | None:
    """Cores that a control group may use on average."""
    if (folder / "cpu.max").is_file():
        quota, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").is_file():
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)
