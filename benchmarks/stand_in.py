"""A stand-in for NVIDIA's driver, to measure the host's work on a machine without a GPU.

Its source is `stand_in_driver.c` in this folder, part of a checkout and not installed. Kernels are compiled
as for a device, and launches are counted; nothing is computed.
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
    """The driver that this process loads; None where there is none."""
    try:
        return ctypes.CDLL(_NAME)
    except OSError:
        return None


def active() -> bool:
    """Whether this process uses the stand-in driver."""
    return hasattr(_driver(), "stand_in_report")


def build() -> Path:
    """Compile the driver if needed; return its folder.

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
    """Environment variables with which a process loads the stand-in driver."""
    folders = [str(build()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)}


def enter() -> None:
    """Restart this program with the stand-in driver, unless it is already loaded."""
    if not active():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **environment()})


def still() -> None:
    """From now on, skip fills and copies within the device: the host does not wait for them."""
    _driver().stand_in_still()


def reset() -> None:
    """Set all counts to zero."""
    _driver().stand_in_reset()


def counts() -> dict[str, Any]:
    """The counts: calls by kind, and under "kernels" the launches of each kernel by name."""
    report = _driver().stand_in_report
    report.restype = ctypes.c_char_p
    found: dict[str, Any] = json.loads(report())
    kernels: dict[str, int] = {}
    for name, count in found["kernels"].items():
        short = readable(name)
        kernels[short] = kernels.get(short, 0) + count
    return {**found, "kernels": dict(sorted(kernels.items(), key=lambda item: -item[1]))}


def readable(name: str) -> str:
    """A kernel's name without Numba's mangling."""
    parts, offset = [], 3
    while name.startswith("_ZN") and (found := re.match(r"\d+", name[offset:])):
        offset += found.end()
        parts.append(name[offset : offset + int(found[0])])
        offset += int(found[0])
    return parts[-1].split("$")[0] if parts else name[:80]
