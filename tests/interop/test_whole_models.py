"""Models with their linear layer, in and out: trained on, written, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop_tools import layer
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.errors import WeightsError, WeightsWarning
from lstm_numba.models import headed_model

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 8, 3)).astype(np.float32)
WEIGHT, BIAS = (RNG.standard_normal(shape).astype(np.float32) for shape in ((4, 5), 4))


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    """A file with an LSTM ``rec`` and a linear layer ``fc``."""
    state = {f"rec.{name}": array for name, array in layer("lstm").state_dict().items()}
    np.savez(tmp_path / "net.npz", **state, **{"fc.weight": WEIGHT, "fc.bias": BIAS})
    return tmp_path / "net.npz"


def test_a_loaded_classifier_is_trained_on(tagger: Path, tmp_path: Path) -> None:
    model, path = ln.load_weights(tagger, head="fc", model="classifier"), tmp_path / "back.npz"
    assert isinstance(model, ln.SequenceClassifier)
    y, _ = layer("lstm")(X)
    assert_close(model.scores(X), y[-1] @ WEIGHT.T + BIAS, "forward")
    data = X.swapaxes(0, 1), np.arange(8) % 4
    before = ln.evaluate(model, data).loss
    ln.fit(model, data, epochs=20, batch_size=8, lr=0.05, verbose=False)
    assert ln.evaluate(model, data).loss < 0.8 * before
    ln.save_weights(model, path)
    tensors = ln.read_tensors(path)
    assert tensors.keys() == model.params.keys()
    assert all(tensors[name].tobytes() == array.tobytes() for name, array in model.params.items())
    back = ln.load_weights(path, head="output", model="classifier")
    assert back.scores(X).tobytes() == model.scores(X).tobytes()


def test_a_loaded_regressor_reads_all_steps_or_the_last(tagger: Path) -> None:
    every = ln.load_weights(tagger, head="fc")
    assert every.per_step
    last = ln.load_weights(tagger, head="fc", model="regressor", per_step=False)
    assert isinstance(last, ln.SequenceRegressor)
    assert_close(last.scores(X), every.scores(X)[-1], "forward")


def test_choices_that_there_are_not(tagger: Path) -> None:
    for options, kind, message in (
        (
            {"head": "fc", "model": "tagger"},
            ValueError,
            "model: expected one of regressor, classifier, got 'tagger'",
        ),
        (
            {"head": "fc", "model": "classifier", "per_step": True},
            ValueError,
            "per_step: a classifier predicts at",
        ),
        ({"model": "classifier"}, TypeError, "model: expected head too"),
        ({"per_step": False}, TypeError, "per_step: expected head too"),
        ({"node": 0}, WeightsError, "node: only ONNX models have nodes, got 0"),
    ):
        with pytest.raises(kind, match=message):
            ln.load_weights(tagger, **options)


@pytest.mark.parametrize("tie", [False, True])
def test_language_models_go_out_whole(tie: bool, tmp_path: Path) -> None:
    model = ln.LanguageModel(7, 4, tie=tie, seed=0)
    ln.save_weights(model, tmp_path / "w.safetensors")
    tensors = ln.read_tensors(tmp_path / "w.safetensors")
    assert tensors.keys() == {*model.params, "output.weight"}
    shared = tensors["output.weight"].tobytes() == tensors["embedding.weight"].tobytes()
    assert shared == tie
    rnn = ln.load_weights(tmp_path / "w.safetensors")
    assert rnn.params["weight_hh_l0"].tobytes() == model.params["rnn.weight_hh_l0"].tobytes()


def test_what_takes_layers_alone_points_to_what_takes_models(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got SequenceClassifier; save_weights writes a whole model"):
        ln.to_torch(ln.SequenceClassifier(3, 4, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one model, got models=2"):
        ln.save_weights(ln.SequenceClassifier(3, 4, 2, models=2), tmp_path / "w.npz")
    assert not list(tmp_path.iterdir())


def test_files_without_the_layers_that_are_asked_for(tmp_path: Path) -> None:
    path, state = tmp_path / "w.npz", layer("lstm").state_dict()
    linear = {"fc.weight": WEIGHT, "fc.bias": BIAS, "out.kernel": WEIGHT.T}
    np.savez(path, **state, **linear)
    with pytest.raises(WeightsError, match=r"no linear layer is named 'dense'; those in the file: fc, out$"):
        ln.load_weights(path, head="dense")
    np.savez(path, **state)
    with pytest.raises(WeightsError, match=r"no linear layer is named 'dense'; those in the file: none$"):
        ln.load_weights(path, head="dense")
    np.savez(path, **linear)
    with pytest.raises(WeightsError, match="holds no recurrent layer, by the names of its tensors"):
        ln.load_weights(path, head="fc")


# -- ONNX ---------------------------------------------------------------------------------------------


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed")
    ln.save_onnx(headed_model(layer("lstm"), WEIGHT, BIAS, model="classifier"), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_load_weights_reads_onnx(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.warns(WeightsWarning, match=r"only the recurrent layers .* head='output'\) reads") as found:
        rnn = ln.load_weights(onnx_file)
    assert found[0].filename == __file__
    assert rnn(X)[0].tobytes() == layer("lstm")(X)[0].tobytes()
    model = ln.load_weights(onnx_file, head="output", model="classifier")
    assert_close(model.scores(X), layer("lstm")(X)[0][-1] @ WEIGHT.T + BIAS, "forward")
    assert ln.load_weights(onnx_file, node=0, batch_first=True).batch_first
    ln.save_onnx(layer("gru"), tmp_path / "layer.onnx")
    assert isinstance(ln.load_weights(tmp_path / "layer.onnx"), ln.GRU)


def test_what_onnx_has_not(onnx_file: Path, tmp_path: Path) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"cell": "lstm"}, "cell: an ONNX model has none, got 'lstm'"),
        ({"prefix": "rnn."}, "prefix: an ONNX model has none"),
        ({"names": {"a": "b"}}, "names: an ONNX model has none"),
        ({"head": "output", "node": 0}, "head: only without node"),
        ({"head": "dense"}, "head: no linear layer is named 'dense'"),
    )
    for options, message in cases:
        with pytest.raises(WeightsError, match=message):
            ln.load_weights(onnx_file, **options)
    ln.save_onnx(layer("gru"), tmp_path / "layer.onnx")
    with pytest.raises(WeightsError, match="head: only of a model that save_onnx wrote"):
        ln.load_weights(tmp_path / "layer.onnx", head="output")


def test_outputs_in_the_order_of_the_pages(onnx_file: Path) -> None:
    onnx = pytest.importorskip("onnx")
    assert [output.name for output in onnx.load(onnx_file).graph.output] == ["probabilities", "scores"]
