"""`ln.load_run`: the model of a run folder, from Python."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from safetensors.numpy import load_file
from training_tools import few_digits, small_config, train

import lstm_numba as ln
from lstm_numba.data import digits
from lstm_numba.data.images import image_sequences
from lstm_numba.errors import CheckpointError
from lstm_numba.training import checkpoint
from lstm_numba.training.tasks import open_task


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", few_digits)
        yield
    numba.set_num_threads(threads)


@pytest.fixture(scope="module", params=["images", "grammar"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run folder, and its outcome."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder / "run", train(folder / "run", small_config(request.param, folder))


def stored(path: Path) -> dict[str, Any]:
    """The parameters in a checkpoint, read by nobody but safetensors."""
    tensors = load_file(path)
    return {name.removeprefix("model."): a for name, a in tensors.items() if name.startswith("model.")}


def test_it_is_the_model_that_was_trained(trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, outcome = trained
    expected = stored(outcome.checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(digits, "load", None)  # no data are needed
        model = ln.load_run(str(folder))
    assert type(model) is (ln.SequenceClassifier if "images" in str(folder) else ln.LanguageModel)
    assert model.params.keys() == expected.keys()
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, expected[name])
    task = open_task(folder)
    task.model.load_params(model.params)
    assert task.evaluate("test").loss == outcome.evaluations["test"].loss


def test_the_best_is_another(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    tensors, meta = checkpoint.load(folder / "best.safetensors")
    checkpoint.save(folder / "best.safetensors", {n: np.full_like(a, 0.5) for n, a in tensors.items()}, meta)
    best, last = ln.load_run(folder, checkpoint="best"), ln.load_run(folder, checkpoint="last")
    assert all(np.all(array == 0.5) for array in best.params.values())
    expected = stored(folder / "checkpoint.safetensors")
    assert all(np.array_equal(array, expected[name]) for name, array in last.params.items())
    (folder / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors: the checkpoint does not exist$"):
        ln.load_run(folder, checkpoint="best")


@pytest.mark.parametrize("trained", ["images"], indirect=True)
def test_a_classifier_answers_as_the_readme_says(trained: tuple[Path, Any]) -> None:
    model: Any = ln.load_run(trained[0])
    images = few_digits("test").images[:20]
    found = model.probabilities(image_sequences(images, dataset="digits"))
    task: Any = open_task(trained[0], load_data=False)
    np.testing.assert_array_equal(found, task.probabilities(images))
    assert found.shape == (20, 10)


def test_faults_are_one_line(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(CheckpointError) as caught:
        ln.load_run(nowhere)
    assert str(caught.value) == f"run folder {nowhere} does not exist"
    with pytest.raises(ValueError, match=r"^checkpoint: expected 'last' or 'best', got 'first'$"):
        ln.load_run(nowhere, checkpoint="first")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=rf"^{re.escape(str(tmp_path))}/config\.json: damaged: [^\n]*$"):
        ln.load_run(tmp_path)


@pytest.mark.parametrize("trained", ["grammar"], indirect=True)
def test_a_text_needs_the_runs_vocabulary(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    (folder / "vocabulary.json").unlink()
    with pytest.raises(CheckpointError) as caught:  # rather than read the data, wherever they are now
        ln.load_run(folder)
    assert str(caught.value) == f"{folder / 'vocabulary.json'}: missing"


@pytest.mark.parametrize("trained", ["images"], indirect=True)
def test_damaged_weights_are_one_line(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    path = folder / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        ln.load_run(folder)
    assert str(caught.value) == f"{path}: damaged: its checksum does not match"
    with pytest.raises(ValueError, match="device: expected 'cpu' or 'cuda', got 'tpu'"):
        ln.load_run(trained[0], device="tpu")
