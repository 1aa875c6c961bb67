"""Type-check the package as a user gets it: ``python tests/support/mypy_on_wheel.py [WHEEL]``.

Builds a wheel unless it is given one, unpacks it in another folder and runs mypy there.

mypy on an editable install follows the import hook only part of the way and checks a fraction of the files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from repository import ROOT

#: What a build needs; a copy, so that the build leaves nothing in the tree.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "lstm_numba", "benchmarks", "cli", "data")


def build_wheel(folder: Path) -> Path:
    """Build a wheel from a copy of the sources, under `folder`."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def main() -> int:
    """Return mypy's exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else build_wheel(folder)
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(unpacked)
        shutil.copy(ROOT / "pyproject.toml", unpacked)
        return subprocess.run([sys.executable, "-m", "mypy", "-p", "lstm_numba"], cwd=unpacked).returncode


if __name__ == "__main__":
    sys.exit(main())
