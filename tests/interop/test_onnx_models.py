"""Whole models as ONNX graphs: ONNX Runtime's scores and losses, and the same parameters back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import change, onnx
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.data.scaling import Scaler
from lstm_numba.data.series_types import Sequence as Piece
from lstm_numba.data.series_windows import WindowIndex
from lstm_numba.interop.any_format import fit_model, load_source, open_source
from lstm_numba.interop.onnx.graph import open_model
from lstm_numba.interop.onnx.model_import import read_onnx_model
from lstm_numba.models.base import SequenceBatch, TokenBatch
from lstm_numba.nn.losses import softmax
from lstm_numba.training.series_description import SeriesDescription
from lstm_numba.training.series_items import SeriesItems

INPUTS, HIDDEN, STEPS, BATCH, VOCABULARY = 2, 3, 6, 4, 7
LENGTHS = np.array([6, 2, 1, 5])

#: Every kind of model, tiny.
MODELS: dict[str, Callable[[], Any]] = {
    "classifier": lambda: ln.SequenceClassifier(INPUTS, HIDDEN, 5, bidirectional=True, layers=2, seed=1),
    "gru classifier": lambda: ln.SequenceClassifier(INPUTS, HIDDEN, 5, cell="gru", seed=1),
    "regressor": lambda: ln.SequenceRegressor(INPUTS, HIDDEN, 2, bidirectional=True, seed=1),
    "quantiles": lambda: ln.SequenceRegressor(INPUTS, HIDDEN, 2, loss="quantile", seed=1),
    "gaussian": lambda: ln.SequenceRegressor(
        INPUTS, HIDDEN, 2, loss="gaussian", per_step=True, bidirectional=True, layers=2, seed=1
    ),
    "language model": lambda: ln.LanguageModel(VOCABULARY, HIDDEN, embedding=2, layers=2, seed=1),
    "tied": lambda: ln.LanguageModel(VOCABULARY, HIDDEN, tie=True, cell="gru", seed=1),
}
SEQUENCES = [name for name in MODELS if name not in ("language model", "tied")]


def session(path: Path) -> Any:
    """A file in ONNX Runtime, after the checker has seen it."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    onnx.checker.check_model(str(path), full_check=True)
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def numbers(*shape: int) -> Any:
    """Inputs."""
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def cross_entropy(scores: Any, labels: Any) -> float:
    """Summed loss of classes."""
    chosen = np.take_along_axis(softmax(np.float64(scores)), labels[..., None], axis=-1)
    return float(-np.log(chosen).sum())


