"""PyTorch's files: every number as PyTorch reads it, and files that lie about their storages."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_files as files
from interop_tools import assert_same, layer

import lstm_numba as ln
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.torch_file import read_torch_file

STATE = layer("lstm", 2, True).state_dict()
#: Name of a file -> its bytes, of the parameters of `STATE`.
WRITTEN = {
    "w.pt": files.saved(STATE),
    "w.pth": files.old_format(STATE),
    "w.pkl": files.numpy_pickle(STATE),
    "w.jit": files.scripted(STATE),
}
FLOATS = np.arange(6, dtype="<f4")
FLOAT = "torch.FloatStorage"


def same(actual: Any, expected: Any) -> None:
    """The same values in the same bits."""
    assert actual.shape == expected.shape
    assert actual.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert actual.astype(expected.dtype).tobytes() == expected.tobytes()


def refused(content: bytes, message: str) -> None:
    """The message is one line."""
    with pytest.raises(WeightsError, match=message) as caught:
        read_torch_file(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def archive(tensor: Any, data: bytes = FLOATS.tobytes(), **members: bytes) -> bytes:
    """A file of one tensor, and of one storage."""
    return files.archive({"w": tensor}, {"data/0": data, **members})


def view(offset: Any, shape: Any, strides: Any, count: Any = 6, kind: str = FLOAT) -> bytes:
    """A file of one view of a storage."""
    return archive(files.rebuilt(files.storage(kind, "0", count), offset, shape, strides))


# -- without PyTorch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(WRITTEN))
def test_every_format_gives_the_layer(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WRITTEN[name])
    assert_same(ln.load_weights(tmp_path / name), layer("lstm", 2, True))


def test_kinds_and_names() -> None:
    contents = [read_torch_file(content) for content in WRITTEN.values()]
    assert [found.kind for found in contents] == ["torch", "torch", "pickle", "torchscript"]
    assert [next(iter(found.tensors)) for found in contents] == ["weight_ih_l0"] * 3 + ["lstm.weight_ih_l0"]
    for found in contents:
        for name, array in STATE.items():
            same(found.tensors[name if name in found.tensors else f"lstm.{name}"], array)


def test_numbers_at_odd_places_are_moved() -> None:
    """Storages of the old format stand anywhere; compiled code wants numbers at multiples of their size."""
    for pad in range(1, 5):
        array = read_torch_file(files.old_format({"x" * pad: FLOATS})).tensors["x" * pad]
        assert array.flags.aligned
        same(array, FLOATS)


def test_nested_values_are_named_by_the_way_to_them() -> None:
    part = files.rebuilt(files.storage(FLOAT, "0", 6), 0, (2,), (1,))
    made = files.made("argparse.Namespace", {"lr": 0.1, "saved": part})
    value = {
        "step": 3,
        "model": {"a.b": part, "c": [None, (part, "x"), {}]},
        "opt": {0: {"m": part}},
        "args": made,
    }
    found = read_torch_file(files.archive(value, {"data/0": FLOATS.tobytes()})).tensors
    assert list(found) == ["model.a.b", "model.c.1.0", "opt.0.m", "args.saved"]
    alone = read_torch_file(files.archive(part, {"data/0": FLOATS.tobytes()})).tensors
    same(alone["tensor"], FLOATS[:2])
    twice = {"a": {"b": part}, "a.b": files.rebuilt(files.storage(FLOAT, "0", 6), 2, (2,), (1,))}
    refused(files.archive(twice, {"data/0": FLOATS.tobytes()}), "a.b: two tensors have this name")
    refused(files.archive({"a": [1, "x"]}, {}), "holds no tensors")


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (2, (2, 2), (2, 1), FLOATS[2:].reshape(2, 2)),
        (0, (3, 2), (1, 3), FLOATS.reshape(2, 3).T),
        (1, (2,), (3,), FLOATS[[1, 4]]),
        (5, (4, 3), (0, 0), np.full((4, 3), 5, "f4")),
        (0, (2, 5), (1, 1), np.stack([FLOATS[:5], FLOATS[1:]])),
        (3, (), (), FLOATS[3].reshape(())),
        (6, (0, 7), (7, 1), np.zeros((0, 7), "f4")),
    ],
)
def test_views(offset: int, shape: Any, strides: Any, expected: Any) -> None:
    found = read_torch_file(view(offset, shape, strides)).tensors["w"]
    same(found, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "code"), [("Float", "f4"), ("Double", "f8"), ("Half", "f2"), ("Long", "i8")]
)
def test_byte_orders(kind: str, code: str, order: str) -> None:
    data = np.arange(6).astype(order + code)
    name = b"little" if order == "<" else b"big"
    stored = files.storage(f"torch.{kind}Storage", "0", 6)
    content = archive(files.rebuilt(stored, 1, (5,), (1,)), data.tobytes(), byteorder=name)
    same(read_torch_file(content).tensors["w"], data[1:].astype(code))


@pytest.mark.parametrize("order", ["<", ">"])
def test_bfloat16_becomes_float32(order: str) -> None:
    bits = np.array([0x3F80, 0xC040, 0x7F7F, 0x8000], np.uint16)  # 1, -3, almost the largest, -0
    stored = files.storage("torch.BFloat16Storage", "0", 4)
    name = b"little" if order == "<" else b"big"
    content = archive(
        files.rebuilt(stored, 0, (2, 2), (1, 2)), bits.astype(order + "u2").tobytes(), byteorder=name
    )
    expected = np.array([[1, 3.3895313892515355e38], [-3, -0.0]], "f4")
    same(read_torch_file(content).tensors["w"], expected)


def test_views_in_the_old_format() -> None:
    stored = files.storage(FLOAT, "7", 6, ("8", 2, 3))
    value = {"w": files.rebuilt(stored, 1, (2,), (1,))}
    head = [files.program(part) for part in (files.MAGIC, 1001, {}, value, ["7"])]
    data = struct.pack("<q", 6) + FLOATS.tobytes()
    same(read_torch_file(b"".join([*head, data])).tensors["w"], FLOATS[3:5])
    refused(b"".join([*head, data[:-1]]), "ends before its storage 7")
    refused(b"".join([*head, struct.pack("<q", -1)]), "ends before its storage 7")
    refused(b"".join([*head, struct.pack("<q", 4), FLOATS[2:].tobytes()]), "w: .* of 12 bytes has 8")
    refused(b"".join([*head, data, b"x"]), "1 bytes follow its end")
    refused(b"".join([*head[:4], files.program([])]), "w: damaged: storage 7 is not in it")
    refused(b"".join([*head[:4], files.program(["9"])]), "list of storages")
    refused(b"".join([head[0], files.program(2000)]), "expected version 1001")
    refused(head[0], "damaged pickle")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (view(0, (7,), (1,)), "w: damaged: ends at element 7 of a storage of 6"),
        (view(0, (2, 2), (5, 1)), "ends at element 7"),
        (view(7, (1,), (1,)), "ends at element 8"),
        (view(-1, (1,), (1,)), "w: damaged: offset: expected a number from 0"),
        (view(0, (-1,), (1,)), "shape: expected a number from 0"),
        (view(0, (2,), (-1,)), "strides: expected a number from 0"),
        (view(0, (1 << 62, 1 << 62), (1, 1)), "shape: expected a number"),
        (view(0, (1 << 40,) * 4, (1 << 40,) * 4), "ends at element"),
        (view(0, (1,) * 40, (1,) * 40), "at most 32 numbers"),
        (view(0, (2,), (1, 1)), "1 sizes and 2 strides"),
        (view(0, "ab", (1, 1)), "shape: expected at most 32 numbers, got a value of type str"),
        (view(0, (2.0,), (1,)), "expected a whole number, got a value of type float"),
        (view(True, (2,), (1,)), "expected a whole number, got a value of type bool"),
        (view(0, (1 << 40, 0, 1 << 40), (1, 1, 1)), "w: "),
        (view(0, (1 << 30, 1 << 20), (0, 0)), "tensors of 4503599627370496 bytes that share 24"),
        (view(0, (2,), (1,), 1 << 39), "w: damaged: a storage of 2199023255552 bytes has 24"),
        (view(0, (2,), (1,), -6), "elements: expected a number from 0"),
        (view(0, (2,), (1,), 6, "torch.Size"), "a storage of the class torch.Size"),
        (view(0, (2,), (1,), 6, "torch.FloatTensor"), "names the class torch.FloatTensor"),
        (archive(files.rebuilt(files.storage(FLOAT, "1", 6), 0, (1,), (1,))), "archive/data/1 is not in it"),
        (archive(files.rebuilt(files.storage(FLOAT, "../0", 6), 0, (1,), (1,))), "is not in it"),
        (archive(files.rebuilt(files.storage(FLOAT, "0", 6), 0, (6,), (1,)), b"1234"), "24 bytes has 4"),
        (
            archive(files.rebuilt(files.Code(files.emit(3)), 0, (6,), (1,))),
            "a tensor of a value of type int instead",
        ),
        (archive(files.Code(files.emit(("storage", 1)) + b"Q")), "refers to something else"),
        (archive(files.Code(files.emit(("module", 1, 2, 3, 4)) + b"Q")), "refers to something else"),
        (archive(1, byteorder=b"middle"), "unknown byte order, b'middle'"),
        (files.archive({}, {}, folder="../"), "holds no tensors"),
        (files.archive({}, {}, folder="a/b/"), "0 files data.pkl"),
        (files.archive({}, {"x.pkl": b""}).replace(b"data.pkl", b"date.pkl"), "0 files data.pkl"),
        (b"PK\5\6" + bytes(18), "0 files data.pkl"),
        (b"PK\3\4", "not a zip archive"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
        (b"", "damaged pickle"),
        (b"hello", "damaged pickle"),
        (files.numpy_pickle(STATE) + b"\x80\x02.", "3 bytes follow its end"),
    ],
)
def test_files_that_lie(content: bytes, message: str) -> None:
    refused(content, message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_lie() -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        for _ in range(2):
            new.writestr("archive/data.pkl", files.program({}))
    refused(memory.getvalue(), "archive/data.pkl: is in it twice")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        new.writestr("a/data.pkl", files.program({}))
        new.writestr("b/data.pkl", files.program({}))
    refused(memory.getvalue(), "2 files data.pkl")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("a/data.pkl", files.program({}))
        new.writestr("a/data/0", bytes(300_000_000))
    refused(memory.getvalue(), "that say they are 3")
    nameless = zipfile.ZipInfo("\0x")  # a name ends at its first zero
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        new.writestr(nameless, b"")
    refused(memory.getvalue(), "0 files data.pkl")


def test_tensors_that_share_a_storage_take_its_memory_once() -> None:
    data = np.arange(1 << 16, dtype="<f4")
    stored = files.storage(FLOAT, "0", len(data))
    value = {str(n): files.rebuilt(stored, n, (1 << 15,), (1,)) for n in range(16)}
    found = read_torch_file(files.archive(value, {"data/0": data.tobytes()})).tensors
    assert all(np.shares_memory(found["0"], array) for array in found.values())
    same(found["15"], data[15 : 15 + (1 << 15)])
    other = files.rebuilt(files.storage("torch.DoubleStorage", "0", 4), 0, (1,), (1,))
    refused(files.archive({**value, "x": other}, {"data/0": data.tobytes()}), "elements of two sizes")
    many = {str(n): files.rebuilt(stored, 0, (1 << 16,), (1,)) for n in range(100)}
    refused(files.archive(many, {"data/0": data.tobytes()}), "tensors of 26214400 bytes that share 262144")


def test_attributes_that_are_no_parameters() -> None:
    """As in a state_dict: attributes that are lists, such as a layer's ``_flat_weights``, are left out."""
    part = files.rebuilt(files.storage(FLOAT, "0", 6), 0, (2,), (1,))
    inner = files.made("__torch__.L", {"w": part, "_flat": [part], "names": ["w"]})
    packed = files.made("__torch__.torch.classes.P", (part, 3))
    value = files.made("__torch__.M", {"l": inner, "same": part, "packed": packed})
    found = read_torch_file(files.archive(value, {"data/0": FLOATS.tobytes(), "constants.pkl": b""}))
    assert found.kind == "torchscript"
    assert list(found.tensors) == ["l.w", "same"]


