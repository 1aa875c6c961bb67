"""The README's library examples run and learn, its links lead to files."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_files
import numpy as np
import pytest
import torch_files
from repository import ROOT

import lstm_numba as ln

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def _run(source: str, names: dict[str, Any]) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), names)
    return printed.getvalue()


def _run_library_examples() -> tuple[str, dict[str, Any], list[np.ndarray]]:
    """What the first example prints, the names after the last, and the states after the second and third."""
    source, streaming, inside = blocks("python")[:3]
    names: dict[str, Any] = {}
    printed, states = _run(source, names), []
    for block in (streaming, inside):
        _run(block, names)
        states.append(np.array(names["h"]))
    return printed, names, states


@pytest.mark.processor
def test_library_examples_run_learn_and_stream() -> None:
    printed, names, (streamed, stepped) = _run_library_examples()
    target = names["target"]
    # A network that has learnt nothing about its input can do no better than the target's mean.
    assert float(printed.split()[-1]) < 0.5 * float(np.mean((target - target.mean()) ** 2))
    y, (last, _) = names["rnn"](names["x"])
    np.testing.assert_allclose(streamed, y[-1, 0], atol=1e-6)
    np.testing.assert_allclose(stepped, last[0], atol=1e-6)
    # Where an array begins differs from run to run, what comes out must not.
    for _ in range(9):
        again, _, states = _run_library_examples()
        assert again == printed
        np.testing.assert_array_equal(states[0], streamed)
        np.testing.assert_array_equal(states[1], stepped)


def test_training_on_arrays_runs_and_learns() -> None:
    """The section's two programs, whose comments beside the code are PyTorch's, and those of many models."""
    quick, by_hand, several = (block for block in blocks("py") if "ln.SequenceClassifier(4" in block)
    names: dict[str, Any] = {}
    printed = _run(quick.replace("patience=5", "patience=5, verbose=False"), names)
    assert float(re.findall(r"accuracy=([\d.]+)", printed)[0]) > 0.75
    _run(by_hand, names)
    result = names["ln"].evaluate(names["model"], (names["x"], names["y"]))
    assert result.accuracy > 0.8
    (layer,) = (block for block in blocks("py") if "models=256" in block)
    _run(layer, names)
    assert names["state"][0].shape == (256, 1, 16, 32)
    _run(several.replace("patience=5", "patience=5, verbose=False"), names)
    assert min(one.accuracy for one in names["results"]) > 0.8


def _files(folder: Path) -> None:
    """The files that the section on weights reads."""
    arrays = {f"encoder.{name}": a for name, a in ln.RNN(3, 5, seed=0).state_dict().items()}
    (folder / "network.pt").write_bytes(torch_files.saved(arrays))
    np.savez(
        folder / "loop.npz", enc_w_ih=np.ones((20, 3), np.float32), enc_w_hh=np.ones((20, 5), np.float32)
    )
    config = keras_files.chain(
        keras_files.entry("LSTM", "rec", return_sequences=True), keras_files.entry("Dense", "dense")
    )
    parts = keras_files.numbered("layers/lstm/cell", keras_files.weights(4, 3, 5, 1))
    parts["layers/dense/vars/0"], parts["layers/dense/vars/1"] = np.ones((5, 2)), np.ones(2)
    content = keras_files.archive(config, {name: np.asarray(a, np.float32) for name, a in parts.items()})
    (folder / "network.keras").write_bytes(content)
    ln.save_onnx(ln.LSTM(3, 5, 2), folder / "network.onnx")


def test_weights_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the section; those that need a package which is not installed are left out."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    _files(tmp_path)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks("py") if "inspect_weights" in block)
    layer = SimpleNamespace(get_weights=lambda: ln.to_keras(ln.GRU(3, 5))[0])
    names: dict[str, Any] = {"ln": ln, "layer": layer}
    left_out = {"load_onnx": "onnx", "from_torch": "torch"}
    for line in block.splitlines():
        package = next((left_out[call] for call in left_out if call in line), None)
        if package is not None and importlib.util.find_spec(package) is None:
            continue
        if package == "torch":
            names["module"] = importlib.import_module("torch").nn.LSTM(3, 5)
        _run(line, names)
    assert names["model"].scores(np.ones((2, 1, 3), np.float32)).shape == (2, 1, 2)
    assert names["tensors"].keys() == {f"encoder.{name}" for name in ln.RNN(3, 5).state_dict()}
    assert {path.name for path in tmp_path.iterdir()} >= {"rnn.npz", "whole.onnx", "model.h", "amp.json"}


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
