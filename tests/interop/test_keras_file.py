"""Files of Keras: the same numbers as Keras gives, notes on what is not done here, lines of refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_files as k
import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.interop.files.keras.file import read_keras_file
from lstm_numba.interop.loading import load
from lstm_numba.interop.state_dict import build

ENDINGS = ("m.keras", "m.h5", "m.weights.h5")
X = np.random.default_rng(5).standard_normal((2, 5, 3)).astype(np.float32)


# -- the numbers of Keras -----------------------------------------------------------------------------


def _wrapped(kind: str, **options: Any) -> Any:
    layers = k.keras().layers
    if kind.startswith("Bidirectional "):
        return layers.Bidirectional(_wrapped(kind.removeprefix("Bidirectional "), **options), name="rec")
    if kind.startswith("RNN "):
        cell = getattr(layers, kind.removeprefix("RNN ") + "Cell")
        return layers.RNN(cell(2, **options), return_sequences=True, name="rec")
    return getattr(layers, kind)(2, return_sequences=True, name="rec", **options)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("kind", "options", "cell"),
    [
        ("LSTM", {}, "lstm"),
        ("LSTM", {"use_bias": False}, "lstm"),
        ("LSTM", {"dropout": 0.3, "recurrent_dropout": 0.2, "unroll": True}, "lstm"),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}, f"lstm,f=HardSigmoid_{1 / 6!r}_0.5"),
        ("LSTM", {"activation": "softsign"}, "lstm,g=Softsign,h=Softsign"),
        ("GRU", {}, "gru"),
        ("GRU", {"reset_after": False}, "gru-reset-before"),
        ("GRU", {"activation": "leaky_relu"}, "gru,g=LeakyRelu_0.2"),
        ("SimpleRNN", {}, "rnn"),
        ("SimpleRNN", {"activation": "relu"}, "rnn-relu"),
        ("Bidirectional LSTM", {}, "lstm"),
        ("Bidirectional GRU", {"reset_after": False}, "gru-reset-before"),
        ("RNN GRU", {}, "gru"),
        ("RNN LSTM", {}, "lstm"),
    ],
)
def test_layers(kind: str, options: dict[str, Any], cell: str, ending: str, tmp_path: Path) -> None:
    only_weights = ending == "m.weights.h5"
    if only_weights and ("activation" in str(options)):
        pytest.skip("a file of weights does not say activations")
    model = k.sequential(_wrapped(kind, **options), k.keras().layers.Dense(4, name="head"))
    contents = k.saved(model, tmp_path / ending)
    assert contents.kind == "keras"
    assert contents.cells == {"rec.": cell}
    y, _ = k.computed(contents, "rec.", X)
    assert_close(k.outputs(model, X), k.dense(contents, "head", y), "forward")
    assert bool(contents.notes) == only_weights


@pytest.mark.parametrize("ending", ENDINGS[:2])
@pytest.mark.parametrize("functional", [False, True])
def test_stacks(functional: bool, ending: str, tmp_path: Path) -> None:
    layers = k.keras().layers
    parts = [
        layers.Bidirectional(layers.GRU(2, return_sequences=True), name="a"),
        layers.Dropout(0.5),
        layers.Bidirectional(layers.GRU(2, return_sequences=True), name="b"),
        layers.Bidirectional(layers.GRU(2), name="c"),
        layers.Dense(2, name="d"),
    ]
    if functional:
        tensor = given = k.keras().Input((None, 3))
        for part in parts:
            tensor = part(tensor)
        model = k.filled(k.keras().Model(given, tensor))
    else:
        model = k.sequential(*parts)
    contents = k.saved(model, tmp_path / ending)
    assert contents.cells == {"a.": "gru"}
    assert contents.notes == (
        "a, b, c: one stack of 3 layers here, under the name a",
        "c: the network uses its final state only (return_sequences=False)",
    )
    _, (final,) = k.computed(contents, "a.", X)
    last = np.concatenate([final[4], final[5]], axis=1)
    assert_close(k.outputs(model, X), k.dense(contents, "d", last), "forward")


def test_layers_that_are_no_stack(tmp_path: Path) -> None:
    layers, keras = k.keras().layers, k.keras()
    given = keras.Input((None, 2))
    a = layers.LSTM(2, return_sequences=True, name="a")(given)
    b = layers.LSTM(2, return_sequences=True, name="b")(a)  # its input is seen by add, too
    c = layers.LSTM(2, return_sequences=True, name="c")(layers.Add()([a, b]))
    d = layers.LSTM(3, return_sequences=True, name="d")(c)  # other units
    e = layers.GRU(3, return_sequences=True, name="e")(d)  # another cell
    f = layers.GRU(3, return_sequences=True, name="f")(layers.Activation("relu")(e))
    g = layers.GRU(3, return_sequences=True, name="g", go_backwards=True)(f)
    h = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum", name="h")(g)
    i = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="i")(h)  # sees sums
    j = layers.SimpleRNN(2, return_sequences=True, name="j")(i)
    relu = layers.SimpleRNN(2, return_sequences=True, name="l", activation="relu")(j)  # another cell
    m = layers.SimpleRNN(2, return_sequences=True, name="m", activation="relu", use_bias=False)(relu)
    model = k.filled(keras.Model(given, m))
    for ending in ENDINGS[:2]:
        contents = k.saved(model, tmp_path / ending)
        assert set(contents.cells) == {f"{name}." for name in "abcdefghijlm"}
        assert contents.notes == (
            "g: reads from the end (go_backwards): reverse the steps of its input",
            "h: merge_mode=sum; this layer gives both directions' outputs side by side, "
            "which the caller has to merge",
        )


def test_models_in_models(tmp_path: Path) -> None:
    layers, keras = k.keras().layers, k.keras()
    inner = keras.Sequential(
        [keras.Input((None, 3)), layers.LSTM(2, return_sequences=True, name="x"), layers.Dense(2, name="y")],
        name="inner",
    )
    outer = keras.Sequential(
        [keras.Input((None, 3)), inner, layers.LSTM(2, return_sequences=True, name="x")], name="outer"
    )
    given = keras.Input((None, 3))
    model = k.filled(keras.Model(given, layers.TimeDistributed(layers.Dense(3), name="z")(outer(given))))
    for ending in ENDINGS[:2]:
        contents = k.saved(model, tmp_path / ending)
        assert contents.cells == {"outer.inner.x.": "lstm", "outer.x.": "lstm"}
        y, _ = k.computed(contents, "outer.inner.x.", X)
        y, _ = k.computed(contents, "outer.x.", k.dense(contents, "outer.inner.y", y))
        assert_close(k.outputs(model, X), k.dense(contents, "z", y), "forward")


def test_steps_that_the_network_skips(tmp_path: Path) -> None:
    layers = k.keras().layers
    model = k.sequential(
        layers.Masking(-1.0, name="mask"),
        layers.Bidirectional(layers.GRU(2, return_sequences=True), name="a"),
        layers.GRU(2, name="b"),
    )
    contents = k.saved(model, tmp_path / "m.keras")
    assert contents.notes[-1].startswith("mask: the network skips steps whose features all equal -1.0; ")
    padded = np.concatenate([X, np.full((2, 3, 3), -1, np.float32)], axis=1)
    y, _ = k.computed(contents, "a.", padded, np.array([5, 5]))
    _, (final,) = k.computed(contents, "b.", y, np.array([5, 5]))
    assert_close(k.outputs(model, padded), final[0], "forward")
    words = k.keras().Sequential([layers.Embedding(7, 3, mask_zero=True, name="words"), layers.LSTM(2)])
    words.build((None, None))
    contents = k.saved(k.filled(words), tmp_path / "m.h5")
    assert contents.notes[-1].startswith("words: the network skips steps of index 0 (mask_zero); ")
    assert contents.tensors["words.weight"].tobytes() == words.get_weights()[0].tobytes()


def test_a_layer_with_these_weights(tmp_path: Path) -> None:
    """Once with a layer itself, as it takes long to compile; the other tests go by its reference."""
    layers = k.keras().layers
    model = k.sequential(layers.GRU(2, return_sequences=True, name="a"))
    contents = k.saved(model, tmp_path / "m.keras")
    rnn = build(k.parameters(contents, "a."), "a", contents.cells["a."], batch_first=True)
    assert_close(rnn(X)[0], k.outputs(model, X), "forward")
    assert all(np.array_equal(a, b) for a, b in zip(ln.to_keras(rnn)[0], model.get_weights(), strict=True))


def test_names_of_layers_in_a_file_of_weights(tmp_path: Path) -> None:
    layers = k.keras().layers
    model = k.sequential(layers.LSTM(2, name="encoder", return_sequences=True), layers.BatchNormalization())
    contents = k.saved(model, tmp_path / "m.weights.h5")
    assert contents.cells == {"encoder.": "lstm"}
    contents = k.saved(model, tmp_path / "m.keras")
    found = [contents.tensors[f"batch_normalization.{n}"] for n in ("gamma", "beta", "moving_mean")]
    assert all(np.array_equal(a, b) for a, b in zip(found, model.get_weights()[3:6], strict=True))


# -- files of Keras 2, and what Keras is not needed for -------------------------------------------------

h5py = pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.mark.parametrize("whole", [False, True])
def test_keras_2(whole: bool) -> None:
    lstm, forward, backward = (k.weights(g, i, 2, s, s) for g, i, s in ((4, 3, 1), (3, 2, 2), (3, 2, 2)))
    rng = np.random.default_rng(3)
    kernel, bias = rng.standard_normal((4, 5)).astype(np.float32), np.arange(5, dtype=np.float32)
    inner = k.entry("GRU", "gru", return_sequences=True)
    config = k.chain(
        k.entry("LSTM", "lstm", return_sequences=True, recurrent_activation="hard_sigmoid"),
        k.entry("Bidirectional", "both", layer=inner),
        k.entry("Dense", "head"),
    )
    arrays = {
        "lstm": k.named("lstm/lstm_cell", lstm),
        "both": k.named("both/forward_gru/gru_cell_1", forward)
        | k.named("both/backward_gru/gru_cell_2", backward),
        "head": {"head/kernel:0": kernel, "head/bias:0": bias},
        "drop": {},
    }
    contents = read_keras_file(k.keras_2(arrays, config if whole else None))
    assert contents.cells == {
        "lstm.": "lstm,f=HardSigmoid_0.2_0.5" if whole else "lstm",
        "both.": "gru",
    }
    assert bool(contents.notes) != whole
    assert contents.tensors["head.weight"].tobytes() == kernel.T.tobytes()
    assert contents.tensors["head.bias"].tobytes() == bias.tobytes()
    for prefix, lists in (("lstm.", lstm), ("both.", [*forward, *backward])):
        cell = contents.cells[prefix].partition(",")[0]
        back = ln.to_keras(build(k.parameters(contents, prefix), "x", cell))[0]
        assert all(np.array_equal(a, b) for a, b in zip(back, lists, strict=True))


def test_older_files_of_keras_2() -> None:
    arrays = {"gru_1": k.named("gru_1", k.weights(3))}  # no cell in the names; a list for a configuration
    old = {
        "class_name": "Sequential",
        "config": [k.entry("GRU", "gru_1", recurrent_activation="hard_sigmoid")],
    }
    contents = read_keras_file(k.keras_2(arrays, old, version="2.1.6"))
    assert contents.cells == {"gru_1.": "gru-reset-before,f=HardSigmoid_0.2_0.5"}
    many = {f"lstm_{n:04}": k.named(f"lstm_{n:04}/lstm_cell", k.weights(4)) for n in range(3)}
    with h5py.File(memory := __import__("io").BytesIO(k.keras_2(many)), "r+") as file:
        names = file.attrs["layer_names"]  # as Keras distributes what is larger than HDF5 allows
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
    assert set(read_keras_file(memory.getvalue()).cells) == {f"{name}." for name in many}


def test_functional_models_of_keras_2() -> None:
    def node(*names: str) -> Any:
        return [[[name, 0, 0, {}] for name in names]]

    layers = [
        k.entry("InputLayer", "in", []),
        k.entry("LSTM", "a", node("in"), return_sequences=True),
        k.entry("Dropout", "drop", node("a")),
        k.entry("LSTM", "b", node("drop"), return_sequences=True),
        k.entry("LSTM", "c", [[["b", 0, 0, {"initial_state": [["a", 0, 0]]}]]], return_sequences=True),
    ]
    config = {"name": "m", "layers": layers, "output_layers": [["c", 0, 0]]}
    arrays = {
        name: k.named(f"{name}/lstm_cell", k.weights(4, inputs))
        for name, inputs in (("a", 3), ("b", 2), ("c", 2))
    }
    contents = read_keras_file(k.keras_2(arrays, {"class_name": "Functional", "config": config}))
    assert set(contents.cells) == {"a.", "b.", "c."}  # a's outputs go to c, too
    assert contents.notes == ("c: sees several layers, one of which may give its initial state",)
    layers[-1]["inbound_nodes"] = node("b")
    contents = read_keras_file(k.keras_2(arrays, {"class_name": "Functional", "config": config}))
    assert set(contents.cells) == {"a."}


def test_names_of_tensorflow_2_12() -> None:
    arrays = k.numbered("_layer_checkpoint_dependencies/lstm/cell", k.weights(4))
    contents = read_keras_file(k.archive(k.chain(k.entry("LSTM", "rec", return_sequences=True)), arrays))
    assert contents.cells == {"rec.": "lstm"}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            {"stateful": True},
            "a: continues with the state of the previous batch (stateful): pass the state on",
        ),
        ({"time_major": True}, "a: its network has the time axis first (time_major)"),
        ({"return_sequences": False}, "a: the network uses its final state only (return_sequences=False)"),
    ],
)
def test_notes(change: dict[str, Any], note: str) -> None:
    options = {"return_sequences": True, **change}
    content = k.archive(
        k.chain(k.entry("LSTM", "a", **options)), k.numbered("layers/lstm/cell", k.weights(4))
    )
    assert read_keras_file(content).notes == (note,)


LSTM = k.entry("LSTM", "a")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (k.entry("LSTM", "a", activation="gelu"), "a: activation gelu is not computed here"),
        (
            k.entry("LSTM", "a", recurrent_activation={"class_name": "LeakyReLU", "config": {}}),
            "a: recurrent_activation LeakyReLU is not computed here",
        ),
        (k.entry("RNN", "a", cell=k.entry("MyCell", "b")), "a: Keras' RNN is not computed here"),
        (k.entry("ConvLSTM1D", "a"), "a: Keras' ConvLSTM1D is not computed here"),
        (k.entry("CuDNNLSTM", "a"), "a: Keras' CuDNNLSTM is not computed here"),
        (
            k.entry("Bidirectional", "a", layer=k.entry("LSTM", "b", go_backwards=True)),
            "a: go_backwards of the first direction is not computed here",
        ),
        (
            k.entry(
                "Bidirectional",
                "a",
                layer=k.entry("LSTM", "b"),
                backward_layer=k.entry("LSTM", "c", activation="relu"),
            ),
            "a: directions that differ (lstm, lstm,g=Relu,h=Relu) are not computed here",
        ),
        (k.entry("GRU", "a"), "a: recurrent_kernel: expected 3 gates (gru), got shape (2, 8)"),
        (k.entry("SimpleRNN", "a"), "a: recurrent_kernel: expected 1 gates (rnn), got shape (2, 8)"),
        (
            k.entry("Bidirectional", "a", layer=LSTM),
            "a: expected arrays of 2 direction(s), got 1",
        ),
    ],
)
def test_what_no_layer_here_computes(layer: Any, message: str) -> None:
    content = k.keras_2({"a": k.named("a/lstm_cell", k.weights(4))}, k.chain(layer))
    assert k.refusal(content) == message


def test_a_layer_beside_one_that_is_not_computed() -> None:
    arrays = {name: k.named(f"{name}/cell", k.weights(4)) for name in ("a", "b")}
    config = k.chain(k.entry("LSTM", "a", return_sequences=True), k.entry("LSTM", "b", activation="swish"))
    contents = read_keras_file(k.keras_2(arrays, config))
    assert contents.cells == {"a.": "lstm"}
    assert contents.notes == ("b: activation swish is not computed here: left out",)
    assert "b.cell.kernel" in contents.tensors or "b.kernel" in contents.tensors


def test_files_that_are_something_else() -> None:
    lstm = k.numbered("layers/lstm/cell", k.weights(4))
    assert k.refusal(b"") == "damaged, or not an HDF5 file"
    assert k.refusal(b"PK\3\4").startswith("damaged, or not a zip archive")
    assert "config.json is missing" in k.refusal(_without(k.archive(k.chain(LSTM), lstm), "config.json"))
    assert "weights.h5 is missing" in k.refusal(_without(k.archive(k.chain(LSTM), lstm), "model.weights.h5"))
    assert k.refusal(k.archive(k.chain(LSTM), {"x": np.zeros(3)})).startswith(
        "expected weights that Keras wrote"
    )
    four = k.weights(4)
    four[2] = four[2][:-1]
    assert "a: bias: expected shape (8,)" in k.refusal(
        k.archive(k.chain(LSTM), k.numbered("layers/lstm/cell", four))
    )
    four = [array.astype(int) for array in k.weights(4)]
    assert "a: kernel: expected float32 or float64, got int64" in k.refusal(
        k.archive(k.chain(LSTM), k.numbered("layers/lstm/cell", four))
    )


def _without(content: bytes, name: str) -> bytes:
    import io
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(memory, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
    return memory.getvalue()


# -- what surrounds the layer -------------------------------------------------------------------------


def _surrounded(what: str) -> Any:
    """LSTM and Dense ``dense``, with something else in the network."""
    keras, layers = k.keras(), k.keras().layers
    given = keras.Input((None, 3))
    before = {
        "Rescaling before": lambda x: layers.Rescaling(2.0, name="scaled")(x),
        "BatchNormalization": lambda x: layers.BatchNormalization(name="norm")(x),
        "Dense before": lambda x: layers.Dense(3, name="first")(x),
        "harmless": lambda x: layers.GaussianNoise(0.1)(layers.Activation("linear")(x)),
    }
    after = {
        "Add": lambda y: layers.Add(name="sum")([y, given]),
        "operator": lambda y: y + given,
        "Multiply": lambda y: layers.Multiply(name="product")([y, given]),
        "Rescaling after": lambda y: layers.Rescaling(2.0, name="scaled")(y),
        "Activation": lambda y: layers.Activation("relu", name="bent")(y),
        "harmless": lambda y: layers.ActivityRegularization(0.1)(layers.Dropout(0.5)(y)),
    }
    h = layers.LSTM(2, return_sequences=True, name="rec")(before.get(what, lambda x: x)(given))
    head = layers.Dense(3, activation="tanh" if what == "activation" else None, name="dense")
    if what == "TimeDistributed":
        head = layers.TimeDistributed(layers.Dense(3, activation="tanh"), name="dense")
    return k.filled(keras.Model(given, after.get(what, lambda y: y)(head(h))))


OTHERS = "the network has other layers, which are not read and change its numbers: "


@pytest.mark.parametrize("ending", ENDINGS[:2])
@pytest.mark.parametrize(
    ("what", "notes"),
    [
        ("Add", [OTHERS + "sum (Add)"]),
        ("operator", [OTHERS + "add (Add)"]),
        ("Multiply", [OTHERS + "product (Multiply)"]),
        ("Rescaling before", [OTHERS + "scaled (Rescaling)"]),
        ("Rescaling after", [OTHERS + "scaled (Rescaling)"]),
        ("BatchNormalization", [OTHERS + "norm (BatchNormalization)"]),
        ("Dense before", [OTHERS + "first (Dense)"]),
        ("Activation", [OTHERS + "bent (Activation)"]),
        ("activation", ["dense: tanh follows it"]),
        ("TimeDistributed", ["dense: tanh follows it"]),
        ("harmless", []),
    ],
)
def test_what_surrounds_the_layer(what: str, notes: list[str], ending: str, tmp_path: Path) -> None:
    path = tmp_path / ending
    k.keras().backend.clear_session()  # the name of what an operator makes is numbered
    contents = k.saved(_surrounded(what), path)
    assert list(load(contents, "x", head="dense").notes) == notes
    # In a listing any linear layer may be the head.
    assert list(ln.inspect_weights(path).notes) == [note for note in notes if "first" not in note]


def test_what_surrounds_a_layer_of_keras_2() -> None:
    arrays = {"a": k.named("a/lstm_cell", k.weights(4)), "d": {"d/kernel:0": np.ones((2, 1), "f4")}}
    chain = k.chain(
        k.entry("Embedding", "words"),
        k.entry("LSTM", "a", return_sequences=True),
        k.entry("Dense", "d", activation="sigmoid"),
        k.entry("TFOpLambda", "tf.math.multiply", function="math.multiply"),
    )
    contents = read_keras_file(k.keras_2(arrays, chain))
    assert load(contents, "x", head="d").notes == (
        "d: sigmoid follows it",
        OTHERS + "words (Embedding), tf.math.multiply (TFOpLambda)",
    )
    assert OTHERS + "words (Embedding), d (Dense), tf.math.multiply (TFOpLambda)" in load(contents, "x").notes