def number_loss(model: Any, scores: Any, y: Any) -> float:
    """Summed loss of numbers, by the formulas of `lstm_numba.engines.number_losses`."""
    s = np.float64(scores).reshape(*y.shape, model.loss.width)
    name = model.config()["loss"]
    if name == "mse":
        return float(np.square(s[..., 0] - y).sum())
    if name == "quantile":
        error, level = y[..., None] - s, np.array(model.loss.levels)
        return float(np.maximum(level * error, (level - 1) * error).mean(axis=-1).sum())
    variance = np.exp(s[..., 1]) + 1e-6
    return float(0.5 * (np.log(2 * np.pi * variance) + np.square(y - s[..., 0]) / variance).sum())


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_models_of_sequences(name: str, lengths: Any, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "m.onnx"
    assert ln.save_onnx(model, path, lengths=lengths is not None) == model.parameter_count
    x = numbers(STEPS, BATCH, INPUTS)
    feed = {"x": x} | ({} if lengths is None else {"lengths": lengths.astype(np.int32)})
    scores = session(path).run(["scores"], feed)[0]
    expected = model.scores(x, lengths)
    if lengths is not None and model.per_step:  # beyond the end they mean nothing
        inside = np.arange(STEPS)[:, None] < lengths
        scores, expected = scores * inside[..., None], expected * inside[..., None]
    assert_close(scores, expected, "forward")
    classes = isinstance(model, ln.SequenceClassifier)
    y = np.arange(BATCH) if classes else numbers(*scores.shape[:-1], 2)
    loss = model.evaluate(SequenceBatch(x, y, lengths)).loss_sum
    if not classes and lengths is not None and model.per_step:
        parts = [number_loss(model, scores[:n, b], y[:n, b]) for b, n in enumerate(lengths)]
        assert sum(parts) == pytest.approx(loss, rel=1e-5)
    else:
        own = cross_entropy(scores, y) if classes else number_loss(model, scores, y)
        assert own == pytest.approx(loss, rel=1e-5)
    if classes:
        assert_close(session(path).run(["probabilities"], feed)[0], softmax(scores), "forward")


def test_states_of_a_model_of_sequences(tmp_path: Path) -> None:
    model, path = MODELS["classifier"](), tmp_path / "m.onnx"
    ln.save_onnx(model, path, initial_state=True)
    x = numbers(STEPS, BATCH, INPUTS)
    state = tuple(numbers(4, BATCH, HIDDEN) for _ in "hc")
    scores, h, c = session(path).run(["scores", "h", "c"], {"x": x, "h0": state[0], "c0": state[1]})
    _, final = model.rnn(x, state)
    assert_close(h, final[0], "forward")
    assert_close(c, final[1], "forward")
    last = np.concatenate([final[0][2], final[0][3]], axis=1)
    expected = last @ model.params["output.weight"].T + model.params["output.bias"]
    assert_close(scores, expected, "forward")


@pytest.mark.parametrize("name", ["language model", "tied"])
def test_language_models_go_on(name: str, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "m.onnx"
    assert ln.save_onnx(model, path) == model.parameter_count
    run, tokens = session(path), np.random.default_rng(0).integers(0, VOCABULARY, (9, BATCH))
    state = model.zero_state(BATCH)
    arrays = state if isinstance(state, tuple) else (state,)
    feed = {f"{s}0": array for s, array in zip("hc", arrays, strict=False)}
    for first, last in ((0, 4), (4, 8)):  # the text in two pieces
        inputs, targets = tokens[first:last], tokens[first + 1 : last + 1]
        logits, *finals = run.run(None, {"tokens": inputs, **feed})
        result = model.evaluate(TokenBatch(inputs, targets), state)
        assert cross_entropy(logits, targets) == pytest.approx(result.loss_sum, rel=1e-5)
        expected, state = model.next_logits(inputs, state)
        assert_close(logits[-1], expected, "forward")
        feed = {f"{s}0": array for s, array in zip("hc", finals, strict=False)}
    stored = {tensor.name for tensor in onnx.load(str(path)).graph.initializer}
    assert ("output.weight" in stored) != (name == "tied")
    ln.save_onnx(model, path, initial_state=False)
    assert_close(session(path).run(None, {"tokens": tokens})[0][-1], model.next_logits(tokens)[0], "forward")


# -- series ------------------------------------------------------------------------------------------


def description(kind: str) -> SeriesDescription:
    """What a run would know: far from standardised."""
    inputs = Scaler(np.array([300.0, -1.0]), np.array([20.0, 0.5]))
    outputs = Scaler(np.array([7.0]), np.array([3.0]))
    found = SeriesDescription(
        "regress", ("t",), ("a", "b"), (), None, None, None, None, "time", kind == "step", False, None,
        inputs, outputs, (300.0, -1.0), "",
    )  # fmt: skip
    if kind.startswith("forecast"):
        found = found._replace(task="forecast", targets=("b",), window=5, horizon=3)
        return found._replace(relative=kind.endswith("relative"))
    if kind == "classify":
        return found._replace(task="classify", classes=("u", "v", "w"), outputs=Scaler.identity(1))
    return found._replace(window=5) if kind == "window" else found


@pytest.mark.parametrize("loss", ["mse", "quantile", "gaussian"])
@pytest.mark.parametrize("kind", ["forecast", "forecast relative", "window", "step"])
def test_series_in_the_units_of_the_data(kind: str, loss: str, tmp_path: Path) -> None:
    it, path = description(kind), tmp_path / "m.onnx"
    model = ln.SequenceRegressor(2, HIDDEN, it.horizon or 1, loss=loss, per_step=it.per_step, seed=2)
    assert ln.save_onnx(model, path, series=it) == model.parameter_count
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20, 2)) * (20.0, 0.5) + (300.0, -1.0)
    y = x[:, 1:] if it.horizon else x[:, :1] - 290
    piece = Piece("g", "g.csv", None, x, y, np.arange(20))
    index = WindowIndex(
        [piece], it.window, it.horizon or 0, 1, per_step=it.per_step, before=np.array(it.means)
    )
    items = SeriesItems(index, it)
    chosen = np.arange(min(4, len(items)))
    expected = items.predict(model, chosen)
    raw = index.gather(chosen).x
    found, scores = session(path).run(["prediction", "scores"], {"x": raw})
    assert found.dtype == np.float64
    assert_close(found.reshape(expected.shape), expected, "forward", dtype=np.float32)
    assert found.std() > 0.01  # not the mean alone
    assert scores.dtype == np.float32


