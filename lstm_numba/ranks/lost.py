"""Tells when another process of this machine has died: Linux says so at once, whatever MPI does."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Mapping


class DeathWatch:
    """Calls a function when one of some processes ends, from a thread that waits and takes no time.

    Parameters
    ----------
    processes : dict
        What the function is told of each, by process number.
    tell : callable
        Is called once, for the first that ends.

    Notes
    -----
    Where the system has no descriptors of processes (other than Linux 5.3), nothing is watched.
    """

    def __init__(self, processes: Mapping[int, int], tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._watched: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        if not processes or not hasattr(os, "pidfd_open"):
            return
        try:
            for number, what in processes.items():
                self._watched[os.pidfd_open(number)] = what
        except OSError:  # an older kernel, or a process in another container
            self._close()
            return
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="watch over ranks", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        poll = select.poll()
        for descriptor in (self._stop, *self._watched):
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll()]
        if self._stop not in ready:
            self._tell(self._watched[ready[0]])

    def stop(self) -> None:
        """Watch no longer."""
        if self._thread is None:
            return
        os.write(self._stopper, b"0")
        self._thread.join()
        self._thread = None
        self._close()
        os.close(self._stop)
        os.close(self._stopper)

    def _close(self) -> None:
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched.clear()
