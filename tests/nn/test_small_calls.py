"""Small calls of a layer for inference take a shorter way, which does and refuses the same."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines.cpu.prepared import PreparedCalls

pytestmark = pytest.mark.processor


def _draw(rnn: Any, steps: int = 1, batch: int = 1, seed: int = 1) -> tuple[np.ndarray, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((steps, batch, rnn.input_size)).astype(rnn.dtype)
    zeros = rnn.zero_state(batch)
    states = tuple(
        np.abs(rng.standard_normal(array.shape)).astype(rnn.dtype) + 0.5
        for array in (zeros if isinstance(zeros, tuple) else (zeros,))
    )
    return x, states if len(states) > 1 else states[0]


def _flat(found: Any) -> list[np.ndarray]:
    y, state = found[:2]
    return [y, *(state if isinstance(state, tuple) else (state,))]


class _Watch:
    """Counts the calls that took the shorter way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        original = PreparedCalls.__call__

        def call(calls: PreparedCalls, *args: Any) -> Any:
            found = original(calls, *args)
            self.taken += found is not None
            return found

        monkeypatch.setattr(PreparedCalls, "__call__", call)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> _Watch:
    return _Watch(monkeypatch)


@pytest.mark.parametrize(
    ("cell", "dtype"), [("lstm", "float32"), ("gru", "float32"), ("gru", "float64"), ("slstm", "float32")]
)
def test_same_bits_as_the_longer_way(cell: str, dtype: str, watch: _Watch) -> None:
    for layers, steps, batch in ((1, 1, 1), (2, 3, 2)):
        rnn = ln.make_layer(cell, 5, 9, layers, dtype=dtype, seed=0)
        x, state = _draw(rnn, steps, batch)
        for given in (None, state):
            wanted = _flat(rnn.forward(x, given, training=False))
            for _ in range(2):
                for got, expected in zip(_flat(rnn(x, given)), wanted, strict=True):
                    np.testing.assert_array_equal(got, expected)
                    assert got.flags.writeable
                    assert got.dtype == dtype
    assert watch.taken == 8


def test_a_projected_layer_and_one_without_biases(watch: _Watch) -> None:
    for options in ({"proj_size": 3}, {"bias": False}, {"zoneout": 0.2}):
        rnn = ln.LSTM(5, 9, 2, seed=0, **options)  # type: ignore[arg-type]
        x, state = _draw(rnn, 2, 3)
        wanted = _flat(rnn.forward(x, state, training=False))
        for got, expected in zip(_flat(rnn(x, state)), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert watch.taken == 3


def test_results_are_new_arrays(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn)
    before = copy.deepcopy((x, state))
    first = [array.copy() for array in _flat(rnn(x, state))]
    kept = _flat(rnn(x, state))
    rnn(2 * x, state)
    for got, expected in zip(kept, first, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(x, before[0])
    for got, expected in zip(state, before[1], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_changes_of_the_parameters_are_seen(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, 2, seed=0)
    x, state = _draw(rnn, 2)
    ys = [rnn(x, state)[0]]
    rnn.params["weight_hh_l0"][3, 4] += 0.5
    ys.append(rnn(x, state)[0])
    rnn.params["bias_ih_l1"] = rnn.params["bias_ih_l1"] + np.float32(0.5)
    ys.append(rnn(x, state)[0])
    rnn.params["weight_ih_l0"] = np.asfortranarray(rnn.params["weight_ih_l0"] * np.float32(2))
    ys.append(rnn(x, state)[0])  # not for the shorter way
    assert watch.taken == 3
    np.testing.assert_array_equal(ys[-1], rnn.forward(x, state, training=False)[0])
    assert len({y.tobytes() for y in ys}) == 4
    other = ln.LSTM(5, 9, 2, seed=3)
    rnn.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(rnn(x, state)[0], other(x, state)[0])


def test_copies_know_their_own_parameters(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn)
    y = rnn(x, state)[0]
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn)), copy.copy(rnn)):
        np.testing.assert_array_equal(other(x, state)[0], y)
    other = copy.deepcopy(rnn)
    other.params["weight_hh_l0"] *= 2
    assert np.any(other(x, state)[0] != y)
    np.testing.assert_array_equal(rnn(x, state)[0], y)


def test_what_has_more_to_do_takes_the_longer_way(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn, 3, 2)
    rnn(x, state, lengths=[2, 3])
    rnn(x, state, resets=np.zeros((3, 2), bool))
    rnn(np.asfortranarray(x), state)
    read_only = x.view()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(rnn(read_only, state)[0], rnn.forward(x, state, training=False)[0])
    ln.LSTM(5, 9, bidirectional=True, seed=0)(x)
    ln.LSTM(5, 8, heads=2, seed=0)(x)
    ln.LSTM(5, 9, batch_first=True, seed=0)(x)
    assert watch.taken == 0


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_threads_are_counted_at_each_call(watch: _Watch) -> None:
    """Much work is for several threads, and for one where there is no other."""
    rnn = ln.LSTM(64, 256, seed=0)
    x, state = _draw(rnn, 16)
    numba.set_num_threads(2)
    rnn(x, state)
    assert watch.taken == 0
    numba.set_num_threads(1)
    rnn(x, state)
    assert watch.taken == 1


@pytest.mark.parametrize(
    ("x", "state"),
    [
        (np.zeros((1, 1, 4), np.float32), None),
        (np.zeros((1, 5), np.float32), None),
        (np.zeros((1, 1, 5)), None),
        (np.zeros((0, 1, 5), np.float32), None),
        ([[[0.0] * 5]], None),
        (np.ma.masked_array(np.zeros((1, 1, 5), np.float32)), None),
        (np.zeros((1, 1, 5), np.float32), np.zeros((1, 1, 9), np.float32)),
        (np.zeros((1, 1, 5), np.float32), np.zeros((2, 1, 1, 9), np.float32)),
        (np.zeros((1, 1, 5), np.float32), (np.zeros((1, 1, 9), np.float32),) * 3),
        (np.zeros((1, 1, 5), np.float32), (np.zeros((1, 1, 9), np.float32), np.zeros((1, 2, 9), np.float32))),
        (np.zeros((1, 1, 5), np.float32), (np.zeros((1, 1, 9), np.float32), np.zeros((1, 1, 9)))),
        (np.zeros((1, 1, 5), np.float32), (np.ma.masked_array(np.zeros((1, 1, 9), np.float32)),) * 2),
        (np.zeros((1, 1, 5), np.float32), 3),
    ],
)
def test_refusals_are_the_same(x: Any, state: Any) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    rnn(*_draw(rnn))  # the shorter way is known
    with pytest.raises((TypeError, ValueError)) as quick:
        rnn(x, state)
    with pytest.raises((TypeError, ValueError)) as slow:
        rnn.forward(x, state)
    assert str(quick.value) == str(slow.value)
    assert type(quick.value) is type(slow.value)


def test_a_wrong_parameter_is_refused() -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn)
    rnn(x, state)
    rnn.params["weight_hh_l0"] = np.zeros((36, 8), np.float32)
    with pytest.raises(ValueError, match="weight_hh"):
        rnn(x, state)
