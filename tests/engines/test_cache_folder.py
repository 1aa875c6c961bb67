"""Kernels on disk: damaged files, full disks, folders that cannot be written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_tools import invoke
from numba.core import caching
from repository import ROOT

import lstm_numba.engines.cpu.options  # noqa: F401  (applies `numba_cache`)
from lstm_numba.errors import CacheWarning

#: Compiles a small kernel, says how many functions had to be compiled, and computes a checksum with it.
_PROGRAM = """
import ctypes
import numpy as np
from numba.core import event
from lstm_numba.engines.cpu.checksum import checksum_address
from lstm_numba.engines.numba_cache import cache_folder

class Heard(event.Listener):
    count = 0
    def on_start(self, event):
        self.count += 1
    def on_end(self, event):
        pass

heard = Heard()
with event.install_listener("numba:compile", heard):
    address = checksum_address()
data, sums = np.arange(100), np.zeros(1, np.int64)
words = np.array([data.ctypes.data, data.nbytes])
ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(address)(words.ctypes.data, 1, sums.ctypes.data, 0, 1)
print(heard.count, sums[0], cache_folder())
"""
_SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
_KEYS = [("float32", 1), ("float64", 2)]


def _environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's variables with others; without those that are empty."""
    together = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return {name: value for name, value in together.items() if value}


def _run(folder: Path, program: str = _PROGRAM, before: Sequence[str] = (), **variables: str) -> Any:
    """A process's (functions compiled, checksum, cache folder) and what it said on standard error."""
    done = subprocess.run(
        [*before, sys.executable, "-c", program],
        cwd=folder, env=_environment(variables), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compiled, total, kept = done.stdout.split()
    return int(compiled), int(total), kept, done.stderr


def _changes(content: bytes) -> list[bytes]:
    """What is left of a file after a crash, or is found instead."""
    cut = [content[:size] for size in range(len(content))]
    flipped = [content[:n] + bytes([content[n] ^ 0x55]) + content[n + 1 :] for n in range(len(content))]
    return [*cut, *flipped, bytes(len(content)), os.urandom(len(content)), b"garbage\n"]


def test_a_damaged_file_is_a_miss_and_is_written_anew(tmp_path: Path) -> None:
    file = caching.IndexDataCacheFile(str(tmp_path), "kernel", "stamp")
    for key in _KEYS:
        file.save(key, [key, "machine code"])
    assert [file.load(key) for key in _KEYS] == [[key, "machine code"] for key in _KEYS]
    paths = sorted(tmp_path.glob("kernel*"))
    assert [path.suffix for path in paths] == [".nbc", ".nbc", ".nbi"]
    found = set()
    for path in (paths[0], paths[2]):
        content = path.read_bytes()
        for damaged in _changes(content):
            path.write_bytes(damaged)
            answer = file.load(_KEYS[0])
            assert answer in (None, [_KEYS[0], "machine code"]), (path.suffix, damaged)
            found.add(answer is None)
            file.save(_KEYS[0], [_KEYS[0], "new"])
            assert file.load(_KEYS[0]) == [_KEYS[0], "new"]
            path.write_bytes(content)
            file.save(_KEYS[0], [_KEYS[0], "machine code"])
    assert found == {True, False}  # without its seal, or a part of it, a file is whole as Numba wrote it


def test_a_process_compiles_what_is_damaged_on_disk(tmp_path: Path) -> None:
    compiled, total, kept, _ = _run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert compiled > 0
    assert Path(kept).parent == tmp_path
    files = [*tmp_path.rglob("*.nbi"), *tmp_path.rglob("*.nbc")]
    for number, path in enumerate(sorted(files)):
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes([b"", content[:middle], flipped][number % 3])
    again = _run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert again == (again[0], total, kept, "")
    assert again[0] > 0
    assert _run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path)) == (0, total, kept, "")


def _told_once(text: str) -> bool:
    return text.count("CacheWarning: ") == 1 and "set NUMBA_CACHE_DIR to" in text


