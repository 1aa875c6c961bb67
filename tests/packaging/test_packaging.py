"""The list of packages against the tree, and what a wheel puts on a user's machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from check_wheel import PACKAGE_DIR, SOURCES, complaints, expected_files, packages_in_tree
from repository import ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text()


def listed(table: str, pattern: str) -> list[str]:
    """Strings in a table of pyproject.toml (Python 3.10 has no parser for TOML)."""
    body = PYPROJECT.split(f"[{table}]\n", 1)[1].split("\n[", 1)[0]
    return re.findall(pattern, body, re.MULTILINE)


@pytest.mark.smoke
def test_packages_list_is_the_tree() -> None:
    block = PYPROJECT.split("packages = [", 1)[1].split("]", 1)[0]
    assert sorted(re.findall(r'"(.+?)"', block)) == sorted(packages_in_tree())


def test_package_dir_is_what_the_check_believes() -> None:
    pairs = re.findall(
        r'^"(.+?)" = "(.+?)"$', PYPROJECT.split("[tool.setuptools.package-dir]")[1], re.MULTILINE
    )
    assert dict(pairs[: len(PACKAGE_DIR)]) == PACKAGE_DIR


def test_version_is_said_once() -> None:
    import lstm_numba

    assert listed("project", r'^version = "(.+)"') == [lstm_numba.__version__]


def test_nothing_imports_the_folders_by_their_name_in_the_repository() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("lstm_numba", "cli", "data", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(from|import) (benchmarks|cli|data)\b", line)
    ]
    assert wrong == []


def test_one_module_imports_numba_cuda() -> None:
    """What import-linter cannot see: to it ``numba.cuda`` is Numba. Examples do what users do."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lstm_numba").rglob("*.py")
        if "examples" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(from numba import .*\bcuda\b|(from|import) numba\.cuda\b)", line)
    }
    assert found == {"lstm_numba/engines/cuda/driver.py"}


def test_folders_are_no_top_level_modules(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u\n"
        "rooms = 'benchmarks', 'cli', 'data'\n"
        "assert all(u.find_spec(f'lstm_numba.{room}') for room in rooms)\n"
        "print(*map(u.find_spec, rooms))\n"
    )
    # -I and another folder: neither the current folder nor PYTHONPATH may help.
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None"] * 3


def test_import_changes_nothing_and_compiles_nothing() -> None:
    code = (
        "import os, sys, warnings\n"
        "before = dict(os.environ), list(warnings.filters)\n"
        "import lstm_numba, lstm_numba.cli.main\n"
        "assert (dict(os.environ), list(warnings.filters)) == before\n"
        "print([m for m in ('numba', 'llvmlite', 'numpy', 'scipy', 'pooch') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77", reason="building without isolation needs a recent setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=source,
        env=environment,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert complaints(wheel) == []
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lstm_numba"}
    assert len(expected_files()) > 20


def test_the_tables_of_the_engines_list_every_file() -> None:
    text = (
        (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("### The engines")[2].partition("\n### ")[0]
    )
    both, cpu, cuda = re.split(r"^Only `engines/\w+/`:$", text, flags=re.MULTILINE)
    for device, own in (("cpu", cpu), ("cuda", cuda)):
        rows = "\n".join(re.findall(r"^\| (`.*?) \|", both + own, re.MULTILINE))
        files = {path.name for path in (ROOT / "lstm_numba" / "engines" / device).glob("*.py")}
        assert files - {"__init__.py"} - set(re.findall(r"`(\w+\.py)`", rows)) == set()
        assert (
            set(re.findall(r"`(\w+\.py)`", "\n".join(re.findall(r"^\| (`.*?) \|", own, re.MULTILINE))))
            <= files
        )
