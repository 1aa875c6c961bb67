"""A recurrent layer's arguments and arrays: layouts, what is protected, state dicts, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recurrent_problems import host
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.nn.layers import make_layer


def test_batch_first_is_a_transposition(backend: str) -> None:
    plain = ln.LSTM(3, 5, 2, bidirectional=True, seed=4, device=backend)
    swapped = ln.LSTM(3, 5, 2, bidirectional=True, seed=4, batch_first=True, device=backend)
    x = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(np.float32)
    lengths = [4, 1, 3, 2, 4, 0]
    y, state, tape = plain.forward(x, lengths=lengths)
    y2, state2, tape2 = swapped.forward(x.transpose(1, 0, 2), lengths=lengths)
    np.testing.assert_array_equal(y2, y.transpose(1, 0, 2))
    np.testing.assert_array_equal(state2[1], state[1])
    dx, _, grads = plain.backward(tape, y.copy())
    dx2, _, grads2 = swapped.backward(tape2, y2.copy())
    np.testing.assert_array_equal(dx2, dx.transpose(1, 0, 2))
    np.testing.assert_array_equal(host(swapped, grads2["weight_hh_l0"]), host(plain, grads["weight_hh_l0"]))


def test_inputs_of_any_memory_layout_are_left_unchanged(backend: str) -> None:
    layer = ln.GRU(4, 6, seed=0, dtype=np.float64, device=backend)
    x = np.random.default_rng(0).standard_normal((5, 4, 3)).transpose(0, 2, 1)
    x.flags.writeable = False
    kept = x.copy()
    y, _, tape = layer.forward(x)
    expected, _, tape2 = layer.forward(np.ascontiguousarray(x))
    np.testing.assert_array_equal(y, expected)
    dy = np.asfortranarray(np.ones(y.shape))
    dy.flags.writeable = False
    np.testing.assert_array_equal(layer.backward(tape, dy)[0], layer.backward(tape2, np.ones(y.shape))[0])
    np.testing.assert_array_equal(x, kept)


def test_output_of_forward_is_protected_and_a_tape_serves_once() -> None:
    layer = ln.LSTM(2, 3, seed=0)
    x = np.zeros((2, 1, 2), np.float32)
    y, _, tape = layer.forward(x)
    with pytest.raises(ValueError, match="read-only"):
        y += 1
    layer.backward(tape)
    with pytest.raises(ValueError, match="tape: already used"):
        layer.backward(tape)
    with pytest.raises(TypeError, match="tape: expected a tape"):
        ln.LSTM(2, 3).backward(layer.forward(x)[2])


def test_state_dict_round_trip_and_what_it_refuses(backend: str) -> None:
    layer, other = (ln.PeepholeLSTM(2, 3, 2, seed=seed, device=backend) for seed in (0, 1))
    state = layer.state_dict()
    assert list(state)[:5] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ph_l0"]
    assert state["weight_ph_l0"].shape == (9,)
    other.load_state_dict(state)
    for name, value in other.params.items():
        np.testing.assert_array_equal(host(other, value), host(layer, layer.params[name]))
        state[name][...] = 0
        assert np.all(host(other, value) != 0)
    with pytest.raises(ValueError, match="missing \\['bias_hh_l0'\\]"):
        other.load_state_dict({k: v for k, v in state.items() if k != "bias_hh_l0"})
    with pytest.raises(ValueError, match=r"weight_ih_l1: expected shape \(12, 3\), got \(12, 2\)"):
        other.load_state_dict({**state, "weight_ih_l1": np.zeros((12, 2))})
    with pytest.raises(ValueError, match="unknown \\['weight_xx'\\]"):
        other.load_state_dict({**state, "weight_xx": np.zeros(1)})


def test_the_weights_in_use_are_the_weights_in_params(backend: str) -> None:
    layer = ln.LSTM(2, 3, seed=0, device=backend)
    x = np.ones((2, 1, 2), np.float32)
    before = layer(x)[0].copy()
    params = layer.state_dict()
    params["weight_hh_l0"] *= 0.5
    params["weight_ih_l0"][:] = 0.25
    for name, value in params.items():
        layer.engine.upload(value, out=layer.params[name])
    after = layer(x)[0]
    zero = np.zeros((1, 1, 3))
    expected, _ = reference.run("lstm", params, x, [zero, zero])
    assert not np.allclose(after, before)
    assert_close(after, expected, "forward")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda r, x: r(x[:, :, :2]), ValueError, r"x: expected shape \(T, B, 3\), got \(4, 2, 2\)"),
        (lambda r, x: r(x[0]), ValueError, r"x: expected shape \(T, B, 3\)"),
        (lambda r, x: r(x[:0]), ValueError, "at least 1"),
        (lambda r, x: r(x.astype(np.float64)), TypeError, "x: expected dtype float32, got float64"),
        (lambda r, x: r(x.tolist()), TypeError, "x: expected a NumPy array"),
        (lambda r, x: r(x, x), TypeError, "state: expected a tuple of arrays"),
        (lambda r, x: r(x, (x, x)), ValueError, r"state: expected shape \(1, 2, 5\)"),
        (lambda r, x: r(x, lengths=[5, 1]), ValueError, "lengths: expected 0 to 4, got 1 to 5"),
        (lambda r, x: r(x, lengths=[1]), ValueError, r"lengths: expected shape \(2,\)"),
        (lambda r, x: r(x, lengths=[1.0, 2.0]), TypeError, "lengths: expected integers"),
        (lambda r, x: r.backward(r.forward(x)[2], x), ValueError, r"dy: expected shape \(4, 2, 5\)"),
        (lambda r, x: r.backward(None), TypeError, "tape: expected"),
        (lambda r, x: ln.LSTM(0, 1), ValueError, "input_size: expected an integer >= 1, got 0"),
        (lambda r, x: ln.LSTM(1, 2.5), TypeError, "hidden_size: expected an integer"),
        (lambda r, x: ln.LSTM(1, 2, -1), ValueError, "num_layers"),
        (lambda r, x: ln.LSTM(1, 2, dropout=1.0), ValueError, "dropout: expected a probability"),
        (lambda r, x: ln.LSTM(1, 2, dtype=np.float16), TypeError, "dtype: expected float32 or float64"),
        (lambda r, x: ln.LSTM(1, 2, device="tpu"), ValueError, "device"),
        (lambda r, x: ln.RNN(1, 2, nonlinearity="sin"), ValueError, "nonlinearity"),
        (lambda r, x: ln.PeepholeLSTM(1, 2, peephole="wide"), ValueError, "peephole"),
        (lambda r, x: make_layer("lstn", 1, 2), ValueError, "expected one of rnn, rnn-relu, lstm"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type, text: str, backend: str) -> None:
    with pytest.raises(error, match=text):
        call(ln.LSTM(3, 5, seed=0, device=backend), np.zeros((4, 2, 3), np.float32))
