"""The lock of a sweep's folder, between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lstm_numba.sweeps.lock import SweepLock
from lstm_numba.sweeps.ranges import SweepError

pytest.importorskip("fcntl", reason="this system has no locks of parts of files")

#: Holds trial 3, says so, and waits.
HOLDER = """
import sys
from pathlib import Path
from lstm_numba.sweeps.lock import SweepLock
lock = SweepLock(Path(sys.argv[1]), "s")
print(lock.take(3), lock.take(3), lock.place, flush=True)
sys.stdin.readline()
lock.drop(3)
print("dropped", flush=True)
sys.stdin.readline()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_trial_is_of_one_process_until_that_drops_it_or_dies(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        words = other.stdout.readline().split()
        with SweepLock(tmp_path, "s") as lock:
            assert words == ["True", "False", lock.place]  # nor twice in one process
            assert not lock.take(3)
            assert lock.take(4)
            print(file=other.stdin, flush=True)
            assert other.stdout.readline() == "dropped\n"
            assert lock.take(3)
        other.kill()
    with hold(tmp_path) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with SweepLock(tmp_path, "s") as lock:
            assert not lock.take(3)
            other.kill()
            other.wait()
            assert lock.take(3)


def test_a_folder_is_of_one_study(tmp_path: Path) -> None:
    with SweepLock(tmp_path / "new", "first") as lock:
        place = lock.place
    with SweepLock(tmp_path / "new", "first") as lock:
        assert lock.place == place
    with pytest.raises(SweepError, match="of the sweep first, not of second"):
        SweepLock(tmp_path / "new", "second")
    with SweepLock(tmp_path / "other", "first") as lock:
        assert lock.place != place
    (tmp_path / "new" / "sweep.lock").write_bytes(b"something else")
    with pytest.raises(SweepError, match="damaged"):
        SweepLock(tmp_path / "new", "first")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SweepError, match="cannot be written"):
        SweepLock(tmp_path / "file", "s")