def test_classes_of_series(tmp_path: Path) -> None:
    it, path = description("classify"), tmp_path / "m.onnx"
    model = ln.SequenceClassifier(2, HIDDEN, 3, seed=2)
    ln.save_onnx(model, path, series=it, lengths=True, facts={"lstm_numba.classes": '["u", "größe"]'})
    x = numbers(STEPS, BATCH, 2) * (20.0, 0.5) + (300.0, -1.0)
    feed = {"x": x.astype(np.float64), "lengths": LENGTHS.astype(np.int32)}
    found = session(path).run(["probabilities"], feed)[0]
    expected = model.probabilities(it.inputs.transform(feed["x"]).astype(np.float32), LENGTHS)
    assert_close(found, expected, "forward")
    assert session(path).get_modelmeta().custom_metadata_map["lstm_numba.classes"] == '["u", "größe"]'


# -- back --------------------------------------------------------------------------------------------


def jolted(model: Any) -> Any:
    """A model of other weights, zeros of both signs among them."""
    rng = np.random.default_rng(8)
    for array in model.params.values():
        array[...] = rng.standard_normal(array.shape)
        array.flat[0], array.flat[1] = 0.0, -0.0
    return model


@pytest.mark.parametrize("name", [*MODELS, "peephole", "variant", "float64", "no last state"])
def test_all_bits_come_back(name: str, tmp_path: Path) -> None:
    more: dict[str, Callable[[], Any]] = {
        "peephole": lambda: ln.SequenceClassifier(2, 3, 2, cell="peephole", bidirectional=True, layers=2),
        "variant": lambda: ln.SequenceClassifier(2, 3, 2, cell="lstm,clip=0.3,f=Elu_0.4", layers=2),
        "float64": lambda: ln.LanguageModel(5, 3, dtype="float64", cell="rnn-relu", tie=True),
        "no last state": lambda: ln.SequenceRegressor(2, 3, 2, per_step=True, cell="gru-reset-before"),
    }
    make, path = {**MODELS, **more}[name], tmp_path / "m.onnx"
    model, other = jolted(make()), make()
    ln.save_onnx(model, path)
    source = open_source(path)
    fitted = fit_model(source, other)
    assert set(fitted.taken) == model.params.keys()
    assert not fitted.kept
    assert not fitted.passed_over
    for key, array in model.params.items():
        assert other.params[key].tobytes() == array.tobytes(), key
    rnn, passed_over, _ = load_source(source)
    assert passed_over == sorted(set(model.params) - {f"rnn.{key}" for key in model.rnn.params})
    for key, array in model.rnn.params.items():
        assert rnn.params[key].tobytes() == array.tobytes(), key


def test_files_of_layers_and_of_others_are_none(tmp_path: Path) -> None:
    ln.save_onnx(ln.GRU(2, 3), tmp_path / "m.onnx")
    assert read_onnx_model(open_model(tmp_path / "m.onnx").proto) is None


def first_node(graph: Any) -> Any:
    """The first recurrent node."""
    return next(node for node in graph.node if node.op_type == "LSTM")


def without(graph: Any, name: str) -> None:
    """Remove a constant."""
    kept = [tensor for tensor in graph.initializer if tensor.name != name]
    del graph.initializer[:]
    graph.initializer.extend(kept)


#: What is done to a model -> what the message says.
FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "attribute": (
        lambda graph: first_node(graph).attribute.append(onnx.helper.make_attribute("clip", 0.5)),
        "LSTM 0: its attributes are not those of the cell",
    ),
    "no W": (lambda graph: without(graph, "rnn.l0.W"), "LSTM 0: its constants are not those"),
    "no output": (lambda graph: without(graph, "output.weight"), "output.weight is missing"),
    "shape": (
        lambda graph: next(t for t in graph.initializer if t.name == "rnn.l0.B").dims.__setitem__(0, 1),
        "rnn.l0.B: shape",
    ),
    "external": (
        lambda graph: setattr(graph.initializer[1], "data_location", 1),
        "is stored in another file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_changed_files_are_refused(fault: str, tmp_path: Path) -> None:
    how, message = FAULTS[fault]
    path, model = tmp_path / "m.onnx", MODELS["classifier"]()
    ln.save_onnx(model, path)
    change(path, how)
    with pytest.raises(ValueError, match=message) as caught:
        fit_model(open_source(path), model)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="ONNX has no operator for the cell slstm"):
        ln.save_onnx(ln.SequenceClassifier(2, 3, 2, cell="slstm"), path)
    with pytest.raises(ValueError, match="lengths: is not for a LanguageModel"):
        ln.save_onnx(ln.LanguageModel(4, 3), path, lengths=True)
    with pytest.raises(ValueError, match="series: is for models"):
        ln.save_onnx(ln.GRU(2, 3), path, series=description("step"))
    with pytest.raises(TypeError, match="model: expected a model or a recurrent layer, got Linear"):
        ln.save_onnx(ln.Linear(2, 3), path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ends in \.onnx"):
        ln.save_onnx(ln.LanguageModel(4, 3), tmp_path / "m.txt")
    assert not list(tmp_path.iterdir())
