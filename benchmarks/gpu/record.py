"""What a section's program finds goes at once to the one file of results, a JSON object a line."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

#: Environment variables of a section's programs: file, section, when the run began and when the section has
#: to be done (both as `time.time` tells them), and the names for folders of this machine as JSON.
RESULTS, SECTION = "ON_GPU_RESULTS", "ON_GPU_SECTION"
BEGAN, END = "ON_GPU_BEGAN", "ON_GPU_END"
NAMES = "ON_GPU_NAMES"

#: The verdict where nothing is computed.
NOT_COMPARED = "not compared"

_failed = False


def append(path: str | os.PathLike[str], text: str) -> None:
    """Add text to a file in one piece: other processes may write too, and nothing waits in a buffer."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def named(text: str, environment: Mapping[str, str]) -> str:
    """Text in which folders of this machine have the names that the environment gives them."""
    for folder, name in json.loads(environment.get(NAMES, "{}")).items():
        text = re.sub(re.escape(folder) + r"(?![\w-])", name, text)
    return text


def keep(environment: Mapping[str, str], kind: str, facts: Mapping[str, Any]) -> str:
    """Write a result to the file that the environment names; return the line."""
    at = round(time.time() - float(environment.get(BEGAN, time.time())), 1)
    line = {"at": at, "section": environment.get(SECTION, ""), "kind": kind, **_plain(facts)}
    text = named(json.dumps(line, default=str), environment)
    if RESULTS in environment:
        append(environment[RESULTS], text + "\n")
    return text


def say(kind: str, **facts: Any) -> None:
    """Keep a result and print its beginning; ``right=False`` and ``failed=...`` make the program fail."""
    global _failed
    _failed = _failed or is_failure(facts)
    text = keep(os.environ, kind, facts)
    print(text if len(text) < 400 else f"{text[:400]}...", flush=True)


def is_failure(facts: Mapping[str, Any]) -> bool:
    """Whether a result says that something is wrong."""
    return "failed" in facts or facts.get("right") is False


def _plain(value: Any) -> Any:
    """The value with texts for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def left() -> float:
    """Seconds until this program has to be done."""
    return float(os.environ.get(END, "inf")) - time.time()


@contextlib.contextmanager
def guarded(kind: str, **facts: Any) -> Iterator[None]:
    """Keep what is raised in a ``with`` block as a result, and go on."""
    try:
        yield
    except Exception as error:
        trace = traceback.format_exc()[-1500:]
        say(kind, **facts, failed=f"{type(error).__name__}: {error}"[:600], trace=trace)


def computing() -> bool:
    """Whether kernels compute something: not with the stand-in driver."""
    from lstm_numba.benchmarks import stand_in

    return not stand_in.active()


def verdict(right: bool) -> bool | str:
    """What is said of a comparison."""
    return right if computing() else NOT_COMPARED


def finish() -> None:
    """End the program, with status 1 if something failed."""
    sys.exit(int(_failed))
