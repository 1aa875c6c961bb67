"""Check the package as a user gets it: ``python tests/support/check_wheel.py [WHEEL]``.

Builds a wheel unless it is given one, compares its content with the tree, unpacks it in another folder and
runs mypy, also as strictly as it can on a program that uses the package, pyright on that program where it is
installed, and lint-imports there: of an editable install they see a part of the files only, because `cli`,
`data` and `benchmarks` are elsewhere in the repository.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from repository import ROOT

#: What a build needs; a copy, so that the build leaves nothing in the tree.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "lstm_numba", "benchmarks", "cli", "data")


#: A program that uses the package, right and wrong.
TYPED_USE = ROOT / "tests" / "support" / "typed_use.py"

#: import-linter has a script, but no module to run.
_LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


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


#: Package -> its folder in the repository, where that is not the name with slashes.
PACKAGE_DIR = {"lstm_numba.benchmarks": "benchmarks", "lstm_numba.cli": "cli", "lstm_numba.data": "data"}


def packages_in_tree() -> dict[str, Path]:
    """Packages that the repository holds, found by their ``__init__.py``."""
    found = {}
    for top, folder in [("lstm_numba", "lstm_numba"), *PACKAGE_DIR.items()]:
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found[".".join((top, *inner))] = init.parent
    return found


def expected_files() -> set[str]:
    """Every file that belongs in the wheel, beside its metadata folder."""
    files = {"lstm_numba/py.typed"}
    for package, folder in packages_in_tree().items():
        files |= {f"{package.replace('.', '/')}/{path.name}" for path in folder.glob("*.py")}
    return files


def complaints(wheel: Path) -> list[str]:
    """Differences between a wheel and the tree; empty when it is right."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    code = {name for name in names if ".dist-info/" not in name}
    result = [f"missing: {name}" for name in sorted(expected_files() - code)]
    return result + [f"should not be there: {name}" for name in sorted(code - expected_files())]


def pyright(unpacked: Path) -> list[tuple[str, ...]]:
    """The second type checker's arguments to Python, where it or its fork basedpyright is installed."""
    found = [name for name in ("basedpyright", "pyright") if importlib.util.find_spec(name)]
    settings = {
        "include": [TYPED_USE.name],
        "extraPaths": [str(unpacked)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.10",
    }
    folder = unpacked / "pyright"
    folder.mkdir()
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(TYPED_USE, folder)
    return [("-m", name, "-p", str(folder), "--pythonpath", sys.executable) for name in found[:1]]


def main() -> int:
    """Print what is wrong and return the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else build_wheel(folder)
        found = complaints(path)
        print(
            f"{path.name}: {len(expected_files())} files expected, {len(found)} complaints", *found, sep="\n"
        )
        unpacked = folder / "unpacked"
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(unpacked)
        shutil.copy(ROOT / "pyproject.toml", unpacked)
        environment = {**os.environ, "PYTHONPATH": str(unpacked)}
        results = [
            subprocess.run([sys.executable, *tool], cwd=unpacked, env=environment).returncode
            for tool in (
                ("-m", "mypy", "-p", "lstm_numba"),
                ("-m", "mypy", "--strict", "--follow-imports=silent", str(TYPED_USE)),
                *pyright(unpacked),
                ("-c", _LINT_IMPORTS, "--no-cache"),
            )
        ]
    return int(bool(found) or any(results))


if __name__ == "__main__":
    sys.exit(main())
