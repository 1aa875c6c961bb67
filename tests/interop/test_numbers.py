"""Numbers of every kind in files of weights: read exactly, or refused by the tensor's name."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_weights import npy, npz, refused, tensors
from interop_tools import assert_same, layer

import lstm_numba as ln
from lstm_numba.interop.any_format import load_source, open_source
from lstm_numba.interop.files.numbers import check_finite


def truncated(rnn: Any) -> dict[str, np.ndarray]:
    """Make a layer's weights numbers of bfloat16; the upper halves of their float32."""
    halves = {}
    for name, array in rnn.params.items():
        halves[name] = (array.view(np.uint32) >> 16).astype("<u2")
        array[...] = (halves[name].astype(np.uint32) << 16).view(np.float32)
    return halves


def safetensors(path: Path, parts: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """A file of tensors: name -> type, shape, bytes."""
    header, data = {}, b""
    for name, (kind, shape, content) in parts.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    path.write_bytes(tensors(header, data))
    return path


def test_bfloat16(tmp_path: Path) -> None:
    rnn = layer("lstm", 2, True)
    halves = truncated(rnn)
    parts = {name: ("BF16", array.shape, array.tobytes()) for name, array in halves.items()}
    assert_same(ln.load_weights(safetensors(tmp_path / "w.safetensors", parts)), rnn)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    from lstm_numba.interop.state_dict import build

    assert_same(build({k: array.view(ml_dtypes.bfloat16) for k, array in halves.items()}, "here"), rnn)


#: Types of safetensors that are not read, with the bytes of four numbers.
FOREIGN = {"F8_E4M3": 4, "F8_E5M2": 4, "I8": 4, "I64": 32, "BOOL": 4, "U16": 8, "C64": 32}


@pytest.mark.parametrize("kind", list(FOREIGN))
def test_a_foreign_type_hides_nothing(kind: str, tmp_path: Path) -> None:
    rnn, path = layer("gru"), tmp_path / "w.safetensors"
    own = {f"rnn.{k}": ("F32", array.shape, array.tobytes()) for k, array in rnn.params.items()}
    other = {"head.weight": (kind, (2, 2), bytes(FOREIGN[kind]))}
    safetensors(path, {**own, **other})
    assert_same(ln.load_weights(path, prefix="rnn."), rnn)
    found, passed_over, _ = load_source(open_source(path))
    assert_same(found, rnn)
    assert passed_over == ["head.weight"]
    name = "weight_hh_l0"
    size = rnn.params[name].size * FOREIGN[kind] // 4
    safetensors(path, {**own, f"rnn.{name}": (kind, rnn.params[name].shape, bytes(size))})
    said = {"C64": "complex64", "BOOL": "bool"}.get(kind, kind)
    said = {"I": "int", "U": "uint"}.get(kind[0], "") + kind[1:] if kind[0] in "IU" else said
    with pytest.raises(ValueError, match=f"{name}: expected float32 or float64, got ({said}|{kind})$"):
        ln.load_weights(path)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "onnx", "keras.npz"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(ending: str, wrong: float, tmp_path: Path) -> None:
    if ending == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    rnn, path = layer("lstm", 2), tmp_path / f"w.{ending}"
    rnn.params["weight_hh_l1"][3, 2] = wrong
    save, load = {
        "onnx": (ln.save_onnx, ln.load_onnx),
        "keras.npz": (ln.save_keras, ln.load_keras),
    }.get(ending, (ln.save_weights, ln.load_weights))
    save(rnn, path)
    name = {"onnx": "LSTM .*: R", "keras.npz": "layer 1 recurrent_kernel"}.get(ending, "weight_hh_l1")
    with pytest.raises(ValueError, match=f"{name}: holds numbers that are not finite") as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_finite_numbers_pass() -> None:
    check_finite("a", np.array([1e308, -1e308, 5e-324, 0]), "here")
    check_finite("a", np.array([3.4e38] * 9, np.float32), "here")  # whose sum is infinite
    check_finite("a", np.arange(3), "here")
    with pytest.raises(ValueError, match="here: a: "):
        check_finite("a", np.array([1, complex(0, np.nan)]), "here")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 5), complex), "got complex128"),
        (np.zeros((20, 5), bool), "got bool"),
        (np.zeros((20, 5), np.int64), "got int64"),
        (np.zeros((20, 5), "U3"), "got <U3"),
        (np.zeros((20, 5), "M8[s]"), "got datetime64"),
        (np.zeros((20, 5), [("real", "f4"), ("imag", "f4")]), "got "),
        (np.zeros((20, 5), np.longdouble), "got float128|got longdouble"),
    ],
)
def test_arrays_of_other_kinds(array: Any, message: str, tmp_path: Path) -> None:
    rnn, path = layer("lstm"), tmp_path / "w.npz"
    np.savez(path, **{**rnn.params, "weight_hh_l0": array})
    refused(path, "weight_hh_l0: expected float32 or float64, " + message)
    refused(path, "no recurrent layer is named 'rnn.'", prefix="rnn.")
    np.savez(path, **{f"rnn.{k}": v for k, v in rnn.params.items()}, other=array)
    assert_same(ln.load_weights(path), rnn)


def test_masked_arrays() -> None:
    rnn = layer("lstm")
    weights = [np.ma.masked_array(a, a > 0) for a in ln.to_keras(rnn)[0]]
    with pytest.raises(ValueError, match=r"layer 0 kernel: .*mask would be lost"):
        ln.from_keras(weights)


@pytest.mark.parametrize(
    "value",
    [
        "[" * 200_000 + "]" * 200_000,
        "1" + "0" * 400,
        "1" + "0" * 5000,
        "1e308",
        "1e400",
        "NaN",
        "null",
        "{}",
        '"x"',
    ],
    ids=lambda text: text[:6] + f" {len(text)}",
)
def test_numbers_and_brackets_in_headers(value: str, tmp_path: Path) -> None:
    header = '{"weight_hh_l0":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
    path = tmp_path / "w.safetensors"
    for old in ("[1,1]", '"F32"', "[0,4]", "4]", '{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}'):
        text = header.replace(old, value + ("]" if old == "4]" else ""), 1).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
        refused(path, "damaged|missing|weight_hh_l0")
    for text in (f'{{"__metadata__":{{"lstm_numba.cell":{value}}}}}', f'{{"__metadata__":{value}}}'):
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
        refused(path, "damaged|missing|unknown here")
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + value[:30_000] + ",), }"
    path = npz(tmp_path / "w.npz", {"weight_hh_l0.npy": npy(text)})
    refused(path, "damaged|do not make shape|is missing")
    for text in (f'{{"lstm_numba.cell": {value}}}', f'{{"lstm_numba.cell": "lstm", "more": {value}}}'):
        with zipfile.ZipFile(path, "w") as archive:
            archive.comment = text.encode()[:65_000]
        refused(path, "the archive's comment: damaged|unknown here|missing")
