"""Copies and pickles compute with arrays of their own; what cannot be copied says so."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recurrent_problems import host

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.examples.janet import JANET
from lstm_numba.models import LanguageModel, TokenBatch
from lstm_numba.optim.optimizers import Adam


def _pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


COPIERS = [copy.deepcopy, _pickled]
_X = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)


def _scale(layer: Any, factor: float) -> None:
    for array in layer.params.values():
        layer.engine.upload(factor * host(layer, array), out=array)


def _gradients(layer: Any) -> dict[str, np.ndarray]:
    y, _, tape = layer.forward(_X)
    return {name: host(layer, grad) for name, grad in layer.backward(tape, y)[2].items()}


@pytest.mark.parametrize("copied", COPIERS)
def test_a_copy_of_a_layer_computes_with_its_own_weights(copied: Callable[..., Any], backend: str) -> None:
    rnn = ln.LSTM(3, 5, seed=0, device=backend)
    for _ in range(2):  # the second call knows the weights from the first
        y = rnn(_X)[0]
    gradients = _gradients(rnn)
    twin = copied(rnn)
    assert twin.engine is rnn.engine
    np.testing.assert_array_equal(twin(_X)[0], y)
    _scale(twin, 0.0)
    assert not twin(_X)[0].any()
    np.testing.assert_array_equal(rnn(_X)[0], y)
    _scale(rnn, 2.0)
    assert not twin(_X)[0].any()
    last = copied(rnn)
    expected = rnn(_X)[0]
    del rnn, twin
    gc.collect()
    junk = [np.full(1 << n, 9, np.uint8) for n in range(8, 18)]
    np.testing.assert_array_equal(last(_X)[0], expected)
    _scale(last, 0.5)
    for name, grad in _gradients(last).items():
        np.testing.assert_array_equal(grad, gradients[name], name)
    assert len(junk) == 10


def test_a_shallow_copy_may_get_other_parameters() -> None:
    rnn = ln.LSTM(3, 5, seed=0)
    y = rnn(_X)[0]
    twin = copy.copy(rnn)
    twin.params = {name: np.zeros_like(array) for name, array in rnn.params.items()}
    for _ in range(2):
        assert not twin(_X)[0].any()
        np.testing.assert_array_equal(rnn(_X)[0], y)


@pytest.mark.parametrize("tie", [False, True])
def test_the_best_model_so_far_keeps_its_loss(tie: bool, backend: str) -> None:
    model: Any = LanguageModel(9, 5, tie=tie, seed=0, device=backend)
    ids = np.random.default_rng(1).integers(0, 9, (4, 2))
    batch = TokenBatch(ids[:-1], ids[1:])
    optimizer = Adam(model.params, 0.1)
    loss, gradients = model.evaluate(batch).loss_sum, model.loss_and_gradients(batch)
    best = copy.deepcopy(model)
    later, stepper = copy.deepcopy((model, optimizer))
    for _ in range(2):
        optimizer.step(model.loss_and_gradients(batch).grads)
    assert model.evaluate(batch).loss_sum < 0.99 * loss
    assert best.evaluate(batch).loss_sum == later.evaluate(batch).loss_sum == loss
    assert (best.params["embedding.weight"] is best.output.params["weight"]) == tie
    for _ in range(2):
        stepper.step(later.loss_and_gradients(batch).grads)
    assert later.evaluate(batch).loss_sum == model.evaluate(batch).loss_sum
    again = best.loss_and_gradients(batch)
    assert again.objective == gradients.objective
    assert best.evaluate(batch).loss_sum == loss


def test_pickles_in_another_process(tmp_path: Path) -> None:
    """Addresses mean nothing there, and cells that were made here are not known there."""
    layers = [ln.LSTM(3, 5, seed=0), ln.make_layer("rnn,f=Relu", 3, 5, seed=0), JANET(3, 5, seed=0)]
    layers.append(ln.make_layer("lstm_numba.examples.janet:JANET", 3, 5, seed=0))
    expected = [layer(_X)[0] for layer in layers]
    (tmp_path / "layers").write_bytes(pickle.dumps(layers))
    np.save(tmp_path / "x.npy", _X)
    code = (
        "import numpy, pickle, sys\n"
        "layers = pickle.load(open(sys.argv[1] + '/layers', 'rb'))\n"
        "x = numpy.load(sys.argv[1] + '/x.npy')\n"
        "numpy.save(sys.argv[1] + '/y.npy', [layer(x)[0] for layer in layers])\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


@pytest.mark.parametrize("copied", [copy.copy, *COPIERS])
def test_what_holds_addresses_refuses(copied: Callable[..., Any]) -> None:
    rnn = ln.LSTM(3, 5, seed=0)
    tape = rnn.forward(_X)[2]
    for value, word in (
        (tape, "tape: cannot be copied"), (ln.Stream(rnn), "Stream: cannot be copied"),
        (kernels.CStep(rnn), "CStep: cannot be copied"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=word):
            copied(value)
    if copied is not copy.copy:
        with pytest.raises(TypeError, match="tape"):
            copied((rnn, tape))
    rnn.backward(tape)


@pytest.mark.parametrize("copied", COPIERS)
def test_packed_weights_are_copied(copied: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = ln.LSTM(3, 5, seed=0)
    packed = kernels.pack(kernels.plain(rnn))
    twin, before = copied(packed), packed.data.copy()
    _scale(rnn, 2.0)
    kernels.repack(packed, kernels.plain(rnn).parameters)
    assert not np.array_equal(packed.data, before)
    np.testing.assert_array_equal(twin.data, before)
    stored = pickle.dumps(packed)
    monkeypatch.setattr("lstm_numba.kernels.weights.lanes", lambda dtype: 1)
    with pytest.raises(ValueError, match="Packed: expected weights packed for vectors of 1 "):
        pickle.loads(stored)


def test_a_cell_whose_equations_changed_is_not_taken_for_the_old_one() -> None:
    rnn = JANET(3, 5, seed=0)
    name = type(rnn.cell).__name__
    stored = pickle.dumps(rnn).replace(name.encode(), f"JANET_{'0' * 16}".encode())
    with pytest.raises(ValueError, match="janet:JANET: other equations"):
        pickle.loads(stored)
