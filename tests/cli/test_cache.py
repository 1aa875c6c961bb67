"""``lstm-numba cache``: counts and removes what is this library's, and nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from cli_tools import invoke

import lstm_numba
from lstm_numba.engines import numba_cache

PACKAGE = Path(lstm_numba.__file__).parent
#: What another package's function may have left.
FOREIGN = ("theirs.f-3.py311.nbi", "theirs.f-3.py311.1.nbc")


def subfolder(sources: Path) -> str:
    """The folder that Numba makes for the kernels of the modules in a folder."""
    return f"{sources.name}_{hashlib.sha1(str(sources).encode()).hexdigest()}"


def put(folder: Path, *names: str, size: int = 10) -> list[Path]:
    """Files of some bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(bytes(size))
    return [folder / name for name in names]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kernels and data, ours and others', in all places that are looked at."""
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("LSTM_NUMBA_DATA", str(tmp_path / "named"))
    monkeypatch.setattr(numba_cache, "_PACKAGE", tmp_path / "package")
    monkeypatch.setattr(numba_cache, "__file__", str(tmp_path / "package" / "engines" / "numba_cache.py"))
    engines = tmp_path / "package" / "engines"
    put(engines, "forward.py")
    put(engines / "__pycache__", "forward.f-1.py311.nbi", "forward.f-1.py311.1.nbc")
    put(engines / "__pycache__", "forward.cpython-311.pyc")
    put(tmp_path / "shared" / subfolder(engines), "forward.f-1.py311.nbi", "lstm_numba.lock", "notes.txt")
    put(tmp_path / "shared" / subfolder(Path("/elsewhere/engines")), *FOREIGN)
    put(tmp_path / "shared", *FOREIGN)
    put(tmp_path / "user" / "numba" / subfolder(Path("/elsewhere/engines")), *FOREIGN)
    put(tmp_path / "user" / "lstm_numba" / "kernels" / "engines_0", "old.f-1.py311.1.nbc", size=1000)
    data = tmp_path / "user" / "lstm_numba"
    put(data / "mnist", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz.part", "mine.txt")
    put(data / "ptb", "ptb.train.txt")
    put(tmp_path / "named" / "ptb", "ptb.train.txt")
    return tmp_path


def left(folder: Path) -> set[str]:
    """Paths of all files, in the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_show_says_what_there_is_and_where(places: Path) -> None:
    before = left(places)
    answer = invoke("cache show")
    assert answer.out.splitlines() == [
        f"compiled kernels: 5 files, 1.0 kB (1,040 bytes), in {places}/package/engines/__pycache__, "
        f"{places}/shared, {places}/user/lstm_numba/kernels/engines_0",
        f"downloaded data: 3 files, 30 bytes, in {places}/user/lstm_numba/mnist, "
        f"{places}/user/lstm_numba/ptb",
    ]
    found = invoke("cache show --json").json()
    assert (found["kernels"]["files"], found["kernels"]["bytes"]) == (5, 1040)
    assert (found["data"]["files"], found["data"]["bytes"]) == (3, 30)
    assert left(places) == before


@pytest.mark.parametrize("with_data", [False, True])
def test_clear_removes_ours_only(places: Path, with_data: bool) -> None:
    before = left(places)
    answer = invoke("cache clear --yes" + " --data" * with_data)
    assert answer.status == 0
    assert "compiled kernels: 5 files" in answer.err
    assert ("downloaded data: 3 files, 30 bytes" in answer.err) == with_data
    kernels = {
        "package/engines/__pycache__/forward.f-1.py311.nbi",
        "package/engines/__pycache__/forward.f-1.py311.1.nbc",
        f"shared/{subfolder(places / 'package' / 'engines')}/forward.f-1.py311.nbi",
        f"shared/{subfolder(places / 'package' / 'engines')}/lstm_numba.lock",
        "user/lstm_numba/kernels/engines_0/old.f-1.py311.1.nbc",
    }
    data = {
        "user/lstm_numba/mnist/train-images-idx3-ubyte.gz",
        "user/lstm_numba/mnist/train-labels-idx1-ubyte.gz.part",
        "user/lstm_numba/ptb/ptb.train.txt",
    }
    assert before - left(places) == (kernels | data if with_data else kernels)
    assert not (places / "user/lstm_numba/kernels").exists()
    assert (places / "user/lstm_numba/ptb").exists() != with_data
    count, size = (8, "1.1 kB (1,070 bytes)") if with_data else (5, "1.0 kB (1,040 bytes)")
    assert answer.out == f"removed {count} files, {size}\n"
    assert invoke("cache clear --yes --data" if with_data else "cache clear").out == "nothing to remove\n"


@pytest.mark.parametrize(("typed", "removed"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_clear_asks_first(places: Path, typed: str, removed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(places)
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    answer = invoke("cache clear")
    assert "Remove these files?" in answer.err
    assert (answer.status == 0) == removed
    assert (left(places) == before) != removed
    if not removed:
        assert "nothing was removed" in answer.err


def test_clear_as_json(places: Path) -> None:
    assert invoke("cache clear --yes --json").json() == {"removed": {"files": 5, "bytes": 1040}}


#: Finds out where a kernel of ours, and one of a user's own module, would be kept.
_WHERE = """
import mine
from lstm_numba.engines.numba_cache import cache_folder
print(cache_folder())
print(mine.f._cache.cache_path)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the variable is that of Linux")
def test_an_empty_variable_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert numba_cache.own_folder() == tmp_path / ".cache" / "lstm_numba" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert numba_cache.own_folder() == tmp_path / "x" / "lstm_numba" / "kernels"


def test_kernels_are_kept_apart_from_the_sources(tmp_path: Path) -> None:
    """Left beside them, they would outlive the package, which could then still be imported."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import numba\nimport lstm_numba.engines.cpu.options\n@numba.njit(cache=True)\ndef f():\n    pass\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "user"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", _WHERE],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours, theirs = map(Path, done.stdout.splitlines())
    assert ours == tmp_path / "user" / "lstm_numba" / "kernels" / subfolder(PACKAGE / "engines")
    assert theirs == tmp_path / "__pycache__"
