"""IDX files and the bounded reading under them: what is right is read, all else is one line."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lstm_numba.data import file_io, idx
from lstm_numba.data.idx import read_idx, write_idx
from lstm_numba.errors import DataError

SHAPE = (3, 4, 5)


def idx_bytes(array: np.ndarray, magic: int | None = None) -> bytes:
    """An IDX file by the format's description, with nothing of the package's."""
    start = 0x0800 | array.ndim if magic is None else magic
    return struct.pack(f">i{array.ndim}i", start, *array.shape) + array.tobytes()


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)


def one_line(error: DataError, path: Path) -> str:
    text = str(error)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), SHAPE, (1, 1, 1), (2, 1, 3, 2)])
def test_reads_what_the_format_says(
    tmp_path: Path, shape: tuple[int, ...], pack: Callable[[bytes], bytes]
) -> None:
    wanted = np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "file"
    path.write_bytes(pack(idx_bytes(wanted)))
    got = read_idx(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(read_idx(path, len(shape)), wanted)


def test_gzip_of_several_members_and_zero_padding(tmp_path: Path, array: np.ndarray) -> None:
    data = idx_bytes(array)
    path = tmp_path / "members.gz"
    path.write_bytes(gzip.compress(data[:10]) + gzip.compress(b"") + gzip.compress(data[10:]) + b"\0" * 512)
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.smoke
def test_writes_what_the_format_says(tmp_path: Path, array: np.ndarray, name: str) -> None:
    path = tmp_path / "new" / name
    write_idx(path, array)
    data = path.read_bytes()
    assert data.startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert (gzip.decompress(data) if name.endswith(".gz") else data) == idx_bytes(array)
    write_idx(tmp_path / "again" / name, array)
    assert (tmp_path / "again" / name).read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_write_refuses_other_arrays(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="array: expected an array of uint8, got float64"):
        write_idx(tmp_path / "a", np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="array: expected 1 to 8 dimensions, got 0"):
        write_idx(tmp_path / "a", np.zeros((), np.uint8))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "blocked").write_text("a file where a folder must be")
    with pytest.raises(DataError, match="cannot be written"):
        write_idx(tmp_path / "blocked" / "a", np.zeros(3, np.uint8))


def test_truncated_anywhere(tmp_path: Path, array: np.ndarray) -> None:
    data = idx_bytes(array)
    path = tmp_path / "cut"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError) as caught:
            read_idx(path, 3)
        text = one_line(caught.value, path)
        assert ("empty" if length == 0 else "truncated") in text


def test_truncated_anywhere_in_gzip(tmp_path: Path, array: np.ndarray) -> None:
    data = gzip.compress(idx_bytes(array))
    path = tmp_path / "cut.gz"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError) as caught:
            read_idx(path, 3)
        one_line(caught.value, path)


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gzip"])
def test_random_damage_gives_an_error_or_the_same_shape_of_truth(tmp_path: Path, packed: bool) -> None:
    """Flip bits, cut out, put in: the reader raises DataError or returns what another reader returns."""
    rng = random.Random(20)
    array = np.arange(60, dtype=np.uint8).reshape(SHAPE)
    sound = gzip.compress(idx_bytes(array), mtime=0) if packed else idx_bytes(array)
    path = tmp_path / "damaged"
    outcomes = {"error": 0, "read": 0}
    for _ in range(1500):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            place = rng.randrange(len(data))
            what = rng.random()
            if what < 0.6:
                data[place] ^= 1 << rng.randrange(8)
            elif what < 0.8:
                del data[place : place + rng.randrange(1, 4)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 4))
            if not data:
                data = bytearray(b"\0")
        path.write_bytes(data)
        try:
            got = read_idx(path)
        except DataError as error:
            one_line(error, path)
            outcomes["error"] += 1
        else:
            plain = gzip.decompress(bytes(data)) if data[:2] == b"\x1f\x8b" else bytes(data)
            dimensions = plain[3]
            assert plain[:3] == b"\0\0\x08"
            assert got.shape == struct.unpack(f">{dimensions}I", plain[4 : 4 + 4 * dimensions])
            assert got.tobytes() == plain[4 + 4 * dimensions :]
            outcomes["read"] += 1
    assert min(outcomes.values()) > 10


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "wrong magic number 0x89504e47"),
        (struct.pack(">iiii", 0x0903, 1, 1, 1) + b"x", "signed bytes"),
        (struct.pack(">ii", 0x0D01, 1) + b"xxxx", "float32"),
        (struct.pack(">ii", 0x0A01, 1) + b"x", "wrong magic number 0x00000a01"),
        (struct.pack(">i", 0x0800) + b"x", "0 dimensions"),
        (struct.pack(">i", 0x08FF) + bytes(2000), "255 dimensions"),
        (struct.pack("<ii", 0x0801, 1) + b"x", "wrong magic number"),
        (struct.pack(">ii", 0x0801, 0), "holds nothing"),
        (struct.pack(">iiii", 0x0803, 2, 0, 5), "holds nothing"),
        (struct.pack(">ii", 0x0801, 2) + b"xyz", "declares 2 = 2 bytes, the file holds 3"),
    ],
)
def test_wrong_headers(tmp_path: Path, data: bytes, words: str) -> None:
    for path, content in ((tmp_path / "raw", data), (tmp_path / "packed.gz", gzip.compress(data))):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_idx(path)
        text = one_line(caught.value, path)
        # A gzip file does not say how much longer it is; that would mean to inflate it all.
        assert words in text or (path.suffix == ".gz" and "holds more" in text)


def test_other_number_of_dimensions(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(array))
    with pytest.raises(
        DataError, match=r"wrong magic number 0x00000803: .* 3 dimensions \(images\), expected 1"
    ):
        read_idx(path, 1)


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFFF, 1 << 20])
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gzip"])
def test_huge_header_allocates_nothing(tmp_path: Path, count: int, packed: bool) -> None:
    data = struct.pack(">IIII", 0x0803, count, 28, 28) + bytes(1000)
    path = tmp_path / "huge"
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="declares"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("members", [1, 64])
def test_gzip_bomb_is_not_inflated(tmp_path: Path, members: int) -> None:
    path = tmp_path / "bomb.gz"
    header = gzip.compress(struct.pack(">IIII", 0x0803, 10, 28, 28))
    path.write_bytes(header + gzip.compress(bytes(64 << 20)) * members)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="declares 10 x 28 x 28 = 7840 bytes, the file holds more"):
            read_idx(path)
        with pytest.raises(DataError, match="longer than 5000000 bytes"):
            file_io.read_content(path, 5_000_000)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_at_most_so_much_is_read(tmp_path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound file beyond the limit is refused, by its header already; one at the limit is read."""
    path = tmp_path / "large"
    write_idx(path, array)
    monkeypatch.setattr(idx, "LARGEST_CONTENT", array.size)
    np.testing.assert_array_equal(read_idx(path), array)
    monkeypatch.setattr(idx, "LARGEST_CONTENT", array.size - 1)
    with pytest.raises(DataError, match="declares 3 x 4 x 5 = 60 bytes; at most 59 are read"):
        read_idx(path)


