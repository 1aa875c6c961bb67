"""Files that are damaged, cut short or lie: one line names the file and the fault, nothing is executed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damaged_weights import F4, HEADER, LIES, Trap, npy, npz, refused, tensors
from interop_tools import layer

import lstm_numba as ln
from lstm_numba.errors import UserError
from lstm_numba.nn.recurrent import Recurrent


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("lie", list(LIES))
def test_lies_about_the_layer(lie: str, ending: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    how, message = LIES[lie]
    state = layer("lstm", 2, True).state_dict()
    how(state)
    path = tmp_path / f"w.{ending}"
    if ending == "npz":
        np.savez(path, **state)
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    refused(path, message)


def test_pickles_are_not_executed(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "w.npz"
    np.savez(path, weight_hh_l0=np.array([Trap(trace)], object))
    refused(path, "weight_hh_l0: holds Python objects")
    refused(npz(path, {"weight_hh_l0.npy": npy("__import__('os').mkdir('x')")}), "damaged")
    content = pickle.dumps({"weight_hh_l0": Trap(trace)}, 4)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as new:
        new.writestr("archive/data.pkl", content)
    for name in ("w.pt", "w.pth", "w.bin", "w.ckpt", "w.jit", "w.pkl", "w.pickle"):
        for what in (content, archive.getvalue()):
            (tmp_path / name).write_bytes(what)
            refused(tmp_path / name, r"names the function pathlib.*\.write_text, which is not executed")
    assert not trace.exists()
    pickle.loads(content)
    assert trace.read_text() == "executed"  # the trap works


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(HEADER % "(1000000000000,)", b"1234"), "4 bytes do not make shape"),
        (npy(HEADER % "(-1, 1)", b"1234"), "4 bytes do not make shape"),
        (npy(HEADER % "(1 << 60,)"), "damaged"),
        (npy(HEADER % "()", b""), "0 bytes do not make shape"),
        (npy("{'shape': (1,)}", b"1234"), "damaged"),
        (npy("(" * 3000), "damaged"),
        (npy("1" * 20000), "damaged"),
        (b"\x93NUMPY\x09\x00", "format"),
        (b"hello", "damaged"),
        (b"", "damaged"),
    ],
)
def test_lying_arrays(content: bytes, message: str, tmp_path: Path) -> None:
    refused(npz(tmp_path / "w.npz", {"weight_hh_l0.npy": content}), message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_lying_archives(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    refused(npz(path, {"weight_hh_l0": b""}), "not an array")
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("weight_hh_l0.npy", npy(HEADER % "(1,)", b"1234"))
    refused(path, "is in it twice")
    bomb = npy(HEADER % "(100000000,)") + bytes(400_000_000)
    refused(npz(path, {"a.npy": bomb}, compression=zipfile.ZIP_DEFLATED), "that say they are 4")
    path.write_bytes(b"")
    refused(path, "not a zip archive")
    refused(tmp_path / "none.npz", "no such file")
    refused(tmp_path, "ends in .npz")
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", "is a folder")
    with pytest.raises(ValueError, match=r"ends in \.npz or \.safetensors"):
        ln.save_weights(layer("lstm"), tmp_path / "w.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234",
        struct.pack("<Q", 1 << 62) + b"{}",
        tensors(b"[" * 5000),
        tensors([1, 2]),
        tensors({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        tensors({"w": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 4]}}, b"1234"),
        tensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        tensors({"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        tensors({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        tensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
        tensors({"__metadata__": {"lstm_numba.cell": 3}}),
        tensors({"__metadata__": {"lstm_numba.cell": "os.system"}}),
        tensors({"__metadata__": {"lstm_numba.cell": "x\ny" * 99}}),
    ],
)
def test_lying_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    refused(path, ".")


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_damage_anywhere(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{ending}"
    ln.save_weights(layer("gru", 2), path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for n in rng.integers(0, len(content) - 40, 60):
        path.write_bytes(content[: int(n)])
        refused(path, ".")
    for _ in range(200):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        message = ""
        try:
            rnn = ln.load_weights(path)
        except UserError as error:
            message = str(error)
        if message:
            assert "\n" not in message
            assert message.startswith(str(path))
        else:  # a weight, or what nobody reads
            assert isinstance(rnn, Recurrent)


def test_names_that_would_break_the_line(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    for name in ("a\nb", "\x1b[31mred", "x" * 60000):
        np.savez(path, **{name: np.zeros(1, F4), "weight_hh_l0": np.zeros((20, 5), F4)})
        refused(path, "unknown name|xxx")
        with pytest.raises(ValueError, match=r".") as caught:
            ln.load_weights(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) <= 1000


@pytest.mark.parametrize("said", ['["lstm"]', "3", '"os"', "[", "{}"])
def test_archives_whose_comment_lies(said: str, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    ln.save_weights(layer("lstm"), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b'{"lstm_numba.cell": ' + said.encode() + b"}"
    refused(path, "unknown here|damaged")


def test_what_the_user_asks_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    ln.save_weights(layer("gru-reset-before"), path)
    with pytest.raises(ValueError, match="cell: expected one of"):
        ln.load_weights(path, cell="transformer")
    refused(path, "lstm has 4 gates, weight_hh_l0 has 3", cell="lstm")
    refused(path, "no recurrent layer is named 'rnn.'", prefix="rnn.")
    ln.save_weights(layer("peephole"), path)
    refused(path, "weight_ph_l0: lstm has no such parameter", cell="lstm")
    two = layer("lstm").state_dict()
    np.savez(path, **{f"{a}.{k}": v for k, v in two.items() for a in ("encoder", "decoder")})
    refused(path, r"prefix: expected one of \['decoder.', 'encoder.'\]")
    assert ln.load_weights(path, prefix="decoder.").hidden_size == 5
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v.astype(np.float16) for k, v in two.items()})
    path.write_bytes(buffer.getvalue())
    assert ln.load_weights(path).dtype == np.float32  # exact: float32 holds every float16


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("l0.kernel", "l0.kernel is missing"),
        ("l1.backward.recurrent_kernel", "l1.backward.recurrent_kernel is missing"),
        ("l1.backward.bias", "expected 2, 3, 4 or 6 arrays, got 5"),
    ],
)
def test_keras_files(remove: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    ln.save_keras(layer("lstm", 2, True), path)
    with np.load(path) as found:
        arrays = dict(found)
    for wrong, why in (
        ({k: v for k, v in arrays.items() if k != remove}, message),
        ({k: v for k, v in arrays.items() if not k.startswith("l0.")}, "is missing before"),
        ({**arrays, "l0.gamma": arrays["l0.bias"]}, "l0.gamma: unknown name"),
        ({"l0.bias": arrays["l0.bias"]}, "l0.kernel is missing"),
        ({}, "holds no layer"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(ValueError, match=why) as caught:
            ln.load_keras(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
