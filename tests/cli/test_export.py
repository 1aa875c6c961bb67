"""``lstm-numba export``: what the files hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_tools import DIGITS, GRAMMAR, invoke, one_epoch

import lstm_numba as ln
from lstm_numba.training.tasks import open_task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of two directions."""
    folder = tmp_path_factory.mktemp("export") / "digits"
    answer = invoke(one_epoch(DIGITS), "--layers", 2, "--bidirectional", "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def test_every_format_holds_the_weights(run: Path, tmp_path: Path) -> None:
    model = open_task(run, load_data=False).model
    rnn = model.rnn
    x = np.random.default_rng(0).standard_normal((5, 3, rnn.input_size)).astype(rnn.dtype)
    for kind, name in (("onnx", "w.onnx"), ("torch", "w.safetensors"), ("keras", "k.npz"), ("npz", "w.npz")):
        path = tmp_path / name
        result = invoke("export", run, "--format", kind, "--out", path, "--json").json()
        whole = kind in ("torch", "npz")
        own = sum(array.size for array in rnn.params.values())
        assert result["parameters"] == (model.parameter_count if whole else own)
        if kind == "onnx":
            runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
            zeros = dict(zip(("h0", "c0"), rnn.zero_state(3), strict=True))
            y = runtime.InferenceSession(str(path)).run(["y"], {"x": x, **zeros})[0]
            np.testing.assert_allclose(y, rnn(x)[0], rtol=0, atol=2e-6)
            continue
        back = ln.load_keras(path) if kind == "keras" else ln.load_weights(path)
        np.testing.assert_allclose(back(x)[0], rnn(x)[0], rtol=0, atol=2e-6)
        if whole:
            for key, array in rnn.params.items():
                assert back.params[key].tobytes() == array.tobytes()
    with np.load(tmp_path / "w.npz") as found:
        assert set(found) == set(model.params)
        assert found["output.weight"].tobytes() == model.params["output.weight"].tobytes()


def test_tied_weights_stand_under_both_names(tmp_path: Path) -> None:
    folder, path = tmp_path / "run", tmp_path / "w.npz"
    answer = invoke(one_epoch(GRAMMAR), "--cell", "gru-reset-before", "--tie", "--out", folder)
    assert answer.status == 0, answer.err
    answer = invoke("export", folder, "--format", "npz", "--out", path)
    assert answer.status == 0, answer.err
    assert "gru-reset-before" in answer.out
    with np.load(path) as found:
        assert np.array_equal(found["output.weight"], found["embedding.weight"])
    assert repr(ln.load_weights(path).cell).startswith("GRUResetBeforeCell")


def test_refusals(run: Path, tmp_path: Path) -> None:
    before = (run / "checkpoint.safetensors").read_bytes()
    for words, status, message in (
        (("--format", "torch", "--out", run / "checkpoint.safetensors"), 1, "is there already"),
        (("--format", "onnx", "--out", tmp_path / "w.npz"), 1, "ends in .onnx"),
        (("--format", "onnx", "--out", tmp_path / "none" / "w.onnx"), 1, "No such file"),
        (("--format", "pickle", "--out", tmp_path / "w.pt"), 2, "pickle"),
        (("--format", "onnx"), 2, "--out"),
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
