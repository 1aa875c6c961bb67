"""What worker processes do in tests; here, where such a process can import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def work(job: tuple[str, Any], channel: Any) -> Any:
    """Do what the job says."""
    what, value = job
    if what == "square":
        channel.report(f"squaring {value}")
        return value * value, os.getpid()
    if what == "fail":
        raise ValueError(f"not\n{value}")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "threads":
        import numba

        return numba.get_num_threads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert what == "wait"
    Path(value).touch()
    while not channel.stopped:
        time.sleep(0.02)
    Path(value).unlink()
    return "stopped"
