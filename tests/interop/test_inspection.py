"""`inspect_weights`: what a file holds; each call that it shows loads what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, layer

import lstm_numba as ln
from lstm_numba.errors import WeightsError
from lstm_numba.nn.layers import make_layer


def network(path: Path) -> tuple[Path, dict[str, Any]]:
    """Two layers, two linear layers, an embedding, and names that are not fit for a terminal."""
    layers = {
        "enc.": make_layer("lstm", 3, 5, 2, bidirectional=True, seed=1),
        "dec_": make_layer("gru", 4, 10, seed=2),
    }
    state = {start + name: array for start, rnn in layers.items() for name, array in rnn.state_dict().items()}
    state |= {"emb.weight": np.zeros((9, 10), np.float32), "fc.weight": np.ones((2, 10), np.float32)}
    state |= {"fc.bias": np.ones(2, np.float32), "other.weight": np.ones((2, 7), np.float32)}
    state |= {"other.bias": np.ones(2, np.float32), "odd\x1b[31m\n": np.zeros((), np.int64)}
    np.savez(path, **state)
    return path, layers


def test_every_call_loads_what_it_says(tmp_path: Path) -> None:
    path, layers = network(tmp_path / "w.npz")
    found = ln.inspect_weights(path)
    assert [layer.label for layer in found.layers] == sorted(layers)
    for shown in found.layers:
        assert_same(eval(shown.command, {"ln": ln}), layers[shown.label])
        assert shown.heads == ("fc",)
        head = ln.load_weights(path, prefix=shown.label, head="fc")
        assert head.output.params["weight"].shape == (2, 10)
    assert [layer.what for layer in found.layers] == [
        "gru, 4 inputs, 1 x 10 units, float32",
        "bidirectional lstm, 3 inputs, 2 x 5 units, float32",
    ]
    assert {tensor.name: tensor.shape for tensor in found.tensors} == {
        name: array.shape for name, array in ln.read_tensors(path).items()
    }


def test_the_table(tmp_path: Path) -> None:
    path, _ = network(tmp_path / "w.npz")
    lines = str(ln.inspect_weights(path)).splitlines()
    assert lines[0] == f"{path}: npz, 26 tensors"
    assert f"  {'odd?[31m?':24}  int64     a number" in lines
    assert f"  {'enc.weight_ih_l1':24}  float32   20 x 10" in lines
    assert lines[-7] == "2 recurrent layers"
    assert lines[-2].strip() == f"ln.load_weights({str(path)!r}, prefix='enc.')"
    assert lines[-1].strip() == "linear layers that fit: head='fc'"


def test_a_layer_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    state = {f"a.{name}": array for name, array in layer("lstm").state_dict().items()}
    state["a.weight_hh_l0"] = state["a.weight_hh_l0"][:-1]
    np.savez(tmp_path / "w.npz", **state)
    (shown,) = ln.inspect_weights(tmp_path / "w.npz").layers
    assert shown.command == ""
    assert shown.what == "weight_hh_l0: expected 1, 3 or 4 gates of 5 rows, got shape (19, 5)"


def test_a_layer_that_needs_its_linear_layer(tmp_path: Path) -> None:
    """Among bare names a matrix that nothing takes is refused; the call that is shown takes it."""
    rnn, path = layer("gru"), tmp_path / "w.npz"
    np.savez(path, **rnn.state_dict(), out_w=np.ones((2, 5), np.float32), out_b=np.ones(2, np.float32))
    (shown,) = ln.inspect_weights(path).layers
    assert shown.command == f"ln.load_weights({str(path)!r}, head='out')"
    assert_same(eval(shown.command, {"ln": ln}).rnn, rnn)


def test_a_linear_layer_that_is_not_finite_hides_no_layer(tmp_path: Path) -> None:
    state = {f"rnn.{name}": array for name, array in layer("gru").state_dict().items()}
    odd = {"a.weight": np.full((2, 5), np.nan, np.float32), "a.bias": np.ones(2, np.float32)}
    np.savez(tmp_path / "w.npz", **state, **odd, **{"b.weight": odd["a.weight"], "b.bias": np.ones(3)})
    (shown,) = ln.inspect_weights(tmp_path / "w.npz").layers
    assert shown.command
    assert shown.heads == ("a",)


def test_files_without_a_layer(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weight=np.zeros(3))
    assert str(ln.inspect_weights(tmp_path / "w.npz")).endswith("no recurrent layer")
    with pytest.raises(WeightsError, match="no such file"):
        ln.inspect_weights(tmp_path / "none.npz")
    with pytest.raises(WeightsError, match=r"w\.txt: expected a name that ends in \.npz"):
        ln.inspect_weights(tmp_path / "w.txt")


def test_lists_of_keras(tmp_path: Path) -> None:
    rnn = layer("gru", 2, True)
    ln.save_keras(rnn, tmp_path / "k.npz")
    (shown,) = ln.inspect_weights(tmp_path / "k.npz").layers
    assert_same(eval(shown.command, {"ln": ln}), rnn)


def test_nodes_of_onnx_models(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    rnn = layer("lstm", 2, True)
    ln.save_onnx(rnn, tmp_path / "m.onnx")
    first, second = ln.inspect_weights(tmp_path / "m.onnx").layers
    assert "LSTM I=3 H=5, both directions" in first.what
    lower = eval(first.command, {"ln": ln})
    for name, array in lower.params.items():
        assert array.tobytes() == rnn.params[name].tobytes()
    upper = eval(second.command, {"ln": ln})
    assert upper.input_size == 10
    assert upper.params["weight_hh_l0"].tobytes() == rnn.params["weight_hh_l1"].tobytes()
