"""Pickles: arrays in the same bits as NumPy reads them; nothing that a pickle names is executed."""

from __future__ import annotations

import collections
import copyreg
import decimal
import functools
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_files as files
from torch_files import Code, call, emit, made, named, program

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.torch_file import read_torch_file

PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
MATRIX = np.arange(12, dtype="<f4").reshape(3, 4)
SOUND = {"w": MATRIX[:2, :2].copy()}


def tensors(content: bytes) -> dict[str, Any]:
    """Name -> array."""
    return dict(read_torch_file(content).tensors)


def same(actual: Any, expected: Any) -> None:
    """The same values in the same bits, wherever they stand in memory."""
    assert actual.shape == expected.shape
    assert actual.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert actual.astype(expected.dtype).tobytes() == expected.tobytes()


def refused(content: bytes, message: str) -> None:
    """The message is one line; it comes soon, and without much memory."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(WeightsError, match=message) as caught:
            read_torch_file(content)
        assert tracemalloc.get_traced_memory()[1] < (1 << 24) + 40 * len(content)
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 20  # mostly for counting memory
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# -- arrays ----------------------------------------------------------------------------------------------


@PROTOCOLS
@pytest.mark.parametrize("code", ["<f2", "<f4", ">f4", "<f8", "<c8", "|b1", "|u1", ">i2", "<i8"])
def test_arrays(code: str, protocol: int) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(code)
    value = {
        "plain": array,
        "columns": np.asfortranarray(array),
        "swapped": array.transpose(1, 0, 2),
        "part": array[:, ::2, 1:],
        "number": array[1, 1, 1:2].reshape(()),
        "empty": array[:, :0],
        "left out": array[0, 0, 0],
    }
    found = tensors(pickle.dumps(value, protocol))
    assert list(found) == list(value)[:-1]
    for name, wanted in found.items():
        same(wanted, value[name])


@PROTOCOLS
def test_bfloat16(protocol: int) -> None:
    types = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = np.array([[1, -3], [2.5, 0]], types.bfloat16)
    same(tensors(pickle.dumps({"w": array}, protocol))["w"], array.astype(np.float32))


@PROTOCOLS
def test_containers(protocol: int) -> None:
    array = MATRIX
    value = {
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "bytes": b"ab\xff",
        "array of bytes": bytearray(b"ab"),
        "nothing": b"",
        "complex": 1j,
        "long": 1 << 100,
        "default": collections.defaultdict(list, {"a": [array]}),
        "ordered": collections.OrderedDict([(1, array), ("b", 2)]),
        "counter": collections.Counter("aab"),
        "type": np.dtype("f4"),
        "text": np.array(["ab", "c"]),
        "objects": np.array([None, {"a": 1}], object),
        ("a", 1): array,
        b"bytes": array,
        None: (array, "x"),
    }
    found = tensors(pickle.dumps(value, protocol))
    names = ["default.a.0", "ordered.1", "text", "objects", "a.1", "bytes", "None.0"]
    assert list(found) == names
    assert found["text"].dtype.names == ("text",)
    assert found["objects"].dtype.names == ("object",)
    for name in set(names) - {"text", "objects"}:
        same(found[name], array)


@PROTOCOLS
def test_keys_of_several_types(protocol: int) -> None:
    value = {"1": MATRIX, 1: "a number", 2: MATRIX, "2": "a text", 1.5: MATRIX, None: 0, -1: MATRIX}
    assert list(tensors(pickle.dumps(value, protocol))) == ["1", "2", "1.5", "-1"]
    refused(pickle.dumps({1 << 64: MATRIX}, protocol), "with the key a value of type int, which is not read")


@PROTOCOLS
def test_shared_values(protocol: int) -> None:
    part = {"w": MATRIX}
    found = tensors(pickle.dumps({"a": part, "b": [part, part], "c": MATRIX}, protocol))
    assert list(found) == ["a.w", "b.0.w", "b.1.w", "c"]
    assert all(array is found["c"] for array in found.values())


def test_what_holds_itself_where_no_array_is() -> None:
    value: list[Any] = [MATRIX, []]
    value[1].extend([1, value[1], {"a": value[1]}])
    assert list(tensors(pickle.dumps(value))) == ["0"]
    value[1].append(value)
    refused(pickle.dumps(value), "its value: holds itself, and tensors")
    refused(pickle.dumps({"a": {"b": value}}), "a.b: holds itself, and tensors")


def test_one_array_and_lists() -> None:
    same(tensors(pickle.dumps(MATRIX))["tensor"], MATRIX)
    assert list(tensors(pickle.dumps([MATRIX, (1, MATRIX)]))) == ["0", "1.1"]
    refused(pickle.dumps({"vocabulary": ["a", "b"], 1: {2.5: None}}), "^holds no tensors$")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (5,)}, "w: damaged: 16 bytes do not make shape"),
        ({"shape": (1 << 40, 1 << 40)}, "do not make shape"),
        ({"shape": (-2, -2)}, "w: damaged: shape: expected a number from 0"),
        ({"shape": None}, "shape: expected at most 32 numbers, got a value of type NoneType"),
        ({"shape": (1,) * 33}, "at most 32 numbers"),
        ({"data": b"123"}, "3 bytes do not make"),
        ({"data": 16}, "a value of type int do not make"),
        ({"dtype": "f4"}, "an array without a dtype"),
        ({"code": ""}, "a dtype of a value of type str"),
        ({"code": 4}, "a dtype of a value of type int"),
        ({"state": (3, "x")}, "odd description of a dtype"),
        ({"whole": (1, 2)}, "odd description of an array"),
        ({"kind": named("builtins.list")}, "an array of the class builtins.list"),
    ],
)
def test_arrays_that_lie(change: dict[str, Any], message: str) -> None:
    refused(_described(**change), message)


def _described(**change: Any) -> bytes:
    """A pickle of an array of two rows, one part of whose description is another."""
    dtype = call("numpy.dtype", change.get("code", "f4"), False, True)
    dtype = Code(dtype + emit(change.get("state", (3, "<", None, None, None, -1, -1, 0))) + b"b")
    kind = change.get("kind", named("numpy.ndarray"))
    empty = call("numpy.core.multiarray._reconstruct", kind, (0,), b"b")
    shape, data = change.get("shape", (2, 2)), change.get("data", bytes(16))
    state = change.get("whole", (1, shape, change.get("dtype", dtype), False, data))
    return program({"w": Code(empty + emit(state) + b"b")})


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("f16", "f16"),
        ("f4,f4", "f4,f4"),
        ("M8[s]", "datetime64"),
        ("O8", "object"),
        ("V8", "V8"),
        ("U2", "text"),
        (named("builtins.list"), "list"),
        ("\n\x1b[31m", "\\n\\x1b[31m"),
    ],
)
def test_types_of_which_only_the_name_is_read(code: Any, name: str) -> None:
    array = tensors(_described(code=code))["w"]
    assert array.dtype.names == (name,)
    assert array.shape == (2, 2)
    structured = tensors(_described(state=(3, "<", None, ("a",), {}, 4, 1, 0)))["w"]
    assert structured.dtype.names == ("structured",)


# -- what would be executed --------------------------------------------------------------------------------


class Reduces:
    """Pickled, it asks for a call."""

    def __init__(self, *how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how


ATTACKS: dict[str, tuple[Any, str]] = {
    "system": (
        Reduces(os.system, ("touch TRACE",)),
        "names the function (posix|nt).system, which is not executed",
    ),
    "eval": (Reduces(eval, ("open('TRACE', 'w')",)), "names the function builtins.eval"),
    "exec": (Reduces(exec, ("open('TRACE', 'w')",)), "names the function builtins.exec"),
    "write": (
        Reduces(Path.write_text, (Path("TRACE"), "x")),
        "names the (class|function) (path|builtins|copy)",
    ),
    "getattr": (Reduces(getattr, (1, "real")), "names the function builtins.getattr"),
    "reconstructor": (
        Reduces(copyreg._reconstructor, (dict, object, None)),
        "function copyreg._reconstructor",
    ),
    "partial": (Reduces(functools.partial, (print, "x")), "function functools.partial"),
    "import": (Reduces(__import__, ("os",)), "function builtins.__import__"),
    "class": (decimal.Decimal(3), "names the class decimal.Decimal, which is not executed$"),
    "numpy load": (Reduces(np.load, ("TRACE",)), "names the function numpy.load"),
    "instance": (collections.UserDict(a=1), "names the (class|function) (c|UserDict.)"),
}


@PROTOCOLS
@pytest.mark.parametrize("name", list(ATTACKS))
def test_functions_are_refused_by_name(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value, message = ATTACKS[name]
    refused(pickle.dumps({"w": MATRIX, "x": value}, protocol), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cposix\nsystem\n(S'touch TRACE'\ntR.", "function posix.system"),
        (b"(S'touch TRACE'\niposix\nsystem\n.", "function posix.system"),
        (b"(cposix\nsystem\nS'touch TRACE'\no.", "function posix.system"),
        (b"\x80\x02cposix\nsystem\n)\x81.", "function posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93)R.", "function posix.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cgetattr.eval\x93)R.", "function builtins.getattr.eval"),
        (b"\x80\x04K\x01K\x02\x93)R.", "a function's name is not text"),
        (b"c__builtin__\neval\n.", "function builtins.eval"),
        (b"c" + b"x" * 5000 + b"\nf\n.", "function x+\\.\\.\\., which"),
        (b"c\n\n.", "names the function ., which"),
        (b"ca\x1b[31m\nb\n.", "a.x1b.31m.b"),
        (program(Code(emit("x") + emit(()) + b"R")), "has a value of type str called"),
        (program(Code(emit({}) + emit(()) + b"R")), "has a value of type Dictionary called"),
        (program(Code(named("torch.float32") + emit(()) + b"R")), "has torch.float32 called, which is not"),
        (program(Code(named("builtins.list") + emit(()) + b"\x81")), "has builtins.list called"),
        (program(Code(named("builtins.set") + emit([]) + b"R")), "odd arguments of builtins.set"),
        (program(call("builtins.set", *range(17))), "odd arguments of builtins.set"),
        (program(call("torch.Size", 1, 2)), "odd arguments of torch.Size"),
        (program(call("_codecs.encode", "x", "zlib")), "bytes of a value of type str"),
        (program(call("collections.OrderedDict", [1])), "something else than pairs"),
        (program(call("torch._utils._rebuild_tensor", 1, 2, 3, 4)), "a tensor of a value of type int"),
        (
            program(call("torch._utils._rebuild_parameter", 1, 2, 3)),
            "a value of type int instead of a tensor",
        ),
        (program(call("torch.storage._load_from_bytes", 1)), "a storage of a value of type int"),
        (program(call("torch.storage._load_from_bytes", program(1))), "a storage in an unknown format"),
        (
            program(call("torch.storage._load_from_bytes", program(named("torch.storage._load_from_bytes")))),
            "names the function torch.storage._load_from_bytes",
        ),
        (
            program(call("torch._tensor._rebuild_from_type_v2", named("torch.Size"), 1, ((),), 1)),
            "has torch.Size called",
        ),
        (program(made("__torch__.M", {"__setstate__": 1})), "holds no tensors"),
        (program(Code(emit({}) + emit({"x": 1}) + b"b")), "holds no tensors"),
        (program(Code(emit("x") + emit({}) + b"b")), "fills a value of type str like a Inert"),
        (program(Code(named("torch.Size") + emit({}) + b"b")), "gives a state to torch.Size"),
        (program(Code(named("__torch__.M") + emit((1,)) + b"\x81")), "has __torch__.M called"),
        (program(Code(named("__torch__.M") + emit(()) + b"R")), "has __torch__.M called"),
        (program(Code(named("torch.Size") + b")" + emit({"a": 1}) + b"\x92")), "odd arguments of torch.Size"),
        (b"\x80\x02\x82\x01.", "names a function by a number .1., which is not executed"),
        (b"\x80\x02\x83\x01\x01.", "names a function by a number"),
        (b"\x80\x02\x84\x01\x01\x01\x01.", "names a function by a number"),
        (b"Pos.system\n.", "refers to something outside of the file"),
        (b"K\x01Q.", "refers to something outside of the file"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER, which is not executed"),
        (b"\x80\x05K\x01\x98.", "the instruction READONLY_BUFFER"),
    ],
)
def test_instructions_are_refused(content: bytes, message: str) -> None:
    refused(content, message)


# -- what would take memory or time --------------------------------------------------------------------------


def _laughs(opened: bytes, closed: bytes, item: Callable[[int], bytes]) -> bytes:
    """Thirty containers, each of which holds the one before ten times; the first holds an array."""
    code = files.numpy_pickle(SOUND)[2:-1] + b"q\x00"
    for level in range(1, 31):
        code += opened + b"".join(item(key) + b"h" + bytes([level - 1]) for key in range(10)) + closed
        code += b"q" + bytes([level])
    return b"\x80\x02" + code + b"."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02K\x01r\xff\xff\xff\xffj\xff\xff\xff\xff.", "holds no tensors"),
        (b"\x80\x02K\x01r\xff\xff\xff\x7fj\xfe\xff\xff\x7f.", "refers to a value that is not there"),
        (b"I1\np99999999999999999999\n.", "not a number of 32 bits"),
        (b"I1\np-1\n.", "not a number of 32 bits"),
        (b"B\xff\xff\xff\x7fabc.", "damaged pickle"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "damaged pickle"),
        (b"\x96" + struct.pack("<Q", 1 << 62) + b"abc.", "damaged pickle"),
        (b"\x8d" + struct.pack("<Q", 1 << 40) + b"abc.", "damaged pickle"),
        (b"X\xff\xff\xff\xffabc.", "damaged pickle"),
        (b"\x8b\xff\xff\xff\x7fabc.", "damaged pickle"),
        (b"\x95" + struct.pack("<Q", 1 << 62) + b"N.", "holds no tensors"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged pickle"),
        (_laughs(b"](", b"e", lambda key: b""), "more than 65536 names"),
        (_laughs(b"}(", b"u", lambda key: b"K" + bytes([key])), "more than 65536 names"),
        (_laughs(b"(", b"t", lambda key: b""), "more than 65536 names"),
        (b"](" * 100_000 + b"e" * 100_000 + b".", "nested more than 500 deep"),
        (b")" + b"\x85" * 100_000 + b".", "nested more than 500 deep"),
        (b")" + b"\x85" * 100_000 + b"K\x01" + b"s.", "takes more values|fills"),
        (
            b"}" + b")" + b"\x85" * 100_000 + b"K\x01" + b"s.",
            "a dictionary with the key a value of type tuple",
        ),
        (
            b"\x80\x02" + b"](" * 600 + files.numpy_pickle(SOUND)[2:-1] + b"e" * 600 + b".",
            "nested more than 500",
        ),
        (files.numpy_pickle({"x" * 1001: MATRIX}), "a name of more than 1000 characters: xxx"),
        (b"\x80\x02]q\x00(h\x00" + files.numpy_pickle(SOUND)[2:-1] + b"e.", "value: holds itself"),
        (
            b"\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00" + files.numpy_pickle(SOUND)[4:-2] + b"u.",
            "value: holds itself",
        ),
        (b"\x80\x02]q\x00h\x00a.", "holds no tensors"),
        (b"0.", "takes more values than there are"),
        (b"(.", "takes more values than there are"),
        (b"K\x01(\x85t.", "takes more values than there are"),
        (b"e.", "a mark that is not there"),
        (b"K\x01(K\x01s.", "takes more values|fills"),
        (b"}(K\x01u.", "key has no value"),
        (b"N" * 200 + b"h\x05.", "refers to a value that is not there"),
        (b"K\x01", "damaged pickle"),
        (b"\x80\x02", "damaged pickle"),
        (b"\xff.", "damaged pickle"),
        (b"(((((o.", "an object without a class"),
    ],
)
def test_bombs(content: bytes, message: str) -> None:
    refused(content, message)


def test_copies_are_counted() -> None:
    """A text of a megabyte, turned into bytes again and again by a few instructions each."""
    text = emit("x" * (1 << 20))
    code = b"\x80\x02" + text + b"q\x00" + emit("latin1") + b"q\x01"
    code += b"".join(named("_codecs.encode") + b"h\x00h\x01\x86R" for _ in range(100)) + b"."
    refused(code, "copies much more than the file holds")
    pairs = emit([("k", 1)] * 5000)
    code = (
        b"\x80\x02"
        + pairs
        + b"q\x00"
        + b"".join(named("collections.OrderedDict") + b"h\x00\x85R" for _ in range(500))
    )
    refused(code + b".", "copies much more than the file holds")
    key = emit(b"x" * (1 << 20))
    code = b"\x80\x03" + key + b"q\x00N" + b"}h\x00Ns" * 100 + b"."
    refused(code, "copies much more than the file holds")


def test_the_number_of_instructions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.interop.files.pickled import inert

    monkeypatch.setattr(inert, "_INSTRUCTIONS", 1000)
    refused(b"N" * 2000 + b".", "a pickle of more than 1000 instructions")


def test_an_array_that_is_shared_often_is_not_copied_often() -> None:
    array = np.ones(1 << 16, "f4")
    refused(pickle.dumps({n: array.view() for n in range(2)} | {"x": [array] * 100}), "that share")


def test_warnings_of_escapes_are_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    refused(b"S'a\\d\\z'\n.", "holds no tensors")
    assert not recwarn.list


def test_nothing_of_a_pickle_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("open('TRACE', 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(b"ctrap\nf\n.", "names the function trap.f")
    refused(program(call("trap.Net")), r"names the class trap.Net.*; save a module's state_dict\(\)")
    assert [path.name for path in tmp_path.iterdir()] == ["trap.py"]