# -- as PyTorch reads them -----------------------------------------------------------------------------


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Name -> tensor or array."""
    if hasattr(value, "shape"):
        return {name: value}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else ()
    )
    found = {}
    for key, child in items:
        found.update(flat(child, f"{name}.{key}" if name else str(key)))
    return found


def compare(content: bytes, expected: Any) -> None:
    """All tensors, in the same bits; bfloat16 as float32."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found = read_torch_file(content).tensors
    wanted = flat(expected)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        if isinstance(tensor, torch.Tensor):
            tensor = tensor.detach()
            tensor = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        same(found[name], tensor)


def saved(torch: Any, value: Any, **options: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory, **options)
    return memory.getvalue()


def variety(torch: Any) -> Any:
    """Tensors of all types that NumPy has, and views."""
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    kinds = ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
    value: Any = {kind: (base * 9).to(getattr(torch, kind)) for kind in (*kinds, "complex64", "complex128")}
    value["views"] = [base, base.T, base[1:, ::2], base[2], base[3, 3], base[:0], base.expand(3, 4, 6)[:, 1]]
    value["parameter"] = torch.nn.Parameter(base[1:])
    value["bfloat16 view"] = value["bfloat16"].T[1:]
    value["marked"] = torch.nn.Parameter(torch.ones(2))
    value["marked"].note = 1
    value["size"], value["device"], value["type"] = base.shape, base.device, base.dtype
    value["set"], value["array"] = {1, 2}, np.arange(3.0)
    return OrderedDict(value)


