"""HDF5: what h5py writes is read to the bit; nothing leads out of a file, and memory is bounded."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.hdf5.reader import Group, read_hdf5

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

RNG = np.random.default_rng(0)


def written(write: Callable[[Any], Any], **options: Any) -> bytes:
    """A file."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        write(file)
    return memory.getvalue()


def assert_same(group: Group, other: Any) -> None:
    """As h5py reads it."""
    assert group.members.keys() == other.keys()
    assert group.attributes.keys() == other.attrs.keys()
    for name, value in other.attrs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
            value = [text.decode() if isinstance(text, bytes) else text for text in value]
        assert np.array_equal(group.attributes[name], value), name
    for name, member in other.items():
        if isinstance(member, h5py.Group):
            assert_same(group.members[name], member)
        else:
            found, expected = group.array(name), member[()]
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert found.tobytes() == expected.tobytes()


def _everything(file: Any) -> None:
    for dtype in ("f2", ">f4", "f8", "i1", ">i2", "u8"):
        file[f"types/{dtype}"] = np.arange(6).reshape(2, 3).astype(dtype)
    file["scalar"], file["empty"] = np.float32(3), np.zeros((0, 3))
    for name in ("one", "two", "ü"):
        file[f"a/{name}/vars/0"] = RNG.standard_normal((3, 4)).astype(np.float32)
    file.attrs["text"], file.attrs["long"] = "grüße", b"x" * 70_000
    file.attrs["texts"], file.attrs["bytes"] = ["a", "", "bcd"], np.array([b"x", b"yz"])
    file["a"].attrs["number"], file["a"].attrs["nothing"] = np.arange(3), []


def _many(file: Any) -> None:
    for number in range(300):  # trees of several levels
        file[f"a/{number:03}/x"] = np.float32(number)


def _chunks(file: Any) -> None:
    array = RNG.standard_normal((37, 21)).astype(np.float32)
    for number, how in enumerate(
        (
            {},
            {"compression": "gzip"},
            {"compression": 9, "shuffle": True},
            {"fletcher32": True},
            {"compression": "gzip", "shuffle": True, "fletcher32": True},
        )
    ):
        file.create_dataset(str(number), data=array, chunks=(8, 5), **how)
    file.create_dataset("many", data=np.arange(5000), chunks=(8,))


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (_everything, {}),
        (_everything, {"libver": "latest"}),
        (_everything, {"libver": ("v108", "v110")}),
        (_everything, {"track_order": True}),
        (_many, {}),
        (_chunks, {}),
    ],
)
def test_what_h5py_writes(write: Callable[[Any], Any], options: dict[str, Any]) -> None:
    content = written(write, **options)
    with h5py.File(io.BytesIO(content)) as file:
        assert_same(read_hdf5(content), file)


def test_bfloat16() -> None:
    def write(file: Any) -> None:
        bits = np.array([0x3F80, 0xC040], np.uint16)  # 1 and -3
        file.create_dataset("x", data=bits.view("V2")).attrs["dtype"] = "bfloat16"  # as Keras does

    assert read_hdf5(written(write)).array("x").tolist() == [1.0, -3.0]


# -- what could lead out of a file ---------------------------------------------------------------------


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    file.create_virtual_dataset("x", layout)


def _one_of_many(file: Any) -> None:
    file.create_dataset("x", (1 << 15,) * 3, "f4", chunks=(1, 1, 9))[0, 0, 0] = 1


def _shared_type(file: Any) -> None:
    file["type"] = np.dtype("f4")
    file.create_dataset("x", data=np.zeros(3, "f4"), dtype=file["type"])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_virtual, "x: is virtual, which is not read"),
        (
            lambda f: f.create_dataset("x", (30,), "u1", external=[("/etc/passwd", 0, 30)]),
            "x: is in another file, which is not read",
        ),
        (lambda f: f.update(x=h5py.ExternalLink("other.h5", "x")), "x: the dataset is missing"),
        (lambda f: f.update(x=h5py.SoftLink("/x")), "x: the dataset is missing"),
        (
            lambda f: f.create_dataset("x", data=np.zeros(99), compression="lzf"),
            "filter 32000; gzip alone is read",
        ),
        (lambda f: f.create_dataset("x", (1 << 50,), "f4"), "x: nothing was written into it"),
        (
            lambda f: f.create_dataset("x", (1 << 15,) * 3, "f4", chunks=(1, 1, 9)),
            "x: nothing was written into it",
        ),
        (_one_of_many, "that say they are"),
        (
            lambda f: f.create_dataset("x", data=np.zeros(1 << 27, "f4"), chunks=(1 << 27,), compression=9),
            "that say they are 536870912",
        ),
        (lambda f: f.create_dataset("x", (64,), "f4", chunks=(8,)), "x: nothing was written into it"),
        (
            lambda f: f.create_dataset("x", (64,), "f4", chunks=(8,)).write_direct(
                np.zeros(8, "f4"), None, np.s_[:8]
            ),
            "1 of 8 chunks are there",
        ),
        (_shared_type, "types that several datasets share"),
        (lambda f: f.create_dataset("x", data=h5py.Empty("f4")), "x: has no elements"),
    ],
)
def test_doors_that_stay_shut(write: Callable[[Any], Any], message: str) -> None:
    content = written(write)
    with pytest.raises(WeightsError, match=message):
        read_hdf5(content).array("x")


