"""A machine without a GPU measures what the host does: Python with a stand-in for NVIDIA's driver.

The driver is `stand_in_driver.c`, which stands beside this file in a checkout and is not installed. Kernels
are compiled as for a device, and launches counted; nothing is computed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_name("stand_in_driver.c")
_NAME = "libcuda.so.1"


@functools.cache
def _driver() -> Any:
    """The driver of this process; None where there is none."""
    try:
        return ctypes.CDLL(_NAME)
    except OSError:
        return None


def active() -> bool:
    """Whether this process has the stand-in for its driver."""
    return hasattr(_driver(), "stand_in_report")


def build() -> Path:
    """Compile the driver where that has not been done; return the folder that it lies in.

    Raises
    ------
    SystemExit
        It cannot be compiled; the text says why.
    """
    if not _SOURCE.is_file():
        raise SystemExit(f"{_SOURCE}: missing; the stand-in driver is part of a checkout only")
    text = _SOURCE.read_bytes()
    user = os.getuid() if hasattr(os, "getuid") else ""
    name = f"lstm-numba-stand-in-{user}-{hashlib.sha256(text).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    if not (folder / _NAME).is_file():
        compiler = shutil.which("cc")
        if compiler is None or not sys.platform.startswith("linux"):
            raise SystemExit("the stand-in driver needs Linux and a C compiler: no cc is on PATH")
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f"{_NAME}.{os.getpid()}"
        options = ["-O2", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{_NAME}"]
        command = [compiler, *options, str(_SOURCE), "-o", str(part), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the stand-in driver does not compile:\n{done.stderr}")
        part.replace(folder / _NAME)  # others may build it at the same time
    return folder


def environment() -> dict[str, str]:
    """Environment variables with which a process gets the stand-in for its driver."""
    folders = [str(build()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)}


def enter() -> None:
    """Begin this program anew with the stand-in driver, unless it has it already."""
    if not active():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **environment()})


def still() -> None:
    """From here on fill and copy nothing within the device: the host does not wait for that."""
    _driver().stand_in_still()


def reset() -> None:
    """Forget what was counted."""
    _driver().stand_in_reset()


def counts() -> dict[str, Any]:
    """What was counted since: calls by kind, and under "kernels" the launches of each kernel by its name."""
    report = _driver().stand_in_report
    report.restype = ctypes.c_char_p
    found: dict[str, Any] = json.loads(report())
    kernels: dict[str, int] = {}
    for name, count in found["kernels"].items():
        short = readable(name)
        kernels[short] = kernels.get(short, 0) + count
    return {**found, "kernels": dict(sorted(kernels.items(), key=lambda item: -item[1]))}


def readable(name: str) -> str:
    """A kernel's name without what Numba's mangling adds."""
    parts, at = [], 3
    while name.startswith("_ZN") and (found := re.match(r"\d+", name[at:])):
        at += found.end()
        parts.append(name[at : at + int(found[0])])
        at += int(found[0])
    return parts[-1].split("$")[0] if parts else name[:80]
