"""Check a wheel's content: ``python tests/support/wheel_contents.py WHEEL``."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from repository import ROOT

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


if __name__ == "__main__":
    path = Path(sys.argv[1])
    found = complaints(path)
    print(f"{path.name}: {len(expected_files())} files expected, {len(found)} complaints")
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)
