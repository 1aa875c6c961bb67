"""One file from the first of several mirrors that serves it as it should be."""

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

#: Seconds to wait for a connection, and for the next bytes of an answer.
TIMEOUT = (10.0, 30.0)


@dataclass(frozen=True)
class Progress:
    """How far a download is; what a progress callback gets.

    Attributes
    ----------
    file : str
        Name of the file.
    state : {"present", "download", "failed", "done"}
        Already there; bytes are coming; a mirror failed (see `detail`); there and verified.
    received, total : int
        Bytes so far, and bytes that the file is expected to have.
    source : str
        Host that serves it, or the path where it lies.
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
    """No mirror served the file; `reasons` has one text a mirror."""

    def __init__(self, name: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"{one_line(name)}: no mirror served it ({'; '.join(self.reasons)})")


class _Refused(Exception):
    """An answer that cannot be used."""


class _Sink:
    """What the downloader writes to: a partial file that reports, stops at a limit, and can start over."""

    def __init__(self, file: BinaryIO, limit: int, report: Callable[[int], None]) -> None:
        self._file, self._limit, self._report = file, limit, report
        self.start = file.seek(0, os.SEEK_END)

    def check(self, response: Any, *_: Any, **__: Any) -> None:
        """Look at an answer's status before its bytes come (a hook of requests).

        That a part is the one that was asked for is left to the checksum.
        """
        if response.status_code == 200:  # the whole, whatever was asked for
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
        """Leave flushing to the file's own buffer: the downloader asks for it after every chunk."""


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

    An interrupted download leaves ``NAME.part`` behind, and a later one goes on from there if the mirror
    can. The file itself appears whole and verified or not at all.

    Parameters
    ----------
    name : str
        The file's name for messages.
    urls : sequence of str
        Where to get it, in order of preference.
    target : Path
        Where to put it; its folder is made if need be.
    check : callable
        Raises `DataError` if the file at a path is not the right one.
    size : int
        Bytes that it is expected to have, for the progress only.
    limit : int
        Bytes at which to stop believing a mirror.
    progress : callable, optional
        Called with a `Progress` as bytes come.

    Raises
    ------
    MirrorsFailed
        None of the mirrors served the right content.
    DataError
        The file cannot be written.
    """
    tell = progress or (lambda _: None)
    reasons = []
    new = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _partial_file(target) as part:
            for url in urls:
                host = urlsplit(url).netloc
                failure = _try_mirror(url, part, check, limit, _reporter(tell, name, size, host))
                if failure is None:
                    part.replace(target)
                    tell(Progress(name, "done", target.stat().st_size, target.stat().st_size, host))
                    return
                reasons.append(f"{host}: {failure}")
                tell(Progress(name, "failed", 0, size, host, failure))
    except OSError as error:
        raise fault(target, f"cannot be written: {reason(error)}") from None
    finally:
        # A mistyped folder shall not stay behind empty.
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
    raise MirrorsFailed(name, reasons)


def _reporter(tell: ProgressCallback, name: str, size: int, host: str) -> Callable[[int], None]:
    def report(received: int) -> None:
        tell(Progress(name, "download", received, size, host))

    return report


@contextlib.contextmanager
def _partial_file(target: Path) -> Iterator[Path]:
    """Yield the path of the partial file: ``NAME.part``, or one of our own while another process has that."""
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
            # An empty rest, or one that nobody would find again, is litter.
            if path.exists() and (path != shared or path.stat().st_size == 0):
                path.unlink()


def _try_mirror(
    url: str, part: Path, check: Callable[[Path], object], limit: int, report: Callable[[int], None]
) -> str | None:
    """Download `url` into `part` and check it; return why it failed, or None. Errors of our own disk pass."""
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
        # What an earlier attempt left may be the culprit: once more, from the start.


def _transfer(url: str, part: Path, limit: int, report: Callable[[int], None]) -> tuple[str | None, bool]:
    """Append the rest of `url` to `part`; return why it failed, or None, and whether to keep what came."""
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
