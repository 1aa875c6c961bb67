"""Runs and helpers that the tests of ``lstm-numba import`` share."""

from __future__ import annotations

from pathlib import Path

from cli_tools import DIGITS, GRAMMAR, Answer, invoke

import lstm_numba as ln
from lstm_numba.models.base import Model
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.training.tasks import open_task

#: Format -> a file's name.
FILES = {"onnx": "w.onnx", "torch": "w.safetensors", "keras": "k.npz", "npz": "w.npz"}


def classifier(folder: Path) -> Path:
    """Train a classifier of two layers and directions."""
    answer = invoke(DIGITS, "--layers", 2, "--bidirectional", "--lr", 0.02, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def tied_model(folder: Path) -> Path:
    """Train a language model with tied weights, and a cell that shapes do not tell."""
    answer = invoke(GRAMMAR, "--cell", "gru-reset-before", "--tie", "--dropout", 0.1, "--out", folder)
    assert answer.status == 0, answer.err
    return folder


def model_of(run: Path) -> Model:
    """The model of a run's checkpoint."""
    return open_task(run, load_data=False).model


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(rnn: Recurrent, kind: str, path: Path) -> None:
    """Write a layer in a format."""
    {"onnx": ln.save_onnx, "keras": ln.save_keras}.get(kind, ln.save_weights)(rnn, path)


def refused(answer: Answer, folder: Path, left: set[str], *fragments: str, status: int = 1) -> None:
    """One line that says why, and no file that was not there."""
    assert answer.status == status, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    (line,) = answer.err.strip().splitlines()
    for fragment in fragments:
        assert fragment in line
    assert {path.name for path in folder.iterdir()} == left
