"""MNIST: a small stand-in for what can go wrong, the real files where they are at hand."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lstm_numba.data import mnist, store
from lstm_numba.data.images import NORMALISATION
from lstm_numba.errors import DataError

COUNTS = {"train": 30, "t10k": 10}


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">i{array.ndim}i", 0x0800 | array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, np.ndarray]:
    """Let the registry expect 30 and 10 random images for MNIST; no environment, an empty cache."""
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, count in COUNTS.items():
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, count, dtype=np.uint8)
    which = store.DATASETS["mnist"]
    files = []
    for file in which.files:
        data = idx_bytes(arrays[file.names[0]])
        shape = arrays[file.names[0]].shape
        files.append(replace(file, sha256=hashlib.sha256(data).hexdigest(), size=len(data), shape=shape))
    monkeypatch.setitem(store.DATASETS, "mnist", replace(which, files=tuple(files), mirrors=()))
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return arrays


def lay(folder: Path, arrays: dict[str, np.ndarray], name: Callable[[str], str] = str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        path = folder / name(key)
        data = idx_bytes(array)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return folder


def check(arrays: dict[str, np.ndarray], data_dir: Path | None) -> None:
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = mnist.load(split, data_dir)
        assert (images.name, images.split) == ("mnist", split)
        np.testing.assert_array_equal(images.images, arrays[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels, arrays[f"{prefix}-labels-idx1-ubyte"])


@pytest.mark.parametrize(
    "name",
    [
        str,
        lambda key: key + ".gz",
        lambda key: key.replace("-idx", ".idx"),
        lambda key: key.replace("-idx", ".idx") + ".gz",
    ],
    ids=["raw", "gz", "dotted", "dotted gz"],
)
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_names_and_folders(
    tmp_path: Path, small: dict[str, np.ndarray], folder: str, name: Callable[[str], str]
) -> None:
    lay(tmp_path / "data" / folder, small, name)
    check(small, tmp_path / "data")


def test_environment_and_cache(
    tmp_path: Path, small: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {key: array for key, array in small.items() if "images" in key}
    labels = {key: array for key, array in small.items() if "labels" in key}
    lay(tmp_path / "cache" / "lstm_numba" / "mnist", images)
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "env"))
    lay(tmp_path / "env", labels)
    check(small, None)
    check(small, tmp_path / "not there")
    # What the caller names comes first, even if it is damaged: never silently another file.
    named = lay(tmp_path / "named", labels)
    (named / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1")
    with pytest.raises(DataError, match="truncated: the header ends after 4 of 8 bytes"):
        mnist.load("train", named)


def test_absent(tmp_path: Path, small: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError) as caught:
        mnist.load("train", tmp_path / "empty")
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "train-images-idx3-ubyte.gz",
        "t10k-labels",
        str(tmp_path / "empty" / "mnist"),
        "digits and grammar",
    ):
        assert part in text


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'valid'"):
        mnist.load("valid")


IMAGES = "t10k-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: data[:3], "truncated: 3 bytes are not an IDX header"),
        (
            lambda data: data[:-1],
            "truncated: the header declares 10 x 28 x 28 = 7840 bytes, the file holds 7839",
        ),
        (lambda data: data + b"\0", "the file holds 7841"),
        (lambda data: b"PK" + data[2:], "wrong magic number 0x504b0803"),
        (lambda data: data[:3] + b"\1" + data[4:], "expected 3 (images)"),
        (lambda data: data[:4] + b"\xff" + data[5:], "the header declares 4278190090 x 28 x 28"),
        (
            lambda data: idx_bytes(np.ones((9, 28, 28), np.uint8)),
            "wrong count: the header declares 9 x 28 x 28",
        ),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "not the published file: content has sha256"),
        (lambda data: gzip.compress(data)[:-9], "truncated gzip file"),
        (lambda data: gzip.compress(data)[:-8] + b"12345678", "damaged gzip file"),
        (lambda data: gzip.compress(bytes(1 << 20)), "longer than"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, small: dict[str, np.ndarray], damage: Callable[[bytes], bytes], words: str
) -> None:
    folder = lay(tmp_path / "data", small)
    path = folder / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        mnist.load("test", folder)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert words in text
    states = {result.file: (result.state, result.path) for result in store.verify("mnist", folder)}
    assert states.pop(IMAGES + ".gz") == ("damaged", path)
    assert {state for state, _ in states.values()} == {"ok"}
    assert len(mnist.load("train", folder)) == 30


def test_verify_tells_what_is_missing(tmp_path: Path, small: dict[str, np.ndarray]) -> None:
    results = store.verify("mnist", tmp_path)
    assert [(result.state, result.path) for result in results] == [("missing", None)] * 4
    assert str(tmp_path) in results[0].detail


def test_verify_looks_where_it_is_told(
    tmp_path: Path, small: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.ENVIRONMENT, str(lay(tmp_path / "env", small)))
    assert [result.state for result in store.verify("mnist")] == ["ok"] * 4
    assert [result.state for result in store.verify("mnist", tmp_path / "other")] == ["missing"] * 4


@pytest.fixture(scope="module")
def real_folder() -> Path:
    folder = os.environ.get("LSTM_NUMBA_DATA")
    if not folder or any(result.state == "missing" for result in store.verify("mnist", folder)):
        pytest.skip("the environment variable LSTM_NUMBA_DATA names no folder with MNIST's files")
    return Path(folder)


def test_real_mnist(real_folder: Path) -> None:
    train, test = mnist.load("train", real_folder), mnist.load("test", real_folder)
    assert train.images.shape == (60000, 28, 28)
    assert test.images.shape == (10000, 28, 28)
    # Counts of the classes as published; first labels as everyone knows them.
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    mean, deviation = NORMALISATION["mnist"]
    assert abs(train.images.mean() / 255 - mean) < 5e-6
    assert abs(train.images.std() / 255 - deviation) < 5e-6
    assert {result.state for result in store.verify("mnist", real_folder)} == {"ok"}
