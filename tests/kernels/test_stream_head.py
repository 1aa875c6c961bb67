"""A step of recurrent layers and a linear one gives what the layers and a matrix product give."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from numba import cfunc, njit
from numba.core import types
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.records import Team
from lstm_numba.kernels import stream as streams
from lstm_numba.models import LanguageModel, SequenceClassifier, SequenceRegressor

stream_step = ln.stream_step


def _head(inputs: int, outputs: int, dtype: str = "float32", **options: Any) -> ln.Linear:
    return ln.Linear(inputs, outputs, dtype=dtype, rng=np.random.default_rng(5), **options)


def _input(steps: int, batch: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((steps, batch, 5)).astype(dtype)


def _scores(rnn: Any, head: ln.Linear, x: np.ndarray) -> np.ndarray:
    """What the layers give, times the weights, in float64."""
    y, _ = rnn(x)
    bias = head.params.get("bias", np.zeros(1))
    return y.astype(np.float64) @ head.params["weight"].T.astype(np.float64) + bias


@njit
def _run(cell: Any, plan: Any, zero: Any, xs: Any, out: Any) -> None:
    for n in range(len(xs)):
        stream_step(cell, plan, zero, xs[n], out[n])


@njit
def _status(cell: Any, plan: Any, zero: Any, sample: Any, out: Any) -> Any:
    return stream_step(cell, plan, zero, sample, out)


@pytest.mark.processor
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("batch", "outputs"), [(1, 1), (3, 1), (1, 11), (3, 11), (3, 4)])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3}, {"proj_size": 37}], ids=str)
def test_scores_are_those_of_layer_and_product(
    dtype: str, batch: int, outputs: int, options: dict[str, Any]
) -> None:
    """39 and 37 units fill no whole vectors; eleven outputs are two times four and three single ones."""
    rnn = ln.make_layer("lstm", 5, 39, seed=3, dtype=dtype, **options)
    head, x = _head(rnn.output_size, outputs, dtype), _input(4, batch, dtype)
    expected, stream = _scores(rnn, head, x), ln.Stream(rnn, batch, head=head)
    for step, want in zip(x, expected, strict=True):
        got = stream.step(step)
        assert got.dtype == dtype
        assert_close(got, want, "forward")
    stream.reset()
    out = np.full((4, batch, outputs), np.nan, dtype)
    _run(*stream.arguments, x, out)
    assert_close(out, expected, "forward")
    if batch == 1:
        stream.reset()
        assert stream.step(x[0, 0]).shape == (outputs,)


def test_the_state_is_that_of_the_layer_alone() -> None:
    rnn, x = ln.GRU(5, 19, 2, seed=3), _input(3, 2)
    plain, headed = ln.Stream(rnn, 2), ln.Stream(rnn, 2, head=_head(19, 3))
    for step in x:
        plain.step(step)
        headed.step(step)
    np.testing.assert_array_equal(headed.state, plain.state)
    headed.reset(np.zeros_like(plain.state))
    assert_close(headed.step(x[0]), _scores(rnn, _head(19, 3), x[:1])[0], "forward")


def test_a_head_without_bias() -> None:
    rnn, head, x = ln.GRU(5, 19, seed=3), _head(19, 6, bias=False), _input(2, 1)
    stream = ln.Stream(rnn, head=head)
    for step, want in zip(x, _scores(rnn, head, x), strict=True):
        assert_close(stream.step(step), want, "forward")


def test_a_model_brings_its_own_head() -> None:
    x = _input(5, 3)
    classifier = SequenceClassifier(5, 19, 4, seed=1)
    stream = ln.Stream(classifier, batch=3)
    for t, step in enumerate(x, 1):
        assert_close(stream.step(step), classifier.scores(x[:t]), "forward")
    # Two numbers a target; what dropout does is for training alone.
    regressor = SequenceRegressor(5, 19, 2, loss="gaussian", per_step=True, layers=2, dropout=0.5, seed=1)
    stream = ln.Stream(regressor, batch=3)
    for step, want in zip(x, regressor.scores(x), strict=True):
        assert_close(stream.step(step), want, "forward")


@pytest.mark.parametrize("outputs", [1, 6])
def test_work_that_threads_share(outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, head, x = ln.LSTM(5, 19, 2, seed=3), _head(19, outputs), _input(4, 6)
    monkeypatch.setattr(streams, "choose_plan", lambda *_: Plan(Team(0, 2, 2), 1, 1))
    stream = ln.Stream(rnn, 6, head=head)
    for step, want in zip(x, _scores(rnn, head, x), strict=True):
        assert_close(stream.step(step), want, "forward")


def test_another_size_is_refused() -> None:
    stream = ln.Stream(ln.LSTM(5, 19, seed=3), batch=2, head=_head(19, 3))
    assert _status(*stream.arguments, np.zeros((2, 5), np.float32), np.zeros((2, 3), np.float32)) == 0
    for sample, output in ((6, 3), (5, 4), (5, 2), (5, 19)):
        x, out = np.zeros((2, sample), np.float32), np.zeros((2, output), np.float32)
        assert kernels.reason(_status(*stream.arguments, x, out)).startswith("x or out: another size")
        assert np.isnan(out).all()
        with pytest.raises(ValueError, match="another size"):
            ln.stream_step(*stream.arguments, x, out)


def test_later_changes_of_the_weights_are_not_seen() -> None:
    rnn, head, x = ln.LSTM(5, 19, seed=3), _head(19, 3), _input(1, 1)
    stream, expected = ln.Stream(rnn, head=head), _scores(rnn, head, x)[0]
    head.params["weight"][...] = 0
    head.params["bias"][...] = 0
    assert_close(stream.step(x[0]), expected, "forward")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_a_c_function(dtype: str) -> None:
    rnn, head, x = ln.LSTM(5, 19, 2, seed=3, dtype=dtype), _head(19, 7, dtype), _input(4, 3, dtype)
    step = kernels.CStep(rnn, 3, head=head)
    assert step.state_shape == kernels.CStep(rnn, 3).state_shape
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(step.address)
    state, y = np.zeros(step.state_shape, dtype), np.full((5, 7), np.nan, dtype)
    for sample, want in zip(x, _scores(rnn, head, x), strict=True):
        call(step.handle, sample.ctypes.data, state.ctypes.data, y.ctypes.data)
        assert_close(y[:3], want, "forward")
    assert np.isnan(y[3:]).all()  # nothing beyond what there is
    assert_close(state, np.stack(rnn(x)[1]), "forward")


def test_in_a_cfunc_of_ones_own() -> None:
    """Which head there is, the handle says."""
    rnn, x = ln.GRU(5, 19, seed=3), _input(1, 2)
    steps = [kernels.CStep(rnn, 2, head=head) for head in (None, _head(19, 2), _head(19, 40))]
    cell, zero, numbers = steps[0].cell, steps[0].zero, types.CPointer(types.float32)

    @cfunc(types.void(types.voidptr, numbers, numbers, numbers))
    def run(handle, x, state, y):  # type: ignore[no-untyped-def]
        kernels.c_step(cell, zero, handle, x, state, y)

    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(run.address)
    expected = [rnn(x)[0][0], *(_scores(rnn, _head(19, outputs), x)[0] for outputs in (2, 40))]
    for step, want in zip(steps, expected, strict=True):
        state, y = np.zeros(step.state_shape, np.float32), np.zeros(want.shape, np.float32)
        assert step.outputs == y.shape[1]
        call(step.handle, x.ctypes.data, state.ctypes.data, y.ctypes.data)
        assert_close(y, want, "forward")


def _without(model: Any, name: str) -> Any:
    delattr(model, name)
    return model


def _with(head: ln.Linear, name: str, value: Any) -> ln.Linear:
    head.params[name] = value
    return head


_RNN, _MODEL = ln.LSTM(5, 19), SequenceClassifier(5, 19, 3)
_WEIGHT = _head(19, 3).params["weight"]


@pytest.mark.parametrize(
    ("kind", "message", "given", "head"),
    [
        (TypeError, "rnn: LanguageModel has an embedding", LanguageModel(4, 3), None),
        (TypeError, "rnn: expected a recurrent layer, or .* got list", [_RNN, _MODEL.output], None),
        (TypeError, "rnn: .* got SequenceCl", _without(SequenceClassifier(5, 19, 3), "output"), None),
        (ValueError, "rnn: expected one dir", SequenceClassifier(5, 19, 3, bidirectional=True), None),
        (TypeError, "head: expected None beside SequenceClassifier", _MODEL, _head(19, 3)),
        (TypeError, "head: expected a Linear, got ndarray", _RNN, _WEIGHT),
        (TypeError, "head: weight: .* float32, got float64", _RNN, _head(19, 3, "float64")),
        (ValueError, r"head: weight: expected shape \(3, 19\).*\(3, 20\)", _RNN, _head(20, 3)),
        (
            TypeError,
            "head: weight: .*mask",
            _RNN,
            _with(_head(19, 3), "weight", np.ma.masked_less(_WEIGHT, 0)),
        ),
        (
            ValueError,
            r"head: bias: expected shape \(3,\).*\(1,\)",
            _RNN,
            _with(_head(19, 3), "bias", np.zeros(1, np.float32)),
        ),
    ],
)
def test_what_fits_no_step_is_named(kind: type[Exception], message: str, given: Any, head: Any) -> None:
    for make in (ln.Stream, kernels.CStep):
        with pytest.raises(kind, match=message) as found:
            make(given, head=head)
        assert "\n" not in str(found.value)


def test_a_model_of_either_device_is_streamed_on_the_processor(backend: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    expected = ln.Stream(SequenceRegressor(2, 4, 2, cell="gru", seed=0))
    stream = ln.Stream(SequenceRegressor(2, 4, 2, cell="gru", seed=0, device=backend))
    for sample in x:
        np.testing.assert_array_equal(stream.step(sample), expected.step(sample))
