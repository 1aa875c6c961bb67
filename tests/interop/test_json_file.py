"""JSON of GuitarML, of RTNeural, and of names with numbers: in and out to the bit, and lines of refusal."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import assert_same, layer
from keras_files import computed, dense, parameters
from scipy.special import expit

import lstm_numba as ln
from lstm_numba.errors import UserError, WeightsError, WeightsWarning
from lstm_numba.interop.files.json_file import read_json_file
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.files.strict_json import parse_json
from lstm_numba.interop.state_dict import build

STYLES = {"guitarml": "rec.", "rtneural": None}


def read(value: Any) -> Any:
    """What is read from a value written as JSON, or from a text."""
    return read_json_file(value.encode() if isinstance(value, str) else json.dumps(value).encode())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("style", "name"), [("guitarml", n) for n in ("lstm", "gru", "rnn")] + [("rtneural", "gru")]
)
def test_a_round_trip_keeps_the_bits(style: str, name: str, layers: int, dtype: str, tmp_path: Path) -> None:
    rnn, path = layer(name, layers, dtype=dtype), tmp_path / "m.json"
    rnn.params["bias_hh_l0"].flat[:3] = 1e-45, 3.4028235e38, 0.1
    ln.save_json(rnn, path, style)
    contents = read_contents(path)
    assert contents.kind == "json"
    prefix = STYLES[style] or f"{name}."
    assert contents.cells == {prefix: name}
    assert_same(build(parameters(contents, prefix), "x", name), rnn)
    first = path.read_bytes()
    ln.save_json(rnn, path, style)
    assert path.read_bytes() == first


def test_one_bias_of_rtneural(tmp_path: Path) -> None:
    rnn, path = layer("lstm", 2), tmp_path / "m.json"
    ln.save_json(rnn, path, "rtneural")
    found = parameters(read_contents(path), "lstm.")
    for n in range(2):
        summed = rnn.params[f"bias_ih_l{n}"] + rnn.params[f"bias_hh_l{n}"]
        assert np.array_equal(found[f"bias_ih_l{n}"], summed)
        assert not found[f"bias_hh_l{n}"].any()
        for key in (f"weight_ih_l{n}", f"weight_hh_l{n}"):
            assert found[key].tobytes() == rnn.params[key].tobytes()


@pytest.mark.parametrize("style", list(STYLES))
def test_every_float32_is_the_same(style: str, tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F7FFFFF, 4 * 50 * 50, np.uint32)
    rnn = ln.LSTM(3, 50, seed=0)
    rnn.params["weight_hh_l0"][...] = bits.view(np.float32).reshape(200, 50)
    ln.save_json(rnn, tmp_path / "m.json", style)
    (found,) = (
        v for n, v in read_contents(tmp_path / "m.json").tensors.items() if n.endswith("weight_hh_l0")
    )
    assert found.dtype == np.float32
    assert found.tobytes() == rnn.params["weight_hh_l0"].tobytes()


@pytest.mark.parametrize("style", list(STYLES))
def test_models(style: str, tmp_path: Path) -> None:
    model, path = ln.SequenceRegressor(1, 3, 1, cell="gru", per_step=True, seed=0), tmp_path / "m.json"
    model.output.params["bias"][...] = 0.3
    ln.save_json(model, path, style)
    contents = read_contents(path)
    prefix, head = ("rec.", "lin") if style == "guitarml" else ("gru.", "dense")
    assert_same(build(parameters(contents, prefix), "x", contents.cells[prefix]), model.rnn)
    for key in ("weight", "bias"):
        assert contents.tensors[f"{head}.{key}"].tobytes() == model.output.params[key].tobytes()
    whole = json.loads(path.read_text())
    if style == "guitarml":
        assert whole["model_data"] == {
            "model": "SimpleRNN", "input_size": 1, "skip": 0, "output_size": 1, "unit_type": "GRU",
            "num_layers": 1, "hidden_size": 3, "bias_fl": True,
        }  # fmt: skip
    else:
        assert whole["in_shape"] == [None, None, 1]
        assert [(entry["type"], entry["shape"]) for entry in whole["layers"]] == [
            ("gru", [None, None, 3]),
            ("dense", [None, None, 1]),
        ]


@pytest.mark.parametrize("style", list(STYLES))
def test_layers_without_biases_get_zeros(style: str, tmp_path: Path) -> None:
    for name in ("lstm", "gru"):
        rnn = layer(name, bias=False)
        ln.save_json(rnn, tmp_path / "m.json", style)
        contents = read_contents(tmp_path / "m.json")
        found = parameters(contents, STYLES[style] or f"{name}.")
        assert not found["bias_ih_l0"].any()
        assert found["bias_hh_l0"].shape == found["bias_ih_l0"].shape == (len(found["weight_ih_l0"]),)
        assert found["weight_ih_l0"].tobytes() == rnn.params["weight_ih_l0"].tobytes()


def test_what_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    for rnn, style, message in (
        (layer("peephole"), "guitarml", "guitarml has lstm, gru, rnn, got peephole"),
        (layer("gru-reset-before"), "rtneural", "rtneural has lstm, gru, got gru-reset-before"),
        (layer("rnn"), "rtneural", "rtneural has lstm, gru, got rnn"),
        (layer("lstm", both=True), "guitarml", "guitarml has one direction, got two"),
        (layer("lstm"), "keras", "style: expected one of guitarml, rtneural, got 'keras'"),
    ):
        with pytest.raises(ValueError, match=message):
            ln.save_json(rnn, path, style)
    with pytest.raises(ValueError, match=r"ends in \.json"):
        ln.save_json(layer("lstm"), tmp_path / "m.txt")
    with pytest.raises(TypeError, match="got LanguageModel"):
        ln.save_json(ln.LanguageModel(5, 3), path)  # type: ignore[arg-type]
    rnn = layer("lstm")
    rnn.params["bias_ih_l0"][2] = np.inf
    with pytest.raises(UserError, match="bias_ih_l0: holds numbers that are not finite"):
        ln.save_json(rnn, path)
    assert not list(tmp_path.iterdir())


# -- as the programs at the other end write it -----------------------------------------------------------


def test_a_file_of_guitarml() -> None:
    rng = np.random.default_rng(0)
    state = {f"rec.{k}": v for k, v in ln.LSTM(1, 2, seed=0).state_dict().items()}
    state |= {"lin.weight": rng.standard_normal((1, 2)).astype("f4"), "lin.bias": np.zeros(1, "f4")}
    model = {"model": "SimpleRNN", "input_size": 1, "skip": 1, "unit_type": "LSTM", "hidden_size": 2}
    text = json.dumps(
        {"model_data": model, "state_dict": {k: v.tolist() for k, v in state.items()}}, indent=0
    )
    contents = read(text)
    assert contents.cells == {"rec.": "lstm"}
    assert contents.notes == (
        "the network adds its input to its output (skip=1): save_json(..., skip=1) writes it back",
    )
    assert {k: v.dtype for k, v in contents.tensors.items()} == dict.fromkeys(state, np.dtype("f4"))
    assert all(contents.tensors[name].tobytes() == array.tobytes() for name, array in state.items())
    model["unit_type"] = "Transformer"
    with pytest.raises(ValueError, match="unit_type: expected one of LSTM, GRU, RNN, got 'Transformer'"):
        read({"model_data": model, "state_dict": {}})


def _rtneural(*layers: tuple[str, str, list[Any]]) -> Any:
    return read(
        {
            "in_shape": [None, None, 1],
            "layers": [
                {
                    "type": kind,
                    "activation": how,
                    "shape": [None, None, 2 if kind in ("gru", "prelu") else weights[0].shape[1]],
                    "weights": [w.tolist() for w in weights],
                }
                for kind, how, weights in layers
            ],
        }
    )


def test_a_file_of_rtneural() -> None:
    """Keras' GRU by its own equations: h = z h + (1 - z) tanh(W x + b + r (R h + b'))."""
    rng = np.random.default_rng(1)
    kernel, recurrent, bias = (rng.standard_normal(shape) for shape in ((1, 6), (2, 6), (2, 6)))
    second = [rng.standard_normal(shape) for shape in ((2, 6), (2, 6), (2, 6))]
    first_dense, last_dense = ([rng.standard_normal((2, n)), rng.standard_normal(n)] for n in (2, 1))
    contents = _rtneural(
        ("time-distributed-dense", "tanh", [rng.standard_normal((1, 1))]),
        ("gru", "tanh", [kernel, recurrent, bias]),
        ("gru", "", second),
        ("dense", "", first_dense),
        ("gru", "tanh", second),
        ("prelu", "", [np.ones(2)]),
        ("dense", "relu", last_dense),
    )
    assert contents.cells == {"gru.": "gru", "gru_2.": "gru"}
    assert contents.notes == (
        "gru, gru_1: one stack of 2 layers here, under the name gru",
        "dense: tanh follows it",
        "prelu: RTNeural's prelu is not computed here",
        "dense_2: relu follows it",
    )
    assert contents.tensors["prelu.0"].tolist() == [1, 1]
    x, h, hs = rng.standard_normal((4, 1)), np.zeros(2), []
    for step in x:
        z, r, n = np.split(step @ kernel + bias[0], 3)
        hz, hr, hn = np.split(h @ recurrent + bias[1], 3)
        z, r = expit(z + hz), expit(r + hr)
        h = z * h + (1 - z) * np.tanh(n + r * hn)
        hs.append(h)
    one = _rtneural(("gru", "tanh", [kernel, recurrent, bias]), ("dense", "", last_dense))
    y, _ = computed(one, "gru.", x[None])
    assert np.allclose(y[0], hs, rtol=0, atol=1e-14)
    expected = np.array(hs) @ last_dense[0] + last_dense[1]
    assert np.allclose(dense(one, "dense", y[0]), expected, rtol=0, atol=1e-14)


def test_sizes_that_are_not_those_of_the_arrays(tmp_path: Path) -> None:
    model, path = ln.SequenceRegressor(2, 3, 1, per_step=True, seed=0), tmp_path / "m.json"
    ln.save_json(model, path)
    whole = json.loads(path.read_text())
    for key, where in (
        ("input_size", "rec.weight_ih_l0 have 2"), ("hidden_size", "rec.weight_hh_l0 have 3"),
        ("output_size", "lin.weight have 1"), ("num_layers", "rec. have 1"),
    ):  # fmt: skip
        wrong = {**whole, "model_data": {**whole["model_data"], key: 24}}
        with pytest.raises(WeightsError, match=f"^{key}: the file says 24, the arrays of {where}$"):
            read(wrong)
        del wrong["model_data"][key]
        assert read(wrong).tensors.keys() == read(whole).tensors.keys()
    ln.save_json(model, path, "rtneural")
    whole = json.loads(path.read_text())
    first, second = whole["layers"]
    for change, message in (
        ({"in_shape": [None, None, 7]}, "inputs of lstm: the file says 7, the arrays of lstm have 2"),
        ({"layers": [{**first, "shape": [24]}]}, "lstm: shape: the file says 24, the arrays of lstm have 3"),
        ({"layers": [first, {**second, "shape": [2]}]}, "dense: shape: the file says 2, .* of dense have 1"),
    ):
        with pytest.raises(WeightsError, match=f"^{message}$"):
            read({**whole, **change})


def test_skip(tmp_path: Path) -> None:
    model, path = ln.SequenceRegressor(2, 3, 1, per_step=True, seed=0), tmp_path / "m.json"
    back = tmp_path / "back.json"
    ln.save_json(model, path, skip=True)
    assert json.loads(path.read_text())["model_data"]["skip"] == 1
    with pytest.warns(WeightsWarning, match=r"adds its input .*: save_json\(\.\.\., skip=1\)"):
        loaded = ln.load_weights(path, head="lin")
    ln.save_json(loaded, back, skip=True)
    assert back.read_bytes() == path.read_bytes()
    ln.save_json(ln.SequenceRegressor(2, 3, 2, per_step=True), path, skip=2)
    with pytest.warns(WeightsWarning, match="the first 2 features of its input"):
        ln.load_weights(path, head="lin")
    for other, style, skip, message in (
        (model, "rtneural", True, "skip: rtneural has none, got True"),
        (
            model,
            "guitarml",
            2,
            "skip: expected 1, or the number of outputs, .* 2 inputs and 1 output, got 2",
        ),
        (model, "guitarml", -1, "skip: expected 1, .* got -1"),
        (model, "guitarml", 1.0, r"skip: expected a bool or a number of features, got 1\.0"),
        (model.rnn, "guitarml", True, "skip: expected a model with a linear layer"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            ln.save_json(other, tmp_path / "no.json", style, skip=skip)
    assert not (tmp_path / "no.json").exists()


def test_a_layer_alone_is_of_no_use_to_plug_ins(tmp_path: Path) -> None:
    with pytest.warns(WeightsWarning, match="m.json: GuitarML's plug-ins cannot use a layer") as found:
        ln.save_json(layer("lstm"), tmp_path / "m.json")
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ln.save_json(layer("lstm"), tmp_path / "m.json", "rtneural")


def test_names_with_numbers() -> None:
    contents = read({"note": "text", "a": {"b": [[1, 2.5], [3, 4]], "c": [0.1]}, "d": [1e300], "e": [[], []]})
    shapes = {name: (array.dtype.name, array.shape) for name, array in contents.tensors.items()}
    assert shapes == {
        "a.b": ("float32", (2, 2)), "a.c": ("float32", (1,)), "d": ("float64", (1,)), "e": ("float32", (2, 0))
    }  # fmt: skip
    assert contents.tensors["a.c"] == np.float32(0.1)
    assert read({"x": [0.1, 0.30000000000000004]}).tensors["x"].dtype == np.float64
    assert read("\ufeff" + '{"x": [1]}').tensors["x"].tolist() == [1]  # as Windows begins a text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x": [NaN]}', "holds NaN, which is not finite"),
        ('{"x": [-Infinity]}', "holds -Infinity, which is not finite"),
        ('{"x": [1], "x": [2]}', "'x' is in it twice"),
        ('{"x": [[1, 2], [3]]}', "x: lists of [1, 2] elements side by side"),
        ('{"x": [[1], 3]}', "x: expected numbers, got [1]"),
        ('{"x": [true]}', "x: expected numbers, got True"),
        ('{"x": ["1"]}', "x: expected numbers, got '1'"),
        ('{"x": [null]}', "x: expected numbers, got None"),
        ('{"x": [1' + "0" * 350 + "]}", "x: holds a number beyond float64's range"),
        ('{"x": [1' + "0" * 5000 + "]}", "holds a number of 5001 digits"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "lists within lists, too deep"),
        ('{"x": ' + "[" * 20 + "]" * 20 + "}", "x: lists of"),
        ("[1]", "expected an object of names and numbers, got a list"),
        ("{}", "holds no weights"),
        ("", "invalid JSON"),
        ('{"x": [1]', "invalid JSON"),
        ('{"layers": [{"type": 3}]}', "type: expected the type of a layer, got 3"),
        (
            '{"layers": [{"type": "lstm", "weights": [[1]]}]}',
            "lstm: weights: expected kernel, recurrent_kernel",
        ),
        (
            '{"layers": [{"type": "lstm", "activation": "relu", "weights": []}]}',
            "lstm: activation: expected tanh, got 'relu'",
        ),
        (
            '{"layers": [{"type": "gru", "weights": [[[1]], [[1]]]}]}',
            "gru: recurrent_kernel: expected 3 gates",
        ),
        ('{"layers": [{"type": "dense", "weights": [[1]]}]}', "dense: weights: expected a matrix and a bias"),
        ('{"model_data": {"skip": -1}, "state_dict": {"a": [1]}}', "skip: expected a number of features"),
    ],
)
def test_refusals(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_contents(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused_later(tmp_path: Path) -> None:
    rnn, path = ln.GRU(1, 2, seed=0), tmp_path / "w.json"
    state = {name: array.tolist() for name, array in rnn.state_dict().items()}
    path.write_text(json.dumps(state).replace("[", "[1e400, ", 1).replace("[1e400, [", "[[", 1))
    assert_same(ln.load_weights(path), rnn)
    state["bias_ih_l0"][0] = 0.125
    path.write_text(json.dumps(state).replace("0.125", "1e400"))
    with pytest.raises(UserError, match="bias_ih_l0: holds numbers that are not finite"):
        ln.load_weights(path)


def test_one_key_of_very_many_that_is_there_twice() -> None:
    """In a time that grows with their number, not with its square."""
    text = "{" + ",".join(f'"{number}":0' for number in range(200_000)) + ',"199999":1}'
    with pytest.raises(WeightsError, match="'199999' is in it twice"):
        parse_json(text)
