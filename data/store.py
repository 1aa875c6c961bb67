"""Finds, downloads and verifies the files of data sets.

Files are searched for in a given folder, then in the one of the environment variable ``LSTM_NUMBA_DATA``,
then in the user's cache; in each of them directly and in the usual subfolders. They are verified by the
SHA-256 of the uncompressed content, so that a file may be gzipped or not, by any program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lstm_numba.data.catalog import DATASETS, DataFile, Dataset
from lstm_numba.data.download import MirrorsFailed, Progress, ProgressCallback, download
from lstm_numba.data.file_io import fault, one_line, read_content, reason, sha256
from lstm_numba.errors import DataError

#: Environment variable with the folder of the data sets.
ENVIRONMENT = "LSTM_NUMBA_DATA"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileCheck:
    """Result of verifying a file: `state` is "ok", "missing" or "damaged"; `detail` says what is wrong."""

    file: str
    state: str
    path: Path | None
    detail: str


def dataset(name: str) -> Dataset:
    """Return the data set called `name`, or raise ValueError."""
    if name not in DATASETS:
        raise ValueError(f"name: expected one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name]


def roots(data_dir: PathLike | None) -> list[Path]:
    """Return the folders in which data sets are searched for, in order of preference.

    Raises
    ------
    DataError
        `data_dir` or the path in the environment variable exists and is no folder.
    """
    import pooch

    found = []
    named = ((data_dir, "data_dir"), (os.environ.get(ENVIRONMENT) or None, ENVIRONMENT))
    for path, origin in named:
        if path is not None:
            try:
                root = Path(path).expanduser()
                if root.exists() and not root.is_dir():
                    raise fault(root, f"is not a folder (named by {origin})")
            except (OSError, RuntimeError, ValueError) as error:  # no access, no such user, NUL in the name
                raise fault(path, f"cannot be used as a folder (named by {origin}): {error}") from None
            found.append(root)
    return [*found, Path(pooch.os_cache("lstm_numba"))]


def _subfolders(which: Dataset, root: Path) -> list[Path]:
    return [root, *(root / folder for folder in which.folders)]


def _find_in(which: Dataset, file: DataFile, folders: Sequence[Path]) -> Path | None:
    for root in folders:
        for folder in _subfolders(which, root):
            for name in file.names:
                path = folder / name
                try:
                    if path.is_file():
                        return path
                except OSError as error:
                    raise fault(path, f"cannot be read: {reason(error)}") from None
    return None


def _home(which: Dataset, root: Path) -> Path:
    """Return the folder below `root` for new files: that of existing files, else a subfolder."""
    for file in which.files:
        path = _find_in(which, file, [root])
        if path is not None:
            return path.parent
    return root if root.name.lower() == which.name else root / which.name


Diagnosis = Callable[[Path, bytes], object]


def checked_content(file: DataFile, path: Path, diagnose: Diagnosis | None = None) -> bytes:
    """Return the uncompressed content of `path` after comparing its checksum with that of `file`.

    Parameters
    ----------
    file : DataFile
        The expected file.
    path : Path
        Its path on disk.
    diagnose : callable, optional
        Called with path and content if the checksum differs, to raise a more specific error.

    Raises
    ------
    DataError
        It has other content; the text names the file and the fault.
    """
    # Twice the right size is enough to find out what is wrong, and bounds the size of a gzip bomb.
    content = read_content(path, 2 * file.size + (1 << 16))
    digest = sha256(content)
    if digest != file.sha256:
        if diagnose is not None:
            diagnose(path, content)
        _diagnose(file, path, content)
        raise fault(path, f"not the published file: content has sha256 {digest}, expected {file.sha256}")
    return content


def _diagnose(file: DataFile, path: Path, content: bytes) -> None:
    if file.shape:
        from lstm_numba.data.idx import read_idx

        shape = read_idx(path, len(file.shape)).shape
        if shape != file.shape:
            texts = [" x ".join(map(str, s)) for s in (shape, file.shape)]
            raise fault(path, f"wrong count: the header declares {texts[0]}, expected {texts[1]}")
    else:
        from lstm_numba.data.corpus import decode_text

        decode_text(path, content)
        if len(content) < file.size:
            raise fault(path, f"truncated or another text: {len(content)} bytes, expected {file.size}")


def content(
    name: str,
    file_name: str,
    data_dir: PathLike | None = None,
    diagnose: Diagnosis | None = None,
    progress: ProgressCallback | None = None,
) -> bytes:
    """Return the verified content of a data set's file, downloading it if it is missing.

    Parameters
    ----------
    name, file_name : str
        Data set and `DataFile.name`.
    data_dir : path, optional
        Folder to search first, and to download to.
    diagnose : callable, optional
        See `checked_content`.
    progress : callable, optional
        Called with a `Progress` during a download.

    Raises
    ------
    DataError
        The file is damaged, or missing and cannot be downloaded.
    """
    which = dataset(name)
    file = next(f for f in which.files if f.name == file_name)
    folders = roots(data_dir)
    path = _find_in(which, file, folders)
    if path is None:
        path = _fetch_file(which, file, folders[0], None, progress)
    return checked_content(file, path, diagnose)


def fetch(
    name: str,
    data_dir: PathLike | None = None,
    *,
    progress: ProgressCallback | None = None,
    mirrors: Sequence[str] | None = None,
) -> list[Path]:
    """Download the missing or damaged files of a data set.

    Parameters
    ----------
    name : str
        Data set.
    data_dir : path, optional
        Target folder; by default that of ``LSTM_NUMBA_DATA``, else the user's cache. Files are written to its
        subfolder with the name of the data set, or to the folder of existing files of the data set.
    progress : callable, optional
        Called with a `Progress` for every existing file, every piece that arrives and every mirror that
        fails.
    mirrors : sequence of str, optional
        Addresses to try instead of the known ones, in this order; the file's name is appended to each.

    Returns
    -------
    list of Path
        The verified files. Empty for a data set without files.

    Raises
    ------
    DataError
        No mirror served a file, or a folder cannot be written. Partial downloads are kept for the next time.
    """
    which = dataset(name)
    if not which.files:
        return []
    root = roots(data_dir)[0]
    paths = []
    for file in which.files:
        path = _find_in(which, file, [root])
        if path is not None:
            try:
                checked_content(file, path)
            except DataError as error:
                if path.name != file.name:
                    raise DataError(f"{error}; remove this file to have it downloaded") from None
                path = None
            else:
                if progress is not None:
                    progress(
                        Progress(file.name, "present", path.stat().st_size, path.stat().st_size, str(path))
                    )
        paths.append(path or _fetch_file(which, file, root, mirrors, progress))
    return paths


def _fetch_file(
    which: Dataset,
    file: DataFile,
    root: Path,
    mirrors: Sequence[str] | None,
    progress: ProgressCallback | None,
) -> Path:
    addresses = [address.rstrip("/") + "/" for address in (which.mirrors if mirrors is None else mirrors)]
    home = _home(which, root)
    target = home / file.name
    try:
        download(
            file.name,
            [address + file.name for address in addresses],
            target,
            lambda path: checked_content(file, path),
            size=file.download_size,
            # A mirror may have compressed it differently, but not to more than the size of its content.
            limit=file.size + (1 << 16),
            progress=progress,
        )
    except MirrorsFailed as error:
        missing = [f.name for f in which.files if _find_in(which, f, [root]) is None] or [file.name]
        origin = f", e.g. from {addresses[0]}," if addresses else ""
        raise DataError(
            f"{which.name}: cannot download {file.name} ({'; '.join(error.reasons)}); "
            f"download {', '.join(missing)} by other means{origin} and put them into {one_line(home)}, "
            f"or name their folder with --data-dir or {ENVIRONMENT}; "
            f"the data sets digits and grammar need no download"
        ) from None
    return target


def verify(name: str, data_dir: PathLike | None = None) -> list[FileCheck]:
    """Verify the files of a data set.

    Parameters
    ----------
    name : str
        Data set.
    data_dir : path, optional
        Folder to search; by default that of ``LSTM_NUMBA_DATA``, then the user's cache.

    Returns
    -------
    list of FileCheck
        One per file. Empty for a data set without files.
    """
    which = dataset(name)
    folders = roots(data_dir)
    if data_dir is not None:
        folders = folders[:1]
    checks = []
    for file in which.files:
        path = _find_in(which, file, folders)
        if path is None:
            checks.append(FileCheck(file.name, "missing", None, f"not in {', '.join(map(str, folders))}"))
            continue
        try:
            checked_content(file, path)
        except DataError as error:
            checks.append(FileCheck(file.name, "damaged", path, str(error)))
        else:
            checks.append(FileCheck(file.name, "ok", path, ""))
    return checks


def cached_files() -> list[Path]:
    """The files of data sets in the user's cache, and what interrupted downloads left there."""
    root = roots(None)[-1]
    found = []
    for which in DATASETS.values():
        for folder in _subfolders(which, root) if which.files else []:
            names = [name for file in which.files for name in file.names]
            found += [folder / name for name in names if (folder / name).is_file()]
            found += [part for name in names for part in sorted(folder.glob(f"{name}*.part"))]
    return list(dict.fromkeys(found))


def remove_cached(files: Iterable[Path]) -> None:
    """Remove files of `cached_files`, and their folders where nothing else is in them.

    Raises
    ------
    OSError
        A file cannot be removed.
    """
    root = roots(None)[-1]
    for path in files:
        path.unlink(missing_ok=True)
        for folder in (path.parent, root):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()
