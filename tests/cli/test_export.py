"""``lstm-numba export``: what the files hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from c_tools import CompiledHeaders
from cli_tools import DIGITS, GRAMMAR, invoke, one_epoch
from series_tools import series_config, waves

import lstm_numba as ln
from lstm_numba.interop.export import save_model
from lstm_numba.training.run import Run
from lstm_numba.training.series import SeriesTask
from lstm_numba.training.tasks import build_task, open_task
from lstm_numba.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of two directions."""
    folder = tmp_path_factory.mktemp("export") / "digits"
    answer = invoke(one_epoch(DIGITS), "--layers", 2, "--bidirectional", "--out", folder)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model with tied weights."""
    folder = tmp_path_factory.mktemp("export") / "grammar"
    answer = invoke(one_epoch(GRAMMAR), "--cell", "gru-reset-before", "--tie", "--out", folder)
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forecast that has taken no step."""
    folder = tmp_path_factory.mktemp("export")
    config = series_config(
        [waves(folder / "waves.csv")], {"target": ["load"], "window": 5, "horizon": 2}, cell="rnn"
    )
    run, task = Run.create(folder / "run", config), build_task(config)
    task.keep_with(run)
    Trainer(task, run).save()
    return run.folder


def test_every_format_holds_the_weights(run: Path, tmp_path: Path) -> None:
    model = open_task(run, load_data=False).model
    rnn = model.rnn
    x = np.random.default_rng(0).standard_normal((5, 3, rnn.input_size)).astype(rnn.dtype)
    for kind, name in (("onnx", "w.onnx"), ("torch", "w.safetensors"), ("keras", "k.npz"), ("npz", "w.npz")):
        path = tmp_path / name
        result = invoke("export", run, "--format", kind, "--out", path, "--json").json()
        own = sum(array.size for array in rnn.params.values())
        whole = kind != "keras"
        assert result["parameters"] == (model.parameter_count if whole else own)
        assert result["model_parameters"] == model.parameter_count
        if kind == "onnx":
            runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
            session = runtime.InferenceSession(str(path))
            scores = session.run(["scores"], {"x": x})[0]
            np.testing.assert_allclose(scores, model.scores(x), rtol=0, atol=2e-6)
            facts = session.get_modelmeta().custom_metadata_map
            assert json.loads(facts["lstm_numba.classes"]) == [*map(str, range(10))]
            continue
        back = ln.load_keras(path) if kind == "keras" else ln.load_weights(path)
        np.testing.assert_allclose(back(x)[0], rnn(x)[0], rtol=0, atol=2e-6)
        if whole:
            for key, array in rnn.params.items():
                assert back.params[key].tobytes() == array.tobytes()
    with np.load(tmp_path / "w.npz") as found:
        assert set(found) == set(model.params)
        assert found["output.weight"].tobytes() == model.params["output.weight"].tobytes()
    answer = invoke("export", run, "--format", "json", "--out", tmp_path / "w.json")
    assert answer.err == "error: model: guitarml has one direction, got two\n"


def test_a_model_for_plug_ins(tmp_path: Path) -> None:
    model, path = ln.SequenceClassifier(3, 4, 2, seed=0), tmp_path / "w.json"
    assert save_model(model, "json", path) == model.parameter_count
    back = ln.load_weights(path, head="lin")
    for name, array in model.params.items():
        assert back.params[name].tobytes() == array.tobytes()


def test_language_models_are_not_for_plug_ins(text: Path, tmp_path: Path) -> None:
    answer = invoke("export", text, "--format", "json", "--out", tmp_path / "w.json")
    assert answer.status == 1
    assert answer.err.startswith("error: json: expected a model of sequences, got a language model")
    assert not list(tmp_path.iterdir())


