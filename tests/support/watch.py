"""Notices what reading a file must never do: run something, write elsewhere, connect, fill memory."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Python's audit events -> the arguments that are paths; of the others, each occurrence is one too many.
_PATHS = {
    "os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.symlink": (1,),
    "os.link": (1,), "os.truncate": (0,), "os.chmod": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
_IMPORTS = ("exec", "marshal.loads", "ctypes.dlopen")
_NEVER = (
    *_IMPORTS, "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
    "os.forkpty", "os.startfile", "pickle.find_class", "socket.connect", "socket.bind", "urllib.Request",
    "webbrowser.open", "os.putenv", "os.chdir",
)  # fmt: skip

_folder: Path | None = None
_importing = False
_seen: list[str] = []
_hooked = False


def _is_outside(path: Any) -> bool:
    if isinstance(path, int):  # a descriptor, of what was opened before
        return False
    assert _folder is not None
    found = Path(os.path.abspath(os.fsdecode(path)))
    return not (found.is_relative_to(_folder) or found.is_relative_to(os.environ["NUMBA_CACHE_DIR"]))


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    wrong = event in _NEVER and not (_importing and event in _IMPORTS)
    if event == "open":
        path, _, flags = arguments
        wrong = bool((flags or 0) & _WRITES) and _is_outside(path)
    elif event in _PATHS:
        wrong = any(_is_outside(arguments[k]) for k in _PATHS[event])
    if wrong:
        _seen.append(f"{event} {arguments!r}"[:300])


@contextmanager
def watched(folder: Path, importing: bool = False) -> Iterator[None]:
    """Fail if anything is executed inside, or written outside a folder and the one for compiled kernels.

    What is imported for the first time is executed, too: do once before what is to be watched, or say that it
    is `importing`.
    """
    global _folder, _hooked, _importing
    if not _hooked:
        sys.addaudithook(_hook)  # Python has no way to take one off again
        _hooked = True
    _seen.clear()
    _folder, _importing = folder.resolve(), importing
    try:
        yield
    finally:
        _folder = None
        assert _seen == [], _seen[:5]  # whether it was refused or not


@contextmanager
def bounded(more: int) -> Iterator[None]:
    """Let this process take so many bytes more; what wants others gets a MemoryError, and not the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