def test_groups_that_contain_themselves() -> None:
    def write(file: Any) -> None:
        group = file.create_group("a/b")
        group["c"] = file["a"]

    with pytest.raises(WeightsError, match="contains itself"):
        read_hdf5(written(write))

    def double(file: Any) -> None:  # 2^60 paths
        group = file
        for _ in range(30):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    with pytest.raises(WeightsError, match="its parts contain one another"):
        read_hdf5(written(double))


def test_larger_groups_of_the_newer_format() -> None:
    def write(file: Any) -> None:
        for number in range(20):
            file.create_group(str(number))

    with pytest.raises(WeightsError, match="h5py's default options"):
        read_hdf5(written(write, libver="latest"))


def test_types_that_are_not_numbers() -> None:
    def write(file: Any) -> None:
        file["x"] = np.zeros(3, [("a", "f4"), ("b", "i2")])
        file["text"] = "text"
        file.attrs["reference"] = file["x"].ref

    found = read_hdf5(written(write))
    assert found.attributes["reference"] is None
    assert found.array("x").dtype.names == ("compound",)
    assert found.array("text").dtype.names == ("long text",)


def test_memory_is_bounded() -> None:
    size = 1 << 22
    content = written(
        lambda f: f.create_dataset("x", data=np.zeros(size, "u1"), chunks=(size,), compression=9)
    )
    changed, refused = bytearray(content), 0
    tracemalloc.start()
    for place in range(0, len(content) - 8, 16):
        changed[place : place + 8] = b"\xff\xff\xff\x3f\0\0\0\0"  # a billion
        try:
            read_hdf5(bytes(changed)).array("x")
        except WeightsError:
            refused += 1
        changed[place : place + 8] = content[place : place + 8]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 20
    assert peak < 4 * size


def _packed(data: bytes, mask: int = 0) -> bytes:
    """A file of eight bytes in one chunk, which was packed elsewhere."""

    def write(file: Any) -> None:
        dataset = file.create_dataset("x", (8,), "u1", chunks=(8,), compression="gzip")
        dataset.id.write_direct_chunk((0,), data, mask)

    return written(write)


def test_chunks_that_were_packed_elsewhere() -> None:
    assert bytes(read_hdf5(_packed(zlib.compress(b"12345678"))).array("x")) == b"12345678"
    assert bytes(read_hdf5(_packed(b"12345678", mask=1)).array("x")) == b"12345678"  # not packed after all
    with pytest.raises(WeightsError, match="x: 4 bytes do not make shape"):
        read_hdf5(_packed(zlib.compress(b"1234"))).array("x")
    with pytest.raises(WeightsError, match="x: damaged"):
        read_hdf5(_packed(b"12345678")).array("x")
    bomb = _packed(zlib.compress(bytes(1 << 26), 9))
    tracemalloc.start()
    assert not read_hdf5(bomb).array("x").any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_chunk_in_the_place_of_another() -> None:
    content = bytearray(written(lambda f: f.create_dataset("x", data=np.arange(16, dtype="u1"), chunks=(8,))))
    tree = content.index(b"TREE\1")
    second = tree + 24 + 32 + 8  # a head, an entry, size and filters of the next: its first element
    assert int.from_bytes(content[second : second + 8], "little") == 8
    content[second] = 0
    with pytest.raises(WeightsError, match="a chunk is missing, or out of order"):
        read_hdf5(bytes(content)).array("x")


def test_datasets_in_the_same_place() -> None:
    content = bytearray(written(lambda f: f.update(a=np.arange(999.0), b=np.arange(999.0) + 0.5)))
    places = [content.find(np.arange(999.0).tobytes()), content.find((np.arange(999.0) + 0.5).tobytes())]
    second = content.find(places[1].to_bytes(8, "little"))
    content[second : second + 8] = places[0].to_bytes(8, "little")
    found = read_hdf5(bytes(content))
    found.array("a")
    found.array("b")  # harmless twice, refused before it adds up to more than the file
    with pytest.raises(WeightsError, match="contain one another"):
        [found.array("b") for _ in range(9)]