def test_layers_alone(run: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    model, path = open_task(run, load_data=False).model, tmp_path / "w.onnx"
    answer = invoke("export", run, "--format", "onnx", "--layers-only", "--out", path)
    own = sum(array.size for array in model.rnn.params.values())
    assert answer.out == f"{path}: onnx, lstm, {own:,} of {model.parameter_count:,} parameters\n"
    x = np.random.default_rng(0).standard_normal((5, 3, model.rnn.input_size)).astype(np.float32)
    zeros = dict(zip(("h0", "c0"), model.rnn.zero_state(3), strict=True))
    y = runtime.InferenceSession(str(path)).run(["y"], {"x": x, **zeros})[0]
    np.testing.assert_allclose(y, model.rnn(x)[0], rtol=0, atol=2e-6)


def test_text_as_c(text: Path, tmp_path: Path) -> None:
    model, path = open_task(text, load_data=False).model, tmp_path / "text.h"
    answer = invoke("export", text, "--format", "c", "--out", path)
    assert answer.out == f"{path}: c, gru-reset-before, {model.parameter_count:,} parameters\n"
    tokens = np.arange(8)
    y = CompiledHeaders(tmp_path, {"text": "int"}).steps("text", tokens, len(model.params["output.bias"]))
    for n in (1, 8):
        np.testing.assert_allclose(y[n - 1], model.next_logits(tokens[:n, None])[0][0], rtol=0, atol=2e-6)


def test_series_in_their_units(forecast: Path, tmp_path: Path) -> None:
    """What comes out is what `predict` tells of the same rows."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    task = open_task(forecast)
    assert isinstance(task, SeriesTask)
    items, chosen = task.items("test"), np.arange(3)
    x, expected = items.index.gather(chosen).x, items.predict(task.model, chosen)
    for kind, name in (("onnx", "f.onnx"), ("c", "f.h")):
        assert invoke("export", forecast, "--format", kind, "--out", tmp_path / name).status == 0
    found = runtime.InferenceSession(str(tmp_path / "f.onnx")).run(["prediction"], {"x": x})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    answer = invoke("export", forecast, "--format", "onnx", "--lengths", "--out", tmp_path / "l.onnx")
    assert answer.status == 0, answer.err
    feed = {"x": np.concatenate([x, x]), "lengths": np.full(3, 5, np.int32)}
    found = runtime.InferenceSession(str(tmp_path / "l.onnx")).run(["prediction"], feed)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    headers = CompiledHeaders(tmp_path, {"f": "const float *"})
    for n in chosen:
        y = headers.last("f", np.ascontiguousarray(x[:, n], np.float32), 2)
        np.testing.assert_allclose(y, expected[n, :, 0, 0], rtol=1e-6)
    assert 'features: ["load", "heat"]' in (tmp_path / "f.h").read_text()


def test_tied_weights_stand_under_both_names(text: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    answer = invoke("export", text, "--format", "npz", "--out", path)
    assert answer.status == 0, answer.err
    assert "gru-reset-before" in answer.out
    with np.load(path) as found:
        assert np.array_equal(found["output.weight"], found["embedding.weight"])
    assert repr(ln.load_weights(path).cell).startswith("GRUResetBeforeCell")


def test_refusals(run: Path, tmp_path: Path) -> None:
    before = (run / "checkpoint.safetensors").read_bytes()
    for words, status, message in (
        (("--format", "torch", "--out", run / "checkpoint.safetensors"), 1, "already exists"),
        (("--format", "onnx", "--out", tmp_path / "w.npz"), 1, "ends in .onnx"),
        (("--format", "onnx", "--out", tmp_path / "none" / "w.onnx"), 1, "No such file"),
        (("--format", "pickle", "--out", tmp_path / "w.pt"), 2, "pickle"),
        (("--format", "onnx"), 2, "--out"),
        (("--format", "c", "--out", tmp_path / "w.c"), 1, "ends in .h"),
        (("--format", "c", "--out", run / "config.json"), 1, "already exists"),
        (("--format", "c", "--out", tmp_path / "w.h"), 1, "bidirectional"),
        (("--format", "npz", "--lengths", "--out", tmp_path / "w.npz"), 2, "--lengths: only for --format"),
        (("--format", "npz", "--layers-only", "--out", tmp_path / "w.npz"), 2, "--layers-only: only for"),
        (("--out", tmp_path / "w.onnx"), 2, "--format"),
    ):
        answer = invoke("export", run, *words)
        assert answer.status == status
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1
    assert (run / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.iterdir())
    answer = invoke("export", tmp_path, "--format", "onnx", "--out", tmp_path / "w.onnx")
    assert answer.status == 1
    assert "not a run folder" in answer.err
