"""Small calls of a layer take a shorter way, which does and refuses the same."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines.cpu.prepared import PreparedCalls


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


def _longer(rnn: Any) -> Any:
    """The same layer, which takes the longer way."""
    other = copy.copy(rnn)
    other._prepared_calls = None
    return other


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
            wanted = _flat(_longer(rnn)(x, given))
            for _ in range(2):
                for got, expected in zip(_flat(rnn(x, given)), wanted, strict=True):
                    np.testing.assert_array_equal(got, expected)
                    assert got.flags.writeable
                    assert got.dtype == dtype
    assert watch.taken == 8


@pytest.mark.processor
def test_a_projected_layer_and_one_without_biases(watch: _Watch) -> None:
    for options in ({"proj_size": 3}, {"bias": False}, {"zoneout": 0.2}):
        rnn = ln.LSTM(5, 9, 2, seed=0, **options)  # type: ignore[arg-type]
        x, state = _draw(rnn, 2, 3)
        wanted = _flat(_longer(rnn)(x, state))
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
    np.testing.assert_array_equal(ys[-1], _longer(rnn)(x, state)[0])
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
    np.testing.assert_array_equal(rnn(read_only, state)[0], _longer(rnn)(x, state)[0])
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
    rnn.forward(x, state)  # which keeps more than such calls may
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
    with pytest.raises((TypeError, ValueError)) as quick_forward:
        rnn.forward(x, state)
    with pytest.raises((TypeError, ValueError)) as slow:
        _longer(rnn).forward(x, state)
    for found in (quick, quick_forward):
        assert str(found.value) == str(slow.value)
        assert type(found.value) is type(slow.value)


def test_a_wrong_parameter_is_refused() -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn)
    rnn(x, state)
    rnn.params["weight_hh_l0"] = np.zeros((36, 8), np.float32)
    with pytest.raises(ValueError, match="weight_hh"):
        rnn(x, state)


def _step(rnn: Any, x: Any, state: Any, dy: Any, dstate: Any, **options: Any) -> list[np.ndarray | None]:
    """All that a training step returns."""
    y, final, tape = rnn.forward(x, state)
    dx, first, grads = rnn.backward(tape, dy, dstate, **options)
    assert list(grads) == list(rnn.params)
    return [*_flat((y, final)), *_flat((dx, first)), *grads.values()]


def _same(got: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {}),
        ("lstm", {"bias": False, "dtype": "float64"}),
        ("lstm", {"proj_size": 3}),
        ("peephole", {}),
        ("gru", {}),
        ("slstm", {}),
    ],
)
def test_a_training_step_has_the_same_bits(cell: str, options: Any, watch: _Watch) -> None:
    for layers, steps, batch in ((1, 1, 1), (3, 4, 2)):
        rnn = ln.make_layer(cell, 5, 9, layers, seed=0, **options)
        x, state = _draw(rnn, steps, batch)
        dy = np.random.default_rng(3).standard_normal((steps, batch, rnn.output_size)).astype(rnn.dtype)
        dstate = _draw(rnn, steps, batch, seed=4)[1]
        for given in ((None, dy, None), (state, dy, dstate), (state, None, dstate)):
            for input_gradient in (True, False):
                wanted = _step(_longer(rnn), x, *given, input_gradient=input_gradient)
                _same(_step(rnn, x, *given, input_gradient=input_gradient), wanted)
    assert watch.taken == 12


@pytest.mark.processor
def test_steps_do_not_disturb_each_other(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, 2, seed=0)
    x, state = _draw(rnn, 3, 2)
    dy = np.ones((3, 2, 9), np.float32)
    wanted = [_step(_longer(rnn), k * x, state, dy, None) for k in (1, 2)]
    first = rnn.forward(x, state)
    second = rnn.forward(2 * x, state)
    rnn(3 * x, state)
    later = rnn.backward(second[2], dy)
    _same([*_flat(second), *_flat(later), *later[2].values()], wanted[1])
    earlier = rnn.backward(first[2], dy)
    _same([*_flat(first), *_flat(earlier), *earlier[2].values()], wanted[0])
    _same([*_flat(second), *_flat(later), *later[2].values()], wanted[1])
    assert watch.taken == 3
    with pytest.raises(ValueError, match="already used"):
        rnn.backward(first[2], dy)


def test_a_backward_pass_is_that_of_its_forward_pass(watch: _Watch) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn, 3, 2)
    dy = np.ones((3, 2, 9), np.float32)
    wanted = _step(_longer(rnn), x, state, dy, None)
    y, final, tape = rnn.forward(x, state)
    x[...] = 7
    for array in rnn.params.values():
        array[...] = 7
    dx, first, grads = rnn.backward(tape, dy)
    _same([*_flat((y, final)), *_flat((dx, first)), *grads.values()], wanted)
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    x, state = _draw(rnn, 3, 2)
    tape = rnn.forward(x, state, copy=False)[2]
    x[...] = 0  # which one must not do: here it shows that there is no copy
    assert not rnn.backward(tape, dy)[2]["weight_ih_l0"].any()
    assert watch.taken == 2


def test_gradients_of_any_strides(watch: _Watch) -> None:
    rnn = ln.GRU(5, 9, seed=0)
    x, state = _draw(rnn, 3, 2)
    plain = np.random.default_rng(3).standard_normal((3, 2, 9)).astype(np.float32)
    wanted = _step(_longer(rnn), x, state, plain, state)
    read_only = plain.copy()
    read_only.flags.writeable = False
    wide = np.repeat(plain, 2, axis=2)[..., ::2]
    for dy in (np.asfortranarray(plain), read_only, wide):
        _same(_step(rnn, x, state, dy, np.asfortranarray(state)), wanted)
    assert watch.taken == 3


@pytest.mark.parametrize(
    ("dy", "dstate"),
    [
        (np.zeros((3, 2, 8), np.float32), None),
        (np.zeros((3, 2, 9)), None),
        (np.zeros((3, 18), np.float32), None),
        (np.ma.masked_array(np.zeros((3, 2, 9), np.float32)), None),
        (3, None),
        (None, np.zeros((1, 2, 9), np.float32)),
        (None, (np.zeros((1, 2, 9), np.float32),) * 3),
        (None, (np.zeros((1, 2, 9), np.float32), np.zeros((1, 2, 8), np.float32))),
        (None, (np.zeros((1, 2, 9), np.float32), np.ma.masked_array(np.zeros((1, 2, 9), np.float32)))),
        (np.zeros((3, 2, 9), np.float32), 3),
    ],
)
def test_refusals_of_the_backward_pass_are_the_same(dy: Any, dstate: Any) -> None:
    rnn = ln.LSTM(5, 9, seed=0)
    x, state = _draw(rnn, 3, 2)
    tape = rnn.forward(x, state)[2]
    assert tape.call is not None
    with pytest.raises((TypeError, ValueError)) as quick:
        rnn.backward(tape, dy, dstate)
    other = _longer(rnn)
    with pytest.raises((TypeError, ValueError)) as slow:
        other.backward(other.forward(x, state)[2], dy, dstate)
    assert str(quick.value) == str(slow.value)
    assert type(quick.value) is type(slow.value)
    assert rnn.backward(tape)[0].shape == x.shape  # the tape is not used up


class _LongerError(Exception):
    pass


def test_what_is_drawn_takes_the_longer_way(watch: _Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = ln.LSTM(5, 9, 2, dropout=0.2, seed=0)
    x, state = _draw(rnn, 3, 2)
    other = copy.deepcopy(rnn)
    other._prepared_calls = None
    for _ in range(2):
        _same(_step(rnn, x, state, None, state), _step(other, x, state, None, state))
    assert watch.taken == 0
    _same(_flat(rnn.forward(x, state, training=False)), _flat(_longer(rnn).forward(x, state, training=False)))
    assert watch.taken == 1

    def longer(*args: Any, **options: Any) -> None:
        raise _LongerError

    monkeypatch.setattr(ln.LSTM, "_run", longer)
    for options in ({"zoneout": 0.2}, {"weight_drop": 0.2}, {"recurrent_dropout": 0.2}):
        with pytest.raises(_LongerError):
            ln.LSTM(5, 9, 2, seed=0, **options).forward(x, state)  # type: ignore[arg-type]
    assert watch.taken == 1