def test_gzip_with_something_after_its_end(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "tail.gz"
    path.write_bytes(gzip.compress(idx_bytes(array)) + b"tail")
    with pytest.raises(DataError, match="something follows its end"):
        read_idx(path)


def test_gzip_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="0 bytes are not an IDX header"):
        read_idx(path)
    with pytest.raises(DataError, match="the content is empty"):
        file_io.read_content(path)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="is a folder"):
        read_idx(tmp_path)
    with pytest.raises(DataError):
        read_idx("nul\0byte")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(DataError, match="not a regular file"):
            read_idx(tmp_path / "fifo")


def test_names_with_newlines_stay_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines"
    path.write_bytes(b"xxxx")
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)
    assert "two\\nlines" in str(caught.value)


def test_content_larger_than_one_read(tmp_path: Path) -> None:
    """More than one chunk, hardly compressible and very compressible, raw and gzipped."""
    rng = np.random.default_rng(3)
    content = rng.bytes(3_000_001) + bytes(5_000_000) + rng.bytes(17)
    for name, data in (("raw", content), ("packed", gzip.compress(content, 1))):
        (tmp_path / name).write_bytes(data)
        assert file_io.read_content(tmp_path / name) == content


def test_atomic_write_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="kept"):
        file_io.atomic_write(path, b"new")
    with pytest.raises(DataError, match="cannot be written: No space left"):
        write_idx(path, np.zeros((2, 2), np.uint8))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