@pytest.mark.parametrize(
    "options",
    [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}]
    + [{"_use_new_zipfile_serialization": False, "pickle_protocol": n} for n in (3, 5)],
)
def test_what_torch_saves(options: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    value = variety(torch)
    content = saved(torch, value, **options)
    del value["size"]
    compare(content, value)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_pickle_dumps_of_tensors(protocol: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    value = variety(torch)
    content = pickle.dumps(value, protocol)
    del value["size"]
    compare(content, value)
    assert read_torch_file(content).kind == "pickle"


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64"])
def test_types_without_a_storage_class(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not hasattr(torch, name):
        pytest.skip("an old PyTorch")
    value = {"w": torch.arange(5).to(getattr(torch, name))[1:]}
    compare(saved(torch, value), value)


@pytest.mark.parametrize("name", ["w.pt", "w.pth"])
def test_the_tests_files_are_torchs(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    (tmp_path / name).write_bytes(WRITTEN[name])
    state = torch.load(tmp_path / name, weights_only=True)
    assert list(state) == list(STATE)
    for key, array in STATE.items():
        same(state[key].numpy(), array)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_numpy_lacks_stand_beside_others() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lstm = torch.nn.LSTM(2, 3)
    quantised = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
    value = {
        **lstm.state_dict(),
        "a.quantised": quantised,
        "a.sparse": torch.eye(3).to_sparse(),
        "a.rows": torch.eye(4).to_sparse_csr(),
        "a.meta": torch.ones(2, 5, device="meta"),
        "a.conjugated": torch.ones(2, dtype=torch.complex64).conj(),
        "a.small": torch.ones(7).to(torch.float8_e4m3fn),
    }
    content = saved(torch, value)
    found = read_torch_file(content).tensors
    kinds = {name[2:]: (a.dtype.names, a.shape) for name, a in found.items() if name.startswith("a.")}
    assert kinds == {
        "quantised": (("qint8",), (2, 3)),
        "sparse": (("sparse",), (3, 3)),
        "rows": (("sparse",), (4, 4)),
        "meta": (("meta",), (2, 5)),
        "conjugated": (("conjugated",), (2,)),
        "small": (("float8_e4m3fn",), (7,)),
    }
    for name, tensor in lstm.state_dict().items():
        same(found[name], tensor.numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules_give_their_state_dict(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.LSTM(2, 3, 2))
    memory = io.BytesIO()
    torch.jit.save(torch.jit.script(module), memory)
    compare_sets(memory.getvalue(), module.state_dict())
    (tmp_path / "w.jit").write_bytes(memory.getvalue())
    rnn = ln.load_weights(tmp_path / "w.jit")
    assert rnn.params["weight_hh_l1"].tobytes() == module[2].weight_hh_l1.detach().numpy().tobytes()


def compare_sets(content: bytes, state: Any) -> None:
    """As `compare`; TorchScript has buffers before parameters."""
    found = read_torch_file(content)
    assert found.kind == "torchscript"
    assert found.tensors.keys() == state.keys()
    for name, tensor in state.items():
        same(found.tensors[name], tensor.numpy())


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whole_modules_are_refused(options: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    message = (
        r"names the class torch.nn.modules.rnn.LSTM, which is not executed; save a module's state_dict\(\)"
    )
    refused(saved(torch, torch.nn.LSTM(2, 3), **options), message)
    refused(pickle.dumps(torch.nn.LSTM(2, 3)), message)
