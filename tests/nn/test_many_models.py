"""Many models in one layer: each gives the same bits as alone on one thread."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.cells import BUILT_IN
from lstm_numba.engines.cpu import many_models

N, T, B, I, H = 5, 4, 3, 4, 9  # noqa: E741

#: Options under which a layer draws from its generator in training, or is put together of parts.
OPTIONS: dict[str, dict[str, Any]] = {
    "layers and directions": {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
    "batch first": {"batch_first": True, "bias": False},
    "heads": {"num_layers": 2, "heads": 3, "weight_drop": 0.3},
    "projection": {"proj_size": 5},
    "zoneout": {"zoneout": 0.3, "num_layers": 2},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "candidate dropout": {"recurrent_dropout": 0.4, "recurrent_dropout_kind": "candidate"},
}


def layer(name: str, **options: Any) -> ln.Recurrent:
    return ln.make_layer(name, I, 8 if name == "clockwork" else H, **options)


def arrays_of(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def passes(rnn: Any, x: Any, dy: Any, state: Any, dstate: Any, **given: Any) -> dict[str, Any]:
    """All results of a forward and a backward pass, and of a call."""
    y, final, tape = rnn.forward(x, state, **given)
    dx, first, grads = rnn.backward(tape, dy, dstate)
    called, called_final = rnn(x, state, **given)
    found = {"y": y, "dx": dx, "called": called, **grads}
    for name, states in (("final", final), ("first", first), ("called final", called_final)):
        found.update({f"{name} {k}": array for k, array in enumerate(arrays_of(states))})
    return found


def of_model(value: Any, n: int, axes: int) -> Any:
    """A model's part of what is given, where it has an axis for models."""
    if isinstance(value, tuple):
        return tuple(of_model(one, n, axes) for one in value)
    return value[n] if value is not None and np.ndim(value) > axes else value


def check(name: str, shared: bool = False, states: bool = True, **given: Any) -> None:
    """Compare many models on two threads with each of them on one; `given` are options and arguments."""
    arguments = {key: given.pop(key) for key in ("lengths", "resets", "reset_to", "extras") if key in given}
    rng, options = np.random.default_rng(3), given
    many = layer(name, models=N, seed=20, **options)
    leading = (B, T) if options.get("batch_first") else (T, B)

    def numbers(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x = numbers(*leading, I) if shared else numbers(N, *leading, I)
    zeros = arrays_of(many.zero_state(B))
    state, dstate = (tuple(numbers(*zero.shape) for zero in zeros) for _ in range(2))
    if name == "slstm":  # whose normaliser is a sum of exponentials
        state = (*state[:2], 1 + abs(state[2]), state[3])
    dy = numbers(N, *leading, many.directions * many.output_size)
    if not states:
        state = None
    elif len(zeros) == 1:
        state, dstate = state[0], dstate[0]
    if not states:
        dstate = None
    numba.set_num_threads(2)
    found = passes(many, x, dy, state, dstate, **arguments)
    numba.set_num_threads(1)
    silent = [key for key, value in found.items() if not np.any(value)]
    assert all("weight_hh" in key and "_g" in key for key in silent), (
        "clocks of one step alone, which read no h"
    )
    dx = np.zeros(x.shape)
    for n in range(N):
        one = layer(name, seed=20 + n, **options)
        axes = {"lengths": 1, "resets": 2}
        own = {key: of_model(value, n, axes.get(key, 9)) for key, value in arguments.items()}
        if "extras" in own:
            own["extras"] = {key: of_model(value, n, 3) for key, value in own["extras"].items()}
        alone = passes(
            one, x if shared else x[n], dy[n], *(of_model(s, n, 3) for s in (state, dstate)), **own
        )
        assert alone.keys() == found.keys()
        for key, expected in alone.items():
            if key == "dx" and shared:
                dx += expected
            else:
                assert np.array_equal(found[key][n], expected), (n, key)
    if shared:
        np.testing.assert_allclose(found["dx"], dx, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*BUILT_IN, "clockwork"])
def test_every_cell(name: str) -> None:
    check(name)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option(options: dict[str, Any]) -> None:
    check("lstm", **options)


@pytest.mark.parametrize("name", ["lstm", "clockwork"])
@pytest.mark.parametrize("shared", [False, True], ids=["own x", "one x"])
@pytest.mark.parametrize("own", [False, True], ids=["one length", "own lengths"])
def test_lengths(name: str, shared: bool, own: bool) -> None:
    lengths = np.array([4, 1, 2]) if not own else np.random.default_rng(0).integers(1, T + 1, (N, B))
    check(name, shared, states=False, lengths=lengths, bidirectional=True, num_layers=2)


@pytest.mark.parametrize("own", [False, True], ids=["one", "of each model"])
def test_resets(own: bool) -> None:
    resets = np.random.default_rng(1).random((N, T, B) if own else (T, B)) < 0.4
    check("gru", resets=resets, reset_to="initial", bidirectional=True)


def test_float64_and_models_of_more_threads() -> None:
    """More threads than models, and than cores."""
    x = np.random.default_rng(2).standard_normal((2, T, B, I))
    many = ln.LSTM(I, H, models=2, seed=1, dtype=np.float64)
    y, _ = many(x)
    numba.set_num_threads(1)
    for n in range(2):
        assert np.array_equal(ln.LSTM(I, H, seed=1 + n, dtype=np.float64)(x[n])[0], y[n])


