"""Who does what in a sweep's folder: one file, of which each trial has a byte that its process locks.

The system releases the locks of a process that ends, however it ends: what is not locked is abandoned. Locks
of bytes work on network file systems too, where those of a whole folder often do not.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from lstm_numba.data.file_io import one_line
from lstm_numba.sweeps.ranges import SweepError

#: Bytes that stand for the study and for trial 0; the text of the file ends before.
_STUDY, _FIRST = 1 << 10, 1 << 11
#: Seconds to wait for others who look at the study, which takes milliseconds; a stopped process may hold it.
_PATIENCE = 120.0


class SweepLock:
    """The file ``sweep.lock`` of a folder. It must be open once only in a process, and by one thread.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    name : str
        Of the study, of which there is one in a folder.

    Attributes
    ----------
    place : str
        A random name of the folder, by which processes of one study know which run folders they share.

    Raises
    ------
    SweepError
        The folder cannot be made or written to, or is another study's; its file system, or the operating
        system, has no locks.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / "sweep.lock"
        try:
            import fcntl
        except ImportError:
            raise SweepError("sweep needs POSIX file locks, which this system does not have") from None
        self._fcntl = fcntl
        self._held: set[int] = set()  # the system would grant them again
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Closed, the file would lose all locks of this process.
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise SweepError(f"{self._path}: cannot be written: {error.strerror}") from None
        try:
            with self.alone():
                self.place = self._read_place(name)
        except BaseException:
            self.close()
            raise

    def _read_place(self, name: str) -> str:
        """What the file says of the folder; the first process writes it."""
        content = os.pread(self._file, _STUDY, 0)
        if not content:
            place = secrets.token_hex(8)
            os.pwrite(self._file, json.dumps([place, name], ensure_ascii=False).encode(), 0)
            os.fsync(self._file)
            return place
        try:
            place, owner = map(str, json.loads(content))
        except ValueError:
            raise SweepError(f"{self._path}: damaged, or of another program") from None
        if owner != name:
            raise SweepError(
                f"{self._path}: the folder is of the sweep {one_line(owner)}, not of {one_line(name)}; "
                f"name another --out, or say name = {json.dumps(owner)} in the file"
            )
        return place

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the study: no other process of this folder is in such a block."""
        end = time.monotonic() + _PATIENCE
        while not self._try(_STUDY):
            if time.monotonic() > end:
                raise SweepError(
                    f"{self._path}: another process has been holding the study for {_PATIENCE:.0f} s; "
                    "is it stopped?"
                )
            time.sleep(0.005)
        try:
            yield
        finally:
            self._release(_STUDY)

    def take(self, trial: int) -> bool:
        """Claim a trial; False if a process has it, this one or another."""
        if trial in self._held or not self._try(_FIRST + trial):
            return False
        self._held.add(trial)
        return True

    def drop(self, trial: int) -> None:
        """Give a trial up."""
        self._held.discard(trial)
        self._release(_FIRST + trial)

    def _try(self, byte: int) -> bool:
        try:
            self._fcntl.lockf(self._file, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: POSIX permits either
            return False
        except OSError as error:
            raise SweepError(
                f"{self._path}: its file system has no file locks, which processes that share a sweep need "
                f"({error.strerror}); name a folder on another one by --out"
            ) from None
        return True

    def _release(self, byte: int) -> None:
        self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        """Give all up."""
        os.close(self._file)

    def __enter__(self) -> SweepLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
