"""Layers whose parameters cannot change, which calls for inference need not look at."""

from __future__ import annotations

import copy
import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines.cpu import weight_cache
from lstm_numba.engines.cpu.memory import fixed, is_fixed
from lstm_numba.optim.optimizers import SGD, Adam

#: Options of layers, and a batch: calls that are prepared, calls of several threads, heads, two directions.
_KINDS = [({}, 1), ({"num_layers": 2}, 40), ({"heads": 2}, 2), ({"bidirectional": True}, 2)]


def _layer(**options: Any) -> ln.LSTM:
    return ln.LSTM(6, 96, seed=0, **options)


def _x(batch: int, steps: int = 3) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((steps, batch, 6)).astype(np.float32)


def _looked_at(rnn: Any) -> int:
    """Parameters that the last call looked at."""
    return sum(len(cache._located.words) // 2 for cache in rnn._weight_caches)


@pytest.mark.parametrize(("options", "batch"), _KINDS)
def test_same_bits_and_nothing_is_looked_at(options: dict[str, Any], batch: int) -> None:
    rnn, x = _layer(**options), _x(batch)
    wanted = rnn(x)[0].copy()
    assert _looked_at(rnn) == len(rnn.params) * rnn.heads
    assert rnn.freeze() is rnn
    for _ in range(3):
        np.testing.assert_array_equal(rnn(x)[0], wanted)
    assert _looked_at(rnn) == 0


@pytest.mark.parametrize(("options", "batch"), _KINDS)
def test_unfrozen_it_follows_its_parameters_again(options: dict[str, Any], batch: int) -> None:
    rnn, x = _layer(**options).freeze(), _x(batch)
    before = rnn(x)[0].copy()
    assert rnn.unfreeze() is rnn
    np.testing.assert_array_equal(rnn(x)[0], before)
    rnn.params["weight_hh_l0"][-1, -1] += 1
    other = _layer(**options)
    other.load_state_dict(rnn.state_dict())
    np.testing.assert_array_equal(rnn(x)[0], other(x)[0])
    assert (rnn(x)[0] != before).any()


def test_arrays_from_before_no_longer_change_it() -> None:
    rnn, x = _layer(), _x(1)
    before, view = rnn.state_dict(), rnn.params["weight_hh_l0"][:]
    wanted = rnn.freeze()(x)[0].copy()
    view += 1
    np.testing.assert_array_equal(rnn(x)[0], wanted)
    np.testing.assert_array_equal(rnn.state_dict()["weight_hh_l0"], before["weight_hh_l0"])


def test_a_parameter_put_in_its_place_is_looked_at() -> None:
    rnn, x = _layer().freeze(), _x(1)
    rnn(x)
    rnn.params["weight_ih_l0"] = mine = np.array(rnn.params["weight_ih_l0"])
    for _ in range(2):
        mine *= 2
        wanted = _layer()
        wanted.load_state_dict(rnn.state_dict())
        np.testing.assert_array_equal(rnn(x)[0], wanted(x)[0])
    assert _looked_at(rnn) == 1


def test_what_would_change_it_is_refused() -> None:
    rnn = _layer().freeze()
    state = {name: np.zeros_like(value) for name, value in rnn.params.items()}
    with pytest.raises(ValueError, match=r"weight_ih_l0: the layer's is read-only; call unfreeze\(\) first"):
        rnn.load_state_dict(state)
    for optimizer in (SGD, Adam):
        with pytest.raises(ValueError, match="weight_ih_l0 is read-only; a layer may be frozen"):
            optimizer(rnn.params, 0.1)
    with pytest.raises(ValueError, match="read-only"):
        rnn.params["bias_hh_l0"][...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        rnn.params["bias_hh_l0"].flags.writeable = True
    rnn.unfreeze().load_state_dict(state)
    assert not any(array.any() for array in rnn.params.values())


def test_backward_streams_and_kernels_take_it() -> None:
    rnn, x = _layer(), _x(2)
    y, _, tape = rnn.forward(x, training=False)
    grads = rnn.backward(tape, y)[2]
    stream = ln.Stream(rnn, batch=2)
    steps = np.stack([stream.step(x[t]).copy() for t in range(len(x))])
    rnn.freeze()
    y, _, tape = rnn.forward(x, training=False)
    again = rnn.backward(tape, y)[2]
    for name, wanted in grads.items():
        np.testing.assert_array_equal(again[name], wanted)
    stream = ln.Stream(rnn, batch=2)
    np.testing.assert_array_equal(np.stack([stream.step(x[t]).copy() for t in range(len(x))]), steps)


def test_copies_are_not_frozen() -> None:
    rnn, x = _layer().freeze(), _x(1)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        np.testing.assert_array_equal(other(x)[0], rnn(x)[0])
        other.params["weight_hh_l0"][...] = 0
        assert (other(x)[0] != rnn(x)[0]).any()


def test_what_is_fixed(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    copied = fixed(array)
    assert is_fixed(copied)
    assert is_fixed(copied[1:])
    assert fixed(copied) is copied
    np.testing.assert_array_equal(copied, array)
    np.testing.assert_array_equal(fixed(array.T), array.T)
    closed = array[:]
    closed.flags.writeable = False
    assert not is_fixed(array)
    assert not is_fixed(closed)  # its owner can be written to
    path = tmp_path / "numbers"
    array.tofile(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        of_file = np.frombuffer(mapped)
        assert not is_fixed(of_file)  # so can the file
        del of_file
    assert not is_fixed(np.frombuffer(bytearray(8)))


def test_the_words_are_those_that_can_change() -> None:
    rnn = _layer()
    params = {name.removesuffix("_l0"): value for name, value in rnn.params.items()}
    params["weight_ih"] = fixed(params["weight_ih"])
    located = weight_cache.locate(rnn.cell, params, 6, 96, 96, rnn.dtype)
    sizes = [value.nbytes for name, value in params.items() if name != "weight_ih"]
    assert located.words[1::2].tolist() == sizes