def test_a_thousand_models_are_each_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By threads that come and go: what a thread has for itself is no other thread's."""
    monkeypatch.setattr(many_models, "thread_count", lambda: 4)
    many, one = ln.RNN(1, 3, models=1000, seed=0), ln.RNN(1, 3)
    x = np.random.default_rng(0).standard_normal((1000, 3, 1, 1)).astype(np.float32)
    found = [many(x)[0] for _ in range(3)]
    for n in (0, 1, 499, 999):
        one.load_state_dict(many.model(n).state_dict())
        for y in found:
            assert np.array_equal(y[n], one(x[n])[0])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_gradients_of_strided_views() -> None:
    """dy as a slice of more columns, x as one of more models, gradients of neither a copy."""
    rng = np.random.default_rng(5)
    many = ln.GRU(I, H, models=N, seed=0)
    wide = rng.standard_normal((N, T, B, 2 * H)).astype(np.float32)
    xs = rng.standard_normal((2 * N, T, B, I)).astype(np.float32)
    plain = passes(many, xs[::2].copy(), wide[..., H:].copy(), None, None)
    for key, value in passes(many, xs[::2], wide[..., H:], None, None).items():
        assert np.array_equal(value, plain[key]), key
    assert np.array_equal(
        plain["dx"], passes(many, xs[::2], wide[..., ::-1][..., :H][..., ::-1], None, None)["dx"]
    )


# -- one of them, some of them ---------------------------------------------------------------------------


def test_a_model_is_a_view_and_some_are_copies() -> None:
    many = ln.LSTM(I, H, models=4, seed=[7, 5, 3, 1], dropout=0.5, num_layers=2)
    one, some = many.model(-2), many.select([2, 0])
    alone = ln.LSTM(I, H, seed=3, dropout=0.5, num_layers=2)
    assert (one.models, some.models) == (None, 2)
    for name, value in alone.params.items():
        assert np.array_equal(one.params[name], value)
        assert np.array_equal(some.params[name][0], value)
    one.params["bias_ih_l0"][...] = 9
    assert np.all(many.params["bias_ih_l0"][2] == 9)
    assert not np.any(some.params["bias_ih_l0"] == 9)
    x = np.zeros((T, B, I), np.float32)
    drawn = [rnn.forward(x)[0] for rnn in (many.model(2), some.model(0))]
    assert not np.array_equal(*drawn), "the generator is the model's, and goes on"


def test_copies_and_pickles_compute_the_same() -> None:
    many = ln.LSTM(I, 6, models=3, seed=1, heads=2)
    x = np.random.default_rng(0).standard_normal((3, T, B, I)).astype(np.float32)
    expected, _ = many(x)
    for other in (copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        for array in many.params.values():
            array += 0  # theirs are their own
        assert np.array_equal(other(x)[0], expected)
    many.freeze()
    assert np.array_equal(many(x)[0], expected)


def test_what_is_refused() -> None:
    many, x = ln.LSTM(I, H, models=3), np.zeros((3, T, B, I), np.float32)
    for given, message in {
        (2, T, B, I): r"x: expected shape \(3, T, B, 4\) or \(T, B, 4\), got \(2, 4, 3, 4\)",
        (T, B, 5): r"x: expected shape \(3, T, B, 4\) or \(T, B, 4\), got \(4, 3, 5\)",
        (3, 0, B, I): r"with T, B of at least 1",
    }.items():
        with pytest.raises(ValueError, match=message):
            many(np.zeros(given, np.float32))
    with pytest.raises(ValueError, match=r"lengths: expected shape \(3, 3\) or \(3,\), got \(2,\)"):
        many(x, lengths=[1, 2])
    with pytest.raises(ValueError, match=r"resets: expected shape \(3, 4, 3\) or \(4, 3\), got \(3, 4\)"):
        many(x, resets=np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"state: expected shape \(3, 1, 3, 9\), got \(1, 3, 9\)"):
        many(x, (np.zeros((1, B, H), np.float32),) * 2)
    _, _, tape = many.forward(x)
    with pytest.raises(ValueError, match=r"dy: expected shape \(3, 4, 3, 9\), got \(4, 3, 9\)"):
        many.backward(tape, np.zeros((T, B, H), np.float32))
    for refused in (lambda: many.trace(x), many.layer_params, many.dense_params):
        with pytest.raises(
            ValueError, match=r"models: expected one model, got 3; layer.model\(n\) gives one"
        ):
            refused()
    with pytest.raises(ValueError, match=r"seed: expected one, or one for each of 3 models, got 2"):
        ln.LSTM(I, H, models=3, seed=[1, 2])
    for models in (0, -1, 1.5):
        with pytest.raises((ValueError, TypeError), match="models"):
            ln.LSTM(I, H, models=models)
    with pytest.raises(IndexError, match="model: expected 0 to 2, got 3"):
        many.model(3)
    with pytest.raises(ValueError, match="this layer is one model"):
        ln.LSTM(I, H).model(0)
    with pytest.raises(ValueError, match="expected one model at least"):
        many.select([])


def test_parameters_that_were_replaced_are_checked() -> None:
    many, x = ln.LSTM(I, H, models=3), np.zeros((3, T, B, I), np.float32)
    many.params["bias_hh_l0"] = many.params["bias_hh_l0"][:2]
    with pytest.raises(ValueError, match=r"bias_hh: expected shape \(3, 36\), got \(2, 36\)"):
        many(x)
    many.params["bias_hh_l0"] = np.zeros((3, 36))
    with pytest.raises(TypeError, match="bias_hh"):
        many(x)
