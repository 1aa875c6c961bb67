"""One step at a time gives what the whole sequence gives."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.records import Team
from lstm_numba.kernels import stream
from lstm_numba.nn.layers import CELL_NAMES


def _layer(cell: str, dtype: str = "float32", **options: Any) -> Any:
    return ln.make_layer(cell, 5, 19, seed=3, dtype=dtype, **options)


def _input(steps: int, batch: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((steps, batch, 5)).astype(dtype)


def _as_tuple(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("cell", [*CELL_NAMES, "use-gate"])
def test_steps_are_the_sequence(cell: str) -> None:
    rnn, x = _layer(cell, num_layers=2), _input(6, 3)
    rng = np.random.default_rng(2)
    states = [rng.standard_normal((2, 3, 19)).astype(np.float32) for _ in rnn.cell.states]
    y, final = reference.run(cell, rnn.params, x, states, num_layers=2)
    stream = ln.Stream(rnn, batch=3)
    stream.reset(tuple(states) if len(states) > 1 else states[0])
    for step, expected in zip(x, y, strict=True):
        assert_close(stream.step(step), expected, "forward")
    for got, expected in zip(_as_tuple(stream.state), final, strict=True):
        assert_close(got, expected, "forward")


@pytest.mark.parametrize(
    ("layers", "batch", "sizes", "dtype"),
    [(1, 1, (19, 3), "float64"), (3, 2, (19, 7), "float32"), (2, 64, (96, 33), "float32")],
)
def test_steps_of_a_projected_layer_are_the_sequence(
    layers: int, batch: int, sizes: tuple[int, int], dtype: str
) -> None:
    """The last case is much work, which threads share."""
    hidden, units = sizes
    rnn = ln.LSTM(5, hidden, layers, proj_size=units, seed=3, dtype=dtype)
    x, rng = _input(6, batch, dtype), np.random.default_rng(2)
    given = tuple(rng.standard_normal((layers, batch, n)).astype(dtype) for n in (units, hidden))
    y, final = rnn(x, given)
    stream = ln.Stream(rnn, batch)
    for _ in range(2):
        stream.reset(given)
        for step, expected in zip(x, y, strict=True):
            assert_close(stream.step(step), expected, "forward")
        for got, expected in zip(stream.state, final, strict=True):
            assert_close(got, expected, "forward")
    stream.reset()
    assert [array.shape for array in stream.state] == [array.shape for array in given]
    assert not any(array.any() for array in stream.state)
    with pytest.raises(ValueError, match="state: expected shapes"):
        stream.reset((given[1], given[0]))


@pytest.mark.smoke
def test_one_sample_and_reset() -> None:
    rnn, x = _layer("lstm"), _input(4, 1)
    stream = ln.Stream(rnn)
    y, _ = rnn(x)
    for _ in range(2):
        for step, expected in zip(x[:, 0], y[:, 0], strict=True):
            h = stream.step(step)
            assert h.shape == (19,)
            assert_close(h, expected, "forward")
        stream.reset()
    assert not stream.state[0].any()
    assert not stream.state[1].any()


def test_the_state_is_a_copy() -> None:
    stream = ln.Stream(_layer("gru"))
    before = stream.state
    stream.step(np.ones(5, np.float32))
    assert not before.any()
    assert stream.state.any()


@pytest.mark.parametrize("shape", [(64, 40, 96), (2, 64, 256)], ids=["by rows", "by units"])
def test_much_work_is_shared(shape: tuple[int, int, int]) -> None:
    batch, inputs, hidden = shape
    rnn = ln.LSTM(inputs, hidden, 2, seed=0)
    stream = ln.Stream(rnn, batch)
    x = np.random.default_rng(0).standard_normal((4, batch, inputs)).astype(np.float32)
    y, final = rnn(x)
    for step, expected in zip(x, y, strict=True):
        assert_close(stream.step(step), expected, "forward")
    for got, expected in zip(stream.state, final, strict=True):
        assert_close(got, expected, "forward")


@njit
def _run(cell: Any, plan: Any, zero: Any, xs: Any, out: Any) -> None:
    for n in range(len(xs)):
        ln_step(cell, plan, zero, xs[n], out[n])


ln_step = ln.stream_step


@pytest.mark.parametrize("cell", ["gru-reset-before", "layer-norm-lstm"])
def test_threads_that_share_units_have_room(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds and, of a cell with means, sums for each of them."""
    rnn, x = _layer(cell, num_layers=2), _input(4, 2)
    alone = ln.Stream(rnn, batch=2)
    monkeypatch.setattr(stream, "choose_plan", lambda *_: Plan(Team(1, 3, 1), 1, 1))
    shared = ln.Stream(rnn, batch=2)
    sizes = [len(scratch) for scratch in shared._scratch]
    monkeypatch.setattr(stream, "choose_plan", lambda *_: Plan(Team(1, 9, 1), 1, 1))
    of_nine = [len(scratch) for scratch in ln.Stream(rnn, batch=2)._scratch]
    assert all(more >= fewer + 6 * 64 for more, fewer in zip(of_nine, sizes, strict=True))
    for step in x:
        assert_close(shared.step(step), alone.step(step), "forward")


@pytest.mark.parametrize(("cell", "dtype"), [("peephole", "float32"), ("gru-reset-before", "float64")])
def test_from_compiled_code(cell: str, dtype: str) -> None:
    rnn, x = _layer(cell, dtype, num_layers=2), _input(7, 2, dtype)
    stream = ln.Stream(rnn, batch=2)
    out = np.zeros((7, 2, 19), dtype)
    _run(*stream.arguments, x, out)
    assert_close(out, rnn(x)[0], "forward")


