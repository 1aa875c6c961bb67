"""Weights in and out: exact to the bit, and the same numbers as in the programs at the other end."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import FORMS, KERAS, assert_same, call, compare, layer, random_input
from scipy.special import expit

import lstm_numba as ln
from lstm_numba.errors import WeightsWarning
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.nn.layers import CELL_NAMES

TORCH = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "rnn-relu": "RNN"}


# -- npz and safetensors -----------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("name", CELL_NAMES)
@pytest.mark.smoke
def test_files_give_back_the_bits(
    name: str, ending: str, dtype: str, layers: int, both: bool, bias: bool, tmp_path: Path
) -> None:
    rnn, path = layer(name, layers, both, bias, dtype=dtype), tmp_path / f"w.{ending}"
    ln.save_weights(rnn, path)
    assert_same(ln.load_weights(path), rnn)
    first = path.read_bytes()
    ln.save_weights(rnn, path)
    assert path.read_bytes() == first
    if ending == "npz":
        with np.load(path, allow_pickle=False) as found:
            assert set(found) == set(rnn.params)


def test_files_of_others_mean_pytorch(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for name in ("rnn", "lstm", "gru", "peephole"):
        rnn = layer(name, 2, True)
        arrays = {"encoder." + key: value for key, value in rnn.state_dict().items()}
        arrays["head.weight"] = np.zeros((2, 10), np.float32)
        np.savez(tmp_path / "w.npz", **arrays)
        save_file(arrays, tmp_path / "w.safetensors")
        for path in (tmp_path / "w.npz", tmp_path / "w.safetensors"):
            assert_same(ln.load_weights(path), rnn)
            assert_same(ln.load_weights(path, prefix="encoder.", batch_first=True), rnn)
    relu = layer("rnn-relu")
    np.savez_compressed(tmp_path / "w.npz", **{k: np.asfortranarray(v) for k, v in relu.params.items()})
    assert_same(ln.load_weights(tmp_path / "w.npz", cell="rnn-relu"), relu)


# -- PyTorch -----------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(TORCH))
def test_pytorch(name: str, dtype: str, layers: int, both: bool, bias: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    rnn = layer(name, layers, both, bias, dtype=dtype, batch_first=bias)
    module = ln.to_torch(rnn)
    assert type(module).__name__ == TORCH[name]
    x, states = random_input(rnn)
    given = [torch.from_numpy(s) for s in states]
    with torch.no_grad():
        y, final = module(torch.from_numpy(x), tuple(given) if len(given) > 1 else given[0])
    finals = final if isinstance(final, tuple) else (final,)
    compare(call(rnn, x, states), [t.numpy() for t in (y, *finals)])
    back = ln.from_torch(module)
    assert_same(back, rnn)
    assert back.batch_first == rnn.batch_first
    # In the file of either, the other finds its state_dict.
    ln.save_weights(rnn, tmp_path / "ours.safetensors")
    module.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    assert_same(ln.load_weights(tmp_path / "theirs.safetensors", cell=name), rnn)


def test_a_projection_from_pytorch_and_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = torch.nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True)
    rnn = ln.from_torch(module)
    assert (rnn.proj_size, rnn.hidden_size, rnn.num_layers, rnn.directions) == (2, 5, 2, 2)
    x = np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32)
    expected = module(torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(rnn(x)[0], expected, rtol=1e-5, atol=1e-6)
    again = ln.to_torch(rnn)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))


def test_a_projection_in_files(tmp_path: Path) -> None:
    rnn = ln.LSTM(3, 5, 2, proj_size=2, bidirectional=True, seed=1)
    ln.save_weights(rnn, tmp_path / "ours.safetensors")
    assert_same(ln.load_weights(tmp_path / "ours.safetensors"), rnn)
    ln.save_weights(rnn, tmp_path / "ours.npz")
    loaded = ln.load_weights(tmp_path / "ours.npz")
    assert (type(loaded), loaded.proj_size) == (ln.LSTM, 2)
    with pytest.raises(ValueError, match="lstm-projected"):
        ln.save_onnx(rnn, tmp_path / "ours.onnx")
    with pytest.raises(ValueError, match="lstm-projected"):
        ln.to_keras(rnn)


def test_weights_of_a_layer_with_zoneout(tmp_path: Path) -> None:
    """Files have the weights; other formats would compute something else with them."""
    rnn = ln.GRU(3, 5, zoneout=0.3, seed=1)
    ln.save_weights(rnn, tmp_path / "ours.npz")
    assert_same(ln.load_weights(tmp_path / "ours.npz"), ln.GRU(3, 5, seed=1))
    with pytest.raises(ValueError, match=r"expected no zoneout, which no other format has, got 0\.3"):
        ln.save_onnx(rnn, tmp_path / "ours.onnx")


def test_pytorch_has_one_kind_of_dropout() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lossy = ln.GRU(3, 5, 2, dropout=0.5, dropout_kind="sequence", weight_drop=0.2, recurrent_dropout=0.1)
    text = "PyTorch's GRU has no weight_drop, recurrent_dropout, dropout_kind='sequence'"
    with pytest.warns(WeightsWarning, match=text) as found:
        module = ln.to_torch(lossy)
    assert found[0].filename == __file__
    assert isinstance(module, torch.nn.GRU)
    assert module.dropout == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ln.to_torch(ln.GRU(3, 5, 2, dropout=0.5))
        ln.to_torch(ln.GRU(3, 5, 2, dropout_kind="sequence"))


def test_pytorch_refusals() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("peephole", "gru-reset-before"):
        with pytest.raises(ValueError, match=name):
            ln.to_torch(layer(name))
    with pytest.raises(ValueError, match="Linear"):
        ln.from_torch(torch.nn.Linear(3, 5))
    with pytest.raises(ValueError, match="bfloat16"):
        ln.from_torch(torch.nn.LSTM(3, 5, dtype=torch.bfloat16))


def test_quantized_modules_are_refused_in_words() -> None:
    class Quantized:
        """As ``torch.ao.nn.quantized.dynamic.LSTM``: its packed weights are no tensors."""

        mode, batch_first, dropout = "LSTM", False, 0.0

        def state_dict(self) -> dict[str, Any]:
            return {"_all_weight_values.0.param": object()}

    with pytest.raises(ValueError, match="param is not a tensor: expected a module that is not quantized"):
        ln.from_torch(Quantized())


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_pytorch_quantized() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for kind in (torch.nn.LSTM, torch.nn.GRU):
        module = torch.nn.Sequential(kind(3, 5))
        (module,) = torch.ao.quantization.quantize_dynamic(module, {kind}, dtype=torch.qint8)
        with pytest.raises(ValueError, match="not quantized"):
            ln.from_torch(module)
    with pytest.raises(ValueError, match="float32 on meta"):
        ln.from_torch(torch.nn.LSTM(3, 5, device="meta"))


# -- Keras -------------------------------------------------------------------------------------------


def keras_step(name: str, x: Any, states: list[Any], weights: list[Any]) -> list[Any]:
    """One step by the equations of keras/src/layers/rnn."""
    kernel, recurrent, *rest = weights
    h, units = states[0], recurrent.shape[0]
    bias = rest[0] if rest else np.zeros((2, kernel.shape[1]) if name == "gru" else kernel.shape[1])

    def parts(array: Any) -> list[Any]:
        return np.split(array, array.shape[-1] // units, axis=-1)

    if name.startswith("rnn"):
        s = x @ kernel + bias + h @ recurrent
        return [np.tanh(s) if name == "rnn" else np.maximum(s, 0)]
    if name == "lstm":
        i, f, c, o = parts(x @ kernel + h @ recurrent + bias)
        c = expit(f) * states[1] + expit(i) * np.tanh(c)
        return [expit(o) * np.tanh(c), c]
    x_z, x_r, x_h = parts(x @ kernel + (bias[0] if name == "gru" else bias))
    if name == "gru":
        r_z, r_r, r_h = parts(h @ recurrent + bias[1])
        z, r = expit(x_z + r_z), expit(x_r + r_r)
        hh = np.tanh(x_h + r * r_h)
    else:
        r_z, r_r = parts(h @ recurrent[:, : 2 * units])
        z, r = expit(x_z + r_z), expit(x_r + r_r)
        hh = np.tanh(x_h + (r * h) @ recurrent[:, 2 * units :])
    return [z * h + (1 - z) * hh]


@FORMS
@pytest.mark.parametrize("name", KERAS)
def test_keras(name: str, layers: int, both: bool, bias: bool, tmp_path: Path) -> None:
    rnn = layer(name, layers, both, bias, dtype="float64")
    x, states = random_input(rnn)
    y, finals = x, [np.empty_like(s) for s in states]
    for k, weights in enumerate(ln.to_keras(rnn)):
        size, outputs = len(weights) // rnn.directions, []
        for d in range(rnn.directions):
            n, rows = k * rnn.directions + d, []
            now = [s[n] for s in states]
            for row in y[::-1] if d else y:
                now = keras_step(name, row, now, weights[d * size :][:size])
                rows.append(now[0])
            for final, value in zip(finals, now, strict=True):
                final[n] = value
            outputs.append(np.stack(rows[::-1] if d else rows))
        y = np.concatenate(outputs, axis=2)  # Bidirectional(merge_mode="concat")
    compare(call(rnn, x, states), [y, *finals])

    # Into ours, and out again: Keras' own numbers, to the bit. From then on ours, too.
    there = ln.to_keras(rnn)
    back = ln.from_keras(there, cell=name)
    ln.save_keras(back, tmp_path / "keras.npz")
    assert_same(ln.load_keras(tmp_path / "keras.npz"), back)
    assert_same(ln.from_keras(ln.to_keras(back), cell=name), back)
    for before, after in zip(there, ln.to_keras(back), strict=True):
        assert [a.tobytes() for a in before] == [a.tobytes() for a in after]
        assert [a.shape for a in before] == [a.shape for a in after]
    compare(call(back, x, states), call(rnn, x, states))


def test_keras_shapes_tell_the_cell() -> None:
    rng = np.random.default_rng(0)
    for gates, bias, expected in (
        (4, (20,), "lstm"),
        (3, (2, 15), "gru"),
        (3, (15,), "gru-reset-before"),
        (1, (5,), "rnn"),
    ):
        weights = [rng.standard_normal(shape) for shape in ((3, 5 * gates), (5, 5 * gates), bias)]
        assert cell_name(ln.from_keras(weights)) == expected
        assert ln.from_keras(weights * 2).bidirectional


@pytest.mark.parametrize(
    ("shapes", "cell", "fault"),
    [
        ([(3, 20)], None, "expected 2, 3, 4 or 6 arrays, got 1"),
        ([(3, 20), (5, 25)], None, "1, 3 or 4 gates"),
        ([(3, 20), (5, 20), (20,)], "gru", r"3 gates \(gru\)"),
        ([(3, 15), (5, 20)], None, "expected 20 columns"),
        ([(3, 15), (5, 15), (2, 15)], "gru-reset-before", r"bias: expected shape \(15,\)"),
        ([(3, 20), (5, 20), (21,)], None, r"bias: expected shape \(20,\)"),
        ([(3, 20), (5, 20), (20,), (4, 20), (5, 20), (20,)], None, "weight_ih_l0_reverse"),
        ([(3, 20), (5,)], None, "expected a matrix"),
        ([(3, 20), (5, 20)], "peephole", "cell: expected one of"),
    ],
)
def test_keras_refusals(shapes: list[tuple[int, ...]], cell: str | None, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        ln.from_keras([np.zeros(shape, np.float32) for shape in shapes], cell=cell)
    assert "\n" not in str(caught.value)


def test_keras_has_no_peepholes() -> None:
    with pytest.raises(ValueError, match="peephole"):
        ln.to_keras(layer("peephole"))
