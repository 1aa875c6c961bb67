"""Kernels on disk: processes that save at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from numba.core.caching import IndexDataCacheFile

import lstm_numba.engines.cpu.options  # noqa: F401  (has this process take turns)

_SAVER = """
import sys
import lstm_numba.engines.cpu.options
from numba.core.caching import IndexDataCacheFile

file = IndexDataCacheFile(sys.argv[1], "kernel", "stamp")
sys.stdin.readline()
for n in range(40):
    file.save((sys.argv[2], n), f"{sys.argv[2]} {n}")
"""


def test_who_saves_at_the_same_time_takes_turns(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    savers = [
        subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(tmp_path), name], stdin=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for saver in savers:  # all begin when all have started
        assert saver.stdin is not None
        saver.stdin.write("\n")
        saver.stdin.flush()
    assert [saver.wait(60) for saver in savers] == [0, 0, 0]
    file = IndexDataCacheFile(str(tmp_path), "kernel", "stamp")
    for name in names:
        for n in range(40):
            assert file.load((name, n)) == f"{name} {n}"
