"""Writes PyTorch's files and NumPy's pickles by hand, so that tests need no PyTorch, and files can lie."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
MAGIC = 0x1950A86A20F9469CFC6C
_CLASSES = {
    "f4": "Float",
    "f8": "Double",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "u1": "Byte",
    "b1": "Bool",
}


class Code(bytes):
    """Instructions of a pickle that leave one value on the stack."""


def emit(value: Any) -> bytes:
    """Instructions that push a value; those of protocol 2, and bytes of protocol 3."""
    if isinstance(value, Code):
        return bytes(value)
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(emit, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(emit, value)) + b"e"
    assert isinstance(value, dict), type(value)
    return b"}(" + b"".join(emit(key) + emit(held) for key, held in value.items()) + b"u"


def program(value: Any) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + emit(value) + b"."


def named(name: str) -> Code:
    """A function or class."""
    module, _, last = name.rpartition(".")
    return Code(b"c" + module.encode() + b"\n" + last.encode() + b"\n")


def call(name: str, *arguments: Any) -> Code:
    """A call of a function."""
    return Code(named(name) + emit(arguments) + b"R")


def made(name: str, attributes: Any) -> Code:
    """An object of a class, made without a call of its constructor."""
    return Code(named(name) + b")\x81" + emit(attributes) + b"b")


def storage(kind: str, key: str, count: int, *view: Any) -> Code:
    """A reference to a storage; files in the old format have a `view`, or None, last."""
    return Code(emit(("storage", named(kind), key, "cpu", count, *view)) + b"Q")


def rebuilt(stored: Code, offset: Any, shape: Any, strides: Any) -> Code:
    """A tensor, a view of a storage."""
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", stored, offset, shape, strides, False, hooks)


def _tensors(arrays: Arrays, *view: Any) -> dict[str, Code]:
    """Contiguous tensors, whose storages are numbered."""
    found = {}
    for number, (name, array) in enumerate(arrays.items()):
        kind = f"torch.{_CLASSES[array.dtype.str[1:]]}Storage"
        strides = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        found[name] = rebuilt(storage(kind, str(number), array.size, *view), 0, array.shape, strides)
    return found


def archive(value: Any, members: Mapping[str, bytes], folder: str = "archive/") -> bytes:
    """A zip archive with any pickle."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        for name, content in {"data.pkl": program(value), **members}.items():
            new.writestr(zipfile.ZipInfo(folder + name), content)
    return memory.getvalue()


def saved(arrays: Arrays) -> bytes:
    """What ``torch.save`` writes of a state_dict."""
    members = {f"data/{number}": array.tobytes() for number, array in enumerate(arrays.values())}
    state = Code(
        call("collections.OrderedDict") + b"(" + emit(_tensors(arrays))[2:] + emit({"_metadata": {}}) + b"b"
    )
    return archive(state, {"byteorder": b"little", **members, "version": b"3\n"})


def scripted(arrays: Arrays, layer: str = "lstm") -> bytes:
    """What ``torch.jit.save`` writes of a module that has these parameters in a submodule."""
    members = {f"data/{number}": array.tobytes() for number, array in enumerate(arrays.values())}
    inner = made("__torch__.torch.nn.modules.rnn.LSTM", {**_tensors(arrays), "training": True})
    code = b"class M(Module):\n  pass\n"
    return archive(
        made("__torch__.M", {layer: inner, "training": False}),
        {**members, "code/__torch__.py": code, "constants.pkl": program(()), "version": b"3\n"},
    )


def old_format(arrays: Arrays) -> bytes:
    """What ``torch.save`` wrote before version 1.6: pickles, then storages."""
    state = call("collections.OrderedDict")
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    keys = [str(number) for number in range(len(arrays))]
    pickles = (MAGIC, 1001, machine, Code(state + b"(" + emit(_tensors(arrays, None))[2:]), keys)
    data = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    return b"".join([program(value) for value in pickles] + data)


def numpy_pickle(arrays: Arrays) -> bytes:
    """What ``pickle.dump`` writes of a dictionary of arrays."""
    return program({name: _numpy_array(array) for name, array in arrays.items()})


def _numpy_array(array: Any) -> Code:
    empty = call("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), (0,), b"b")
    dtype = call("numpy.dtype", array.dtype.str[1:], False, True)
    state = (3, array.dtype.str[0], None, None, None, -1, -1, 0)
    dtype = Code(dtype + emit(state) + b"b")
    return Code(empty + emit((1, array.shape, dtype, False, array.tobytes())) + b"b")