@pytest.mark.skipif(os.name != "posix", reason="limits of the system as POSIX has them")
def test_what_does_not_fit_on_the_disk_is_not_kept(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: either is an OSError in the middle of a file."""
    compiled, _, _, said = _run(tmp_path, _SMALL_FILES + _PROGRAM, NUMBA_CACHE_DIR=str(tmp_path))
    assert compiled > 0
    assert _told_once(said)
    assert "File too large" in said
    assert not list(tmp_path.rglob("*.nbc"))
    assert not list(tmp_path.rglob("*.tmp*"))


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """A copy of the package as a wheel installs it, for a user without a home."""
    installed = tmp_path / "site-packages" / "lstm_numba"
    leave = shutil.ignore_patterns("__pycache__", "results")
    shutil.copytree(ROOT / "lstm_numba", installed, ignore=leave)
    for name in ("cli", "data", "benchmarks"):
        shutil.copytree(ROOT / name, installed / name, ignore=leave)
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": "", "NUMBA_CACHE_DIR": ""}
    return {"PYTHONPATH": str(installed.parent), **nowhere}


def test_without_a_folder_to_write_to_nothing_is_kept(package: dict[str, str], tmp_path: Path) -> None:
    for folder in [p.parent for p in Path(package["PYTHONPATH"]).rglob("__init__.py")]:
        (folder / "__pycache__").write_text("a file, so that not even root can write into it")
    compiled, _, kept, said = _run(tmp_path, **package)
    assert compiled > 0
    assert kept == "None"
    assert _told_once(said)
    done = subprocess.run(
        [sys.executable, "-m", "lstm_numba", "info", "--json"],
        cwd=tmp_path, env=_environment(package), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["caches"]["kernels"].startswith("not kept: set NUMBA_CACHE_DIR")


def _bound_by_permissions() -> list[str]:
    """What a command begins with so that permissions bind it; root's do not."""
    if os.name != "posix":
        pytest.skip("permissions as POSIX has them")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override"]


def test_kernels_are_read_from_a_folder_that_cannot_be_written_to(
    package: dict[str, str], tmp_path: Path
) -> None:
    bound = _bound_by_permissions()
    site = Path(package["PYTHONPATH"])
    compiled, total, kept, _ = _run(tmp_path, **package)
    assert compiled > 0
    assert Path(kept) == site / "lstm_numba" / "engines" / "__pycache__"
    try:
        for folder in (site, *site.rglob("*")):
            folder.chmod(0o555 if folder.is_dir() else 0o444)
        assert _run(tmp_path, before=bound, **package) == (0, total, "None", "")
        kernels = [*site.rglob("*.nbi"), *site.rglob("*.nbc")]
        assert {path.parent for path in kernels} == {site / "lstm_numba" / "engines" / "cpu" / "__pycache__"}
        for path in kernels:
            path.parent.chmod(0o755)
            path.unlink()
            path.parent.chmod(0o555)
        compiled, again, _, said = _run(tmp_path, before=bound, **package)
        assert compiled > 0
        assert again == total
        assert _told_once(said)
    finally:
        for folder in (site, *site.rglob("*")):
            folder.chmod(0o755)


def test_the_end_of_a_file_is_no_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.cli import info

    def ends() -> None:
        raise EOFError("Ran out of input")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "_versions", ends)
    answer = invoke("info")
    assert (answer.status, answer.out) == (1, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("error: EOFError: Ran out of input")
    monkeypatch.setattr(info, "_versions", interrupted)
    assert invoke("info").status == 130


def test_the_program_warns_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.cli import info

    def warn() -> dict[str, str]:
        warnings.warn("not kept", CacheWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(info, "_cuda", lambda: {"available": False})
    monkeypatch.setattr(info, "_caches", warn)
    answer = invoke("info --json")
    assert answer.json()["caches"] == {}
    assert answer.err == "warning: not kept\n"


def test_without_numbas_compiler_one_line_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lstm_numba", "train", "digits", "--images", "60", "--epochs", "1"],
        cwd=tmp_path, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: NUMBA_DISABLE_JIT is set")
