"""Downloads a file from the first of several mirrors that serves the right content."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from lstm_numba.data.file_io import fault, one_line, reason
from lstm_numba.errors import DataError

#: Seconds to wait for a connection, and for the next bytes of a response.
TIMEOUT = (10.0, 30.0)


@dataclass(frozen=True)
class Progress:
    """State of a download, the argument of a progress callback.

    Attributes
    ----------
    file : str
        Name of the file.
    state : {"present", "download", "failed", "done"}
        On disk already; being downloaded; a mirror failed (see `detail`); downloaded and verified.
    received, total : int
        Bytes so far, and expected size of the file.
    source : str
        Host that serves it, or its path on disk.
    detail : str
        Why a mirror failed, else empty.
    """

    file: str
    state: str
    received: int
    total: int
    source: str
    detail: str = ""


ProgressCallback = Callable[[Progress], object]


class MirrorsFailed(DataError):
    """No mirror served the file; `reasons` has one text per mirror."""

    def __init__(self, name: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"{one_line(name)}: no mirror served it ({'; '.join(self.reasons)})")


class _Refused(Exception):
    """A response that cannot be used."""


class _Sink:
    """Output of the downloader: partial file that reports progress, has a size limit and can be restarted."""

    def __init__(self, file: BinaryIO, limit: int, report: Callable[[int], None]) -> None:
        self._file, self._limit, self._report = file, limit, report
        self.start = file.seek(0, os.SEEK_END)

    def check(self, response: Any, *_: Any, **__: Any) -> None:
        """Check the status of a response before its bytes arrive (a hook of requests).

        Whether a partial response is the requested part is left to the checksum.
        """
        if response.status_code == 200:  # the whole file, even if a part was requested
            self._file.seek(0)
            self._file.truncate()

    def write(self, data: bytes) -> int:
        """Append `data`."""
        written = self._file.write(data)
        if self._file.tell() > self._limit:
            raise _Refused(f"sent more than {self._limit} bytes")
        self._report(self._file.tell())
        return written

    def flush(self) -> None:
        """Do nothing: the downloader calls this after every chunk, and the file is buffered."""


def download(
    name: str,
    urls: Sequence[str],
    target: Path,
    check: Callable[[Path], object],
    *,
    size: int,
    limit: int,
    progress: ProgressCallback | None = None,
) -> None:
    """Download a file, trying mirrors in turn, and put it in place once it is verified.

    An interrupted download leaves ``NAME.part`` behind, which a later one continues if the mirror supports
    it. The file itself appears complete and verified or not at all.

    Parameters
    ----------
    name : str
        Name of the file, for messages.
    urls : sequence of str
        Addresses in order of preference.
    target : Path
        Path of the file; its folder is created if needed.
    check : callable
        Raises `DataError` if the file at a path is not the right one.
    size : int
        Expected size in bytes, for the progress only.
    limit : int
        Size in bytes beyond which a response is refused.
    progress : callable, optional
        Called with a `Progress` as bytes arrive.

    Raises
    ------
    MirrorsFailed
        None of the mirrors served the right content.
    DataError
        The file cannot be written.
    """
    report = progress or (lambda _: None)
    reasons = []
    new = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _partial_file(target) as part:
            for url in urls:
                host = urlsplit(url).netloc
                failure = _try_mirror(url, part, check, limit, _reporter(report, name, size, host))
                if failure is None:
                    part.replace(target)
                    report(Progress(name, "done", target.stat().st_size, target.stat().st_size, host))
                    return
                reasons.append(f"{host}: {failure}")
                report(Progress(name, "failed", 0, size, host, failure))
    except OSError as error:
        raise fault(target, f"cannot be written: {reason(error)}") from None
    finally:
        # Do not leave an empty folder behind, for instance a mistyped one.
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
    raise MirrorsFailed(name, reasons)


def _reporter(progress: ProgressCallback, name: str, size: int, host: str) -> Callable[[int], None]:
    def report(received: int) -> None:
        progress(Progress(name, "download", received, size, host))

    return report


@contextlib.contextmanager
def _partial_file(target: Path) -> Iterator[Path]:
    """Yield the path of the partial file: ``NAME.part``, or another if some process uses that."""
    shared = target.with_name(target.name + ".part")
    try:
        import fcntl
    except ImportError:  # no such locks on this system: never share, never resume
        own = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            yield own
        finally:
            own.unlink(missing_ok=True)
        return
    with shared.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = shared
        except OSError:
            path = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            yield path
        finally:
            # Remove an empty file, or one that a later download would not find.
            if path.exists() and (path != shared or path.stat().st_size == 0):
                path.unlink()


def _try_mirror(
    url: str, part: Path, check: Callable[[Path], object], limit: int, report: Callable[[int], None]
) -> str | None:
    """Download `url` into `part` and check it; return why it failed, or None. Disk errors are raised."""
    while True:
        resumed = part.exists() and part.stat().st_size > 0
        failure, keep = _transfer(url, part, limit, report)
        if failure is None:
            try:
                check(part)
                return None
            except DataError as error:
                failure, keep = "served something else: " + str(error).removeprefix(f"{part}: "), False
        if not keep:
            part.unlink(missing_ok=True)
        if not resumed or keep:
            return one_line(failure)
        # The rest of an earlier attempt may be the cause: try again from the start.


def _transfer(url: str, part: Path, limit: int, report: Callable[[int], None]) -> tuple[str | None, bool]:
    """Append the rest of `url` to `part`; return why it failed, or None, and whether to keep the bytes."""
    import pooch
    import requests

    with part.open("ab") as file:
        sink = _Sink(file, limit, report)
        headers = {"Accept-Encoding": "identity"}  # the file's own bytes, so that offsets count them
        if sink.start:
            headers["Range"] = f"bytes={sink.start}-"
        downloader = pooch.HTTPDownloader(
            chunk_size=1 << 16, timeout=TIMEOUT, headers=headers, hooks={"response": sink.check}
        )
        try:
            downloader(url, sink, None)
        except requests.exceptions.HTTPError as error:
            status = getattr(error.response, "status_code", None)
            return f"HTTP status {status}", status not in (206, 416)
        except requests.exceptions.Timeout:
            return "timed out", True
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            return _connection_failure(error), True
        except (requests.exceptions.RequestException, ValueError) as error:
            return f"{type(error).__name__}: {error}", True
        except _Refused as error:
            return str(error), False
        os.fsync(file.fileno())
    return None, True


def _connection_failure(error: Exception) -> str:
    text = str(error)
    for sign, meaning in (
        ("NameResolution", "no such host, or no network"),
        ("getaddrinfo", "no such host, or no network"),
        ("Connection refused", "connection refused"),
        ("Network is unreachable", "network unreachable"),
        ("ProxyError", "the proxy refuses"),
        ("Proxy", "the proxy refuses"),
        ("IncompleteRead", "the connection broke off"),
        ("Connection broken", "the connection broke off"),
    ):
        if sign in text:
            return meaning
    return "no connection"
