"""Every file that is read, changed in seeded ways: it is read, or refused in one line that names it."""

from __future__ import annotations

import codecs
import contextlib
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource", reason="the system cannot bound a process's memory")
from formats import FORMATS
from watch import bounded, watched

from lstm_numba.errors import UserError, WeightsWarning

#: Changes of each kind of file in CI, and with ``-m fuzz``.
SHORT, LONG = 30, 5000
#: What one file may take: seconds, and bytes more than the process has.
SECONDS, MEMORY = 10.0, 1 << 30


def try_changes(name: str, count: int, seed: int, folder: Path) -> None:
    """Change a file so often; every outcome but success or a refusal fails, with the file kept beside."""
    if name.endswith("onnx"):
        pytest.importorskip("onnx", reason="onnx is not installed")
    for codec in (
        "utf-8-sig",
        "utf-16-le",
        "utf-16-be",
        "utf-32-le",
        "utf-32-be",
        "cp437",
        "unicode_escape",
        "raw_unicode_escape",
    ):
        codecs.lookup(codec)  # has Python import it: JSON may be in any, an archive's names and messages too
    with contextlib.suppress(ImportError):  # what may be a picture has Pillow import all its formats
        from PIL import Image

        Image.init()
    how = FORMATS[name]
    path = how.make(folder)
    sound = path.read_bytes()
    how.read(path)
    refused = 0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        change = how.changes[number % len(how.changes)]
        path.write_bytes(change(sound, rng))
        case = f"{name}, seed {seed}, change {number} ({change.__name__}); the file is {path}"
        begin = time.monotonic()
        try:
            with watched(folder), bounded(MEMORY), warnings.catch_warnings():
                warnings.simplefilter("error")  # it would be another line on a terminal
                warnings.simplefilter("ignore", WeightsWarning)  # as this is, where it is meant
                how.read(path)
        except (UserError, ValueError, TypeError) as error:
            refused += 1
            said = str(error)
            assert "\n" not in said, case
            assert str(path.parent) in said, f"{case}: {said[:300]}"
            assert len(said) < 2500, case
        except Exception as error:
            raise AssertionError(f"{case}: {type(error).__name__}") from error
        assert time.monotonic() - begin < SECONDS, case
    assert refused > count // 20, "hardly any change mattered: the driver is broken"


@pytest.mark.parametrize("name", list(FORMATS))
def test_some_changes(name: str, tmp_path: Path) -> None:
    try_changes(name, SHORT, 1, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("name", list(FORMATS))
def test_many_changes(name: str, seed: int, tmp_path: Path) -> None:
    try_changes(name, LONG, seed, tmp_path)
