"""What data sets there are, where their files come from, and whether they are what they should be.

Files are looked for in the folder that the caller names, then in the one that the environment variable
``LSTM_NUMBA_DATA`` names, then in the user's cache; in each of them directly and in the usual subfolders.
What counts is the SHA-256 of the uncompressed content: a file may be gzipped or not, by anyone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lstm_numba.data.catalog import DATASETS, DataFile, Dataset
from lstm_numba.data.download import MirrorsFailed, Progress, ProgressCallback, download
from lstm_numba.data.file_io import fault, one_line, read_content, reason, sha256
from lstm_numba.errors import DataError

#: Environment variable that names the folder with the data sets.
ENVIRONMENT = "LSTM_NUMBA_DATA"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileCheck:
    """Result of verifying one file: `state` is "ok", "missing" or "damaged"; `detail` says what is wrong."""

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
    """Return the folders where data sets may be, in order of preference.

    Raises
    ------
    DataError
        `data_dir` or the folder that the environment names exists and is no folder.
    """
    import pooch

    found = []
    named = ((data_dir, "data_dir"), (os.environ.get(ENVIRONMENT) or None, ENVIRONMENT))
    for path, origin in named:
        if path is not None:
            try:
                root = Path(path).expanduser()
                if root.exists() and not root.is_dir():
                    raise fault(root, f"is no folder ({origin} names it)")
            except (OSError, RuntimeError, ValueError) as error:  # no access, no such user, NUL in the name
                raise fault(path, f"cannot be used as a folder ({origin} names it): {error}") from None
            found.append(root)
    return [*found, Path(pooch.os_cache("lstm_numba"))]


def _places(which: Dataset, root: Path) -> list[Path]:
    return [root, *(root / folder for folder in which.folders)]


def _find_in(which: Dataset, file: DataFile, folders: Sequence[Path]) -> Path | None:
    for root in folders:
        for place in _places(which, root):
            for name in file.names:
                path = place / name
                try:
                    if path.is_file():
                        return path
                except OSError as error:
                    raise fault(path, f"cannot be read: {reason(error)}") from None
    return None


def _home(which: Dataset, root: Path) -> Path:
    """Return the folder below `root` for new files: beside those that are there, else one of their own."""
    for file in which.files:
        path = _find_in(which, file, [root])
        if path is not None:
            return path.parent
    return root if root.name.lower() == which.name else root / which.name


Diagnosis = Callable[[Path, bytes], object]


def checked_content(file: DataFile, path: Path, diagnose: Diagnosis | None = None) -> bytes:
    """Return the uncompressed content of `path` after comparing it with what `file` must be.

    Parameters
    ----------
    file : DataFile
        What it must be.
    path : Path
        Where it lies.
    diagnose : callable, optional
        Called with path and content where the checksum differs, to raise an error that tells more.

    Raises
    ------
    DataError
        It is something else; the text names the file and the fault.
    """
    # Twice the right size is enough to say what is wrong, and little for a gzip file that swells.
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
    """Return the verified content of a data set's file, downloading it if it is nowhere.

    Parameters
    ----------
    name, file_name : str
        Data set and `DataFile.name`.
    data_dir : path, optional
        Folder to look in first, and to download to.
    diagnose : callable, optional
        See `checked_content`.
    progress : callable, optional
        Gets a `Progress` as a download goes on.

    Raises
    ------
    DataError
        The file is damaged, or missing and not to be downloaded.
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
    """Download what is missing or damaged of a data set.

    Parameters
    ----------
    name : str
        Data set.
    data_dir : path, optional
        Folder to put it in; by default the one that ``LSTM_NUMBA_DATA`` names, else the user's cache. Files
        go to its subfolder named after the data set, or beside files of the data set that are there.
    progress : callable, optional
        Gets a `Progress` for every file that is there, every piece that comes and every mirror that fails.
    mirrors : sequence of str, optional
        Addresses to try instead of the known ones, in this order; a file's name is appended to each.

    Returns
    -------
    list of Path
        The files, verified. Empty for a data set that has none.

    Raises
    ------
    DataError
        No mirror served a file, or a folder cannot be written. What came before stays for the next time.
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
            # Anyone may have compressed it anew, a little worse; nobody needs more than its content has.
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
    """Compare the files of a data set with what they must be.

    Parameters
    ----------
    name : str
        Data set.
    data_dir : path, optional
        Folder to look in; by default the one that ``LSTM_NUMBA_DATA`` names, and then the user's cache.

    Returns
    -------
    list of FileCheck
        One a file. Empty for a data set that has none.
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
