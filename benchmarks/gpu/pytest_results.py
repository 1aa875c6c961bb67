"""A plugin of pytest that keeps each failure as soon as it is there, and how far the tests are."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

from lstm_numba.benchmarks.gpu.record import say

_EVERY = 5.0

_counts: Counter[str] = Counter()
_told = time.monotonic()


def pytest_runtest_logreport(report: Any) -> None:
    """Count a test."""
    global _told
    if "PYTEST_XDIST_WORKER" in os.environ:  # whoever started the workers hears of all tests
        return
    if report.when == "call" or report.outcome != "passed":
        _counts[report.outcome] += 1
    if report.outcome == "failed":
        say("test", failed=report.nodeid, when=report.when, text=str(report.longrepr)[-2000:])
    if time.monotonic() - _told > _EVERY:
        _told = time.monotonic()
        say("tests so far", **_counts)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Tell the sums, also after an interruption."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        say("tests", **_counts, exit_status=int(exitstatus))
