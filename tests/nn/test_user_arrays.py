"""Arrays of users: what is no number, or has a mask, is refused by the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.engines.cpu.losses import softmax_cross_entropy
from lstm_numba.models import LanguageModel, SequenceBatch, SequenceClassifier, TokenBatch
from lstm_numba.nn.embedding import Embedding
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.losses import mean_squared_error, softmax
from lstm_numba.optim.optimizers import SGD


def _masked(array: Any) -> Any:
    return np.ma.masked_array(array, mask=np.ones(np.shape(array), bool))


#: What cannot stand for real numbers.
BAD: dict[str, Callable[[Any], Any]] = {
    "masked": _masked,
    "complex": lambda array: array.astype(complex),
    "bool": lambda array: array.astype(bool),
    "object": lambda array: array.astype(object),
    "None": lambda array: None,
    "text": lambda array: array.astype(str),
}
_F = np.float32
_X, _H = np.ones((2, 3, 2), _F), np.ones((1, 3, 4), _F)
_IDS = np.array([[0, 1, 2]])


def _layer(device: str) -> Any:
    return ln.LSTM(2, 4, seed=0, device=device)


def _tape(rnn: Any) -> Any:
    return rnn.forward(_X)[2]


def _with_parameter(rnn: Any, value: Any) -> Any:
    rnn.params["weight_hh_l0"] = value
    return rnn


_W = np.ones((16, 4), _F)
#: What may be None, and what it then means.
OPTIONAL = {"state", "dy", "lengths", "loss weights", "loss bias", "stream state"}
#: Name of the call -> (name in the operand, a good value, the call with a device and another value).
CALLS: dict[str, tuple[str, Any, Callable[[str, Any], Any]]] = {
    "x": ("x", _X, lambda d, v: _layer(d)(v)),
    "x of forward": ("x", _X, lambda d, v: _layer(d).forward(v)),
    "state": ("state", (_H, _H), lambda d, v: _layer(d)(_X, v if v is None else (v, _H))),
    "one of the states": ("state", (_H, _H), lambda d, v: _layer(d)(_X, (_H, v))),
    "lengths": ("lengths", np.array([1, 2, 1]), lambda d, v: _layer(d)(_X, lengths=v)),
    "dy": ("dy", np.ones((2, 3, 4), _F), lambda d, v: (r := _layer(d)).backward(_tape(r), v)),
    "dstate": ("dstate", _H, lambda d, v: (r := _layer(d)).backward(_tape(r), None, (v, _H))),
    "load_state_dict": (
        "weight_hh_l0",
        _W,
        lambda d, v: (r := _layer(d)).load_state_dict({**r.state_dict(), "weight_hh_l0": v}),
    ),
    "params, run": ("weight_hh", _W, lambda d, v: _with_parameter(_layer(d), v)(_X)),
    "params, forward": ("weight_hh", _W, lambda d, v: _with_parameter(_layer(d), v).forward(_X)),
    "params, read": ("weight_hh_l0", _W, lambda d, v: _with_parameter(_layer(d), v).state_dict()),
    "params, streamed": ("weight_hh_l0", _W, lambda d, v: ln.Stream(_with_parameter(_layer(d), v))),
    "params, plain": ("weight_hh_l0", _W, lambda d, v: kernels.plain(_with_parameter(_layer("cpu"), v))),
    "classifier": ("x", _X, lambda d, v: _classifier(d).logits(v)),
    "classifier, batch": (
        "x",
        _X,
        lambda d, v: _classifier(d).loss_and_gradients(SequenceBatch(v, np.array([0, 1, 2]))),
    ),
    "labels": (
        "targets",
        np.array([0, 1, 2]),
        lambda d, v: _classifier(d).evaluate(SequenceBatch(_X, v if v is not None else [None] * 3)),
    ),
    "load_params": (
        "params",
        np.ones(3, _F),
        lambda d, v: (m := _classifier(d)).load_params(
            {**{n: m.engine.download(p) for n, p in m.params.items()}, "output.bias": v}
        ),
    ),
}
#: Those that compute on the processor alone.
HOST_CALLS: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
    "plain": ("weight_hh", _W, lambda v: _plain(v)),
    "stream": ("x", np.ones(2, _F), lambda v: ln.Stream(_layer("cpu")).step(v)),
    "stream state": (
        "state",
        _H[:, :1],
        lambda v: ln.Stream(_layer("cpu")).reset(None if v is None else (v, v)),
    ),
    "logits": ("logits", np.ones((3, 4), _F), lambda v: softmax_cross_entropy(v, np.array([0, 1, 2]))),
    "softmax": ("logits", np.ones((3, 4), _F), softmax),
    "targets": ("targets", np.array([0, 1, 2]), lambda v: softmax_cross_entropy(np.ones((3, 4), _F), v)),
    "loss weights": ("weights", np.ones(3), lambda v: _loss(weights=v)),
    "loss bias": ("bias", np.ones(4, _F), lambda v: _loss(bias=v)),
    "prediction": ("prediction", np.ones(3, _F), lambda v: mean_squared_error(v, np.ones(3, _F))),
    "target": ("target", np.ones(3, _F), lambda v: mean_squared_error(np.ones(3, _F), v)),
    "linear": ("x", np.ones((3, 2), _F), lambda v: Linear(2, 4).forward(v)),
    "linear, dy": (
        "dy",
        np.ones((3, 4), _F),
        lambda v: Linear(2, 4).backward(np.ones((3, 2), _F), v),
    ),
    "ids": ("ids", _IDS, lambda v: Embedding(4, 2).forward(v)),
    "ids, dy": ("dy", np.ones((1, 3, 2), _F), lambda v: Embedding(4, 2).backward(_IDS, v)),
    "tokens": ("targets", _IDS, lambda v: _evaluate(v)),
    "optimizer": ("params|w", np.ones(3, _F), lambda v: SGD({"w": v}, 0.1)),
    "gradients": ("grads", np.ones(3, _F), lambda v: SGD({"w": np.ones(3, _F)}, 0.1).step({"w": v})),
    "momentum": ("state", np.ones(3, _F), lambda v: _momentum(v)),
}


def _classifier(device: str) -> Any:
    return SequenceClassifier(2, 4, 3, seed=0, device=device)


def _evaluate(targets: Any) -> Any:
    targets = np.array([[None] * 3]) if targets is None else targets
    return LanguageModel(4, 4, seed=0).evaluate(TokenBatch(_IDS, targets))


def _plain(value: Any) -> Any:
    rnn = _layer("cpu")
    return kernels.plain(rnn.cell, kernels.plain(rnn).parameters._replace(weight_hh=value))


def _loss(**more: Any) -> Any:
    return softmax_cross_entropy(np.ones((3, 4), _F), np.array([0, 1, 2]), **more)


def _momentum(value: Any) -> Any:
    optimizer = SGD({"w": np.ones(3, _F)}, 0.1, momentum=0.9)
    optimizer.load_state_dict({**optimizer.state_dict(), "momentum.w": value})


def _refused(name: str, call: Callable[[Any], Any], good: Any, kind: str) -> None:
    good = good[0] if isinstance(good, tuple) else good
    with pytest.raises(
        (TypeError, ValueError), match=rf"\b({name})\b.*: expected|{name}: .*expected"
    ) as error:
        call(BAD[kind](good))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("call", CALLS)
def test_arrays_that_are_no_numbers(call: str, kind: str, backend: str) -> None:
    name, good, run = CALLS[call]
    if kind == "None" and call in OPTIONAL:
        run(backend, None)
    else:
        _refused(name, lambda value: run(backend, value), good, kind)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("call", HOST_CALLS)
def test_arrays_on_the_host(call: str, kind: str) -> None:
    name, good, run = HOST_CALLS[call]
    if kind == "None" and call in OPTIONAL:
        run(None)
    else:
        _refused(name, run, good, kind)


@pytest.mark.parametrize("call", [*CALLS, *HOST_CALLS])
def test_good_ones_are_taken(call: str) -> None:
    if call in CALLS:
        _, good, run = CALLS[call]
        run("cpu", good[0] if isinstance(good, tuple) else good)
    else:
        _, good, host_run = HOST_CALLS[call]
        host_run(good)


def test_nothing_is_loaded_where_something_is_refused() -> None:
    rnn = _layer("cpu")
    before = rnn.state_dict()
    changed = {name: array + 1 for name, array in before.items()}
    with pytest.raises(TypeError, match="bias_hh_l0: expected real numbers, got complex64"):
        rnn.load_state_dict({**changed, "bias_hh_l0": before["bias_hh_l0"].astype(np.complex64)})
    for name, array in rnn.params.items():
        np.testing.assert_array_equal(array, before[name])
    rnn.load_state_dict({name: np.ones(array.shape, int) for name, array in before.items()})
    assert all((array == 1).all() for array in rnn.params.values())


def test_a_parameter_of_another_shape(backend: str) -> None:
    rnn = ln.LSTM(2, 4, seed=0, device=backend)
    rnn.params["weight_hh_l0"] = rnn.engine.upload(np.ones((15, 4), _F))
    with pytest.raises(ValueError, match=r"weight_hh: expected shape \(16, 4\), got \(15, 4\)"):
        rnn(_X)