@njit
def _status(cell: Any, plan: Any, zero: Any, sample: Any, out: Any) -> Any:
    return ln_step(cell, plan, zero, sample, out)


def test_another_size_is_refused() -> None:
    stream = ln.Stream(_layer("rnn"), batch=2)
    for sample, output in ((6, 19), (5, 20), (5, 18)):
        x, out = np.zeros((2, sample), np.float32), np.zeros((2, output), np.float32)
        assert ln.kernels.reason(_status(*stream.arguments, x, out)).startswith("x or out: another size")
        assert np.isnan(out).all()
        with pytest.raises(ValueError, match="another size"):
            ln.stream_step(*stream.arguments, x, out)


def test_other_types_are_refused_while_compiling() -> None:
    stream, out = ln.Stream(_layer("rnn")), np.zeros(19, np.float32)
    cell, plan, zero = stream.arguments
    frozen = out.copy()
    frozen.flags.writeable = False
    dtype = "x: expected an array of the stream's dtype, float32, got array"
    for message, arguments in (
        ("x: expected an array, got float64; x[t:t+1] is one", (cell, plan, zero, 0.1, out)),
        (dtype, (cell, plan, zero, np.zeros(5), out)),
        (dtype, (cell, plan, zero, np.zeros(5, np.int16), out)),
        ("out: expected a C-contiguous array", (cell, plan, zero, out[:5], out.astype(np.float64))),
        ("out: expected a C-contiguous array", (cell, plan, zero, out[:5], np.zeros(38, np.float32)[::2])),
        ("out: expected an array that may be written to", (cell, plan, zero, out[:5], frozen)),
        ("cell, plan, zero: expected a stream's arguments", (cell, zero, plan, out[:5], out)),
    ):
        with pytest.raises(numba.TypingError) as caught:
            _status(*arguments)
        assert str(caught.value).splitlines()[1].startswith(message)
        with pytest.raises(numba.TypingError) as caught:
            ln.stream_step(*arguments)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("batch", [1, 2])
def test_samples_of_any_memory_layout(batch: int) -> None:
    rnn = _layer("gru")
    stream, plain = ln.Stream(rnn, batch), ln.Stream(rnn, batch)
    wide = np.random.default_rng(4).standard_normal((batch, 10)).astype(np.float32)
    read_only = wide[:, :5].copy()
    read_only.flags.writeable = False
    shifted = np.frombuffer(b"-" + read_only.tobytes(), np.uint8)[1:].view(np.float32).reshape(batch, 5)
    assert not shifted.flags.aligned
    for x in (wide[:, :5].copy(), wide[:, ::2], wide[:, 4::-1], read_only, shifted):
        expected = plain.step(x.copy())
        np.testing.assert_array_equal(stream.step(x), expected)
        if batch == 1:
            np.testing.assert_array_equal(stream.step(x[0]), plain.step(x[0].copy()))


def test_a_stream_a_thread() -> None:
    rnn, x = _layer("lstm"), _input(200, 8)
    expected, _ = rnn(x)
    out = np.zeros((200, 8, 19), np.float32)

    def work(sequence: int) -> None:
        stream = ln.Stream(rnn)
        for t in range(200):
            out[t, sequence] = stream.step(x[t, sequence])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_close(out, expected, "forward")


def test_later_changes_of_the_weights_are_not_seen() -> None:
    rnn = _layer("rnn")
    stream = ln.Stream(rnn)
    expected = rnn(np.ones((1, 1, 5), np.float32))[0][0, 0]
    for parameter in rnn.params.values():
        parameter[...] = 0
    assert_close(stream.step(np.ones(5, np.float32)), expected, "forward")


def test_bad_input_is_named() -> None:
    rnn = _layer("lstm")
    stream = ln.Stream(rnn, batch=2)
    with pytest.raises(ValueError, match=r"x: expected shape \(2, 5\), got \(5,\)"):
        stream.step(np.ones(5, np.float32))
    for shape in ((10,), (5, 2), (1, 10), (1, 2, 5)):
        with pytest.raises(ValueError, match=r"x: expected shape \(2, 5\), got \(" + str(shape)[1:4]):
            stream.step(np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="x: expected float32, got float64"):
        stream.step(np.ones((2, 5)))
    with pytest.raises(TypeError, match="x: expected a NumPy array of float32, got list"):
        ln.Stream(rnn).step([0.0] * 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x: expected shape \(1, 5\), got \(6,\)"):
        ln.Stream(rnn).step(np.ones(6, np.float32))
    with pytest.raises(TypeError, match="x: expected float32, got float64"):
        ln.Stream(rnn).step(np.ones(5))
    with pytest.raises(ValueError, match=r"state: expected shapes \[\(1, 2, 19\), \(1, 2, 19\)\]"):
        stream.reset(np.zeros((2, 1, 2, 19), np.float32)[:, :, :1])
    with pytest.raises(ValueError, match="one direction"):
        ln.Stream(_layer("lstm", bidirectional=True))
    with pytest.raises(TypeError, match="recurrent layer"):
        ln.Stream(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch"):
        ln.Stream(rnn, batch=0)


def test_a_layer_of_either_device_is_streamed_on_the_processor(backend: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    expected = ln.Stream(ln.GRU(2, 4, 2, seed=0))
    stream = ln.Stream(ln.GRU(2, 4, 2, seed=0, device=backend))
    for sample in x:
        np.testing.assert_array_equal(stream.step(sample), expected.step(sample))
