"""Kernels called from a user's compiled code: what they refuse."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from kernel_tools import Case
from numba import carray, cfunc, njit, types

import lstm_numba as ln
from lstm_numba import kernels


def test_refuses_what_does_not_fit() -> None:
    case = Case("lstm", "float32", "packed", (3, 2, 4, 5))
    w, x, dy, scratch, tape = case.weights, case.x, case.dy, case.room(3, True).numbers, case.tape(3).numbers
    state, y, dx, grads = case.copies(case.first), np.empty_like(dy), np.empty_like(x), case.zero_grads()
    small, other = tuple(s[:, :4].copy() for s in state), kernels.plain(ln.LSTM(3, 5))

    wider = kernels.plain(ln.LSTM(4, 6)).parameters
    transposed = tuple(s.reshape(5, 2) for s in state)

    def back(
        x: Any = x, tape: Any = tape, dy: Any = dy, dstate: Any = state, dx: Any = dx, grads: Any = grads,
        **changed: Any,
    ) -> Any:  # fmt: skip
        wrong = grads._replace(**{name: np.zeros(shape, np.float32) for name, shape in changed.items()})
        return lambda: kernels.sequence_backward(w, x, tape, dy, dstate, dx, wrong, scratch)

    faults = [
        ("x: expected", lambda: kernels.step(w, x[0, :, :3].copy(), state, scratch)),
        ("x: expected", lambda: kernels.sequence(w, x[:0], state, y[:0], scratch)),
        ("state: expected", lambda: kernels.step(w, x[0], small, scratch)),
        ("state: expected", lambda: kernels.step(w, x[0, :1], state, scratch)),
        ("state: expected", lambda: kernels.step(w, x[0], transposed, scratch)),
        ("y: expected", lambda: kernels.sequence(w, x, state, y[:2], scratch)),
        ("y: expected", lambda: kernels.sequence(w, x, state, y.reshape(2, 3, 5), scratch)),
        ("y: expected", lambda: kernels.sequence(w, x, state, y.reshape(3, 5, 2), scratch)),
        ("y: expected", lambda: kernels.sequence_forward(w, x, state, y[:, :1].copy(), tape, scratch)),
        ("scratch: expected", lambda: kernels.step(w, x[0], state, scratch[:100])),
        ("scratch: expected", lambda: kernels.sequence_forward(w, x, state, y, tape, scratch[:100])),
        ("tape: expected", lambda: kernels.sequence_forward(w, x, state, y, tape[1:], scratch)),
        ("tape: expected", lambda: kernels.step_forward(w, x[0], state, tape[:9], scratch)),
        ("tape: expected", back(tape=tape[1:])),
        ("dy: expected", back(dy=dy[:2])),
        ("dy: expected", back(dy=dy[:, :1].copy())),
        ("dy: expected", back(dy=dy.reshape(2, 3, 5))),
        ("dy: expected", back(dy=dy.reshape(3, 5, 2))),
        ("state: expected", back(dstate=small)),
        ("dx: expected", back(dx=dx[:2])),
        ("dx: expected", back(dx=dx.reshape(3, 4, 2))),
        ("x: expected", back(x=x[..., :3].copy())),
        ("weight_ih: expected", back(weight_ih=(8, 4))),
        ("grads: expected", back(weight_ih=(20, 3))),
        ("grads: expected", back(grads=wider)),
        ("weight_hh: expected", back(weight_hh=(20, 4))),
        ("bias_ih, bias_hh: expected", back(bias_ih=19)),
        ("weight_ph: expected", back(weight_ph=15)),
        ("parameters: expected", lambda: kernels.repack(w, other.parameters)),
        ("parameters: expected", lambda: kernels.repack(w, wider)),
    ]
    for message, call in faults:
        with pytest.raises(ValueError, match=message):
            call()


def test_refuses_other_types_while_compiling() -> None:
    """Each in one line, which names the argument: from Python alone, in compiled code after Numba's first."""
    case = Case("lstm", "float32", "packed", (3, 2, 4, 5))
    w, x, scratch, tape = case.weights, case.x, case.room(3, True).numbers, case.tape(3).numbers
    y, dx, grads, state = np.empty((3, 2, 5), np.float32), np.empty_like(x), case.zero_grads(), case.first
    h, c = case.copies(state)
    frozen, frozen_scratch, dot = h.copy(), scratch.copy(), np.float32(1)
    frozen.flags.writeable = frozen_scratch.flags.writeable = False
    layer, parameters = ln.LSTM(4, 5, seed=0), case.plain.parameters
    array = "expected a C-contiguous array of the weights' dtype, float32, got array"
    states, writable = (
        "state: expected a tuple of 2 arrays of one type (h, c), got",
        "an array that may be written",
    )
    made = "weights: expected what kernels.plain(rnn) or kernels.pack(kernels.plain(rnn)) makes, got"
    thin = grads._replace(weight_hh=grads.weight_hh[0])
    faults: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("x: expected an array, got float32; x[t:t+1] is one", kernels.step, (w, dot, (h, c), scratch)),
        ("x: expected an array of one dimension or more", kernels.step, (w, np.array(dot), (h, c), scratch)),
        (f"x: {array}(float64, 2d, C); numpy.asc", kernels.step, (w, x[0].astype(float), (h, c), scratch)),
        (f"x: {array}(float32, 2d, A)", kernels.step, (w, x[:, 0], (h, c), scratch)),
        (f"scratch: {array}", kernels.step, (w, x[0], (h, c), scratch.astype(np.float64))),
        (f"scratch: expected {writable}", kernels.step, (w, x[0], (h, c), frozen_scratch)),
        ("scratch: expected an array of one dimension", kernels.step, (w, x[0], (h, c), scratch[None])),
        (f"state: {array}", kernels.step, (w, x[0], (h.T, c.T), scratch)),
        (f"state: expected {writable}", kernels.step, (w, x[0], (frozen, frozen), scratch)),
        ("state: expected an array, got float32", kernels.step, (w, x[0], (dot, dot), scratch)),
        (states, kernels.step, (w, x[0], h, scratch)),
        (states, kernels.step, (w, x[0], (h,), scratch)),
        (states, kernels.step, (w, x[0], (h, c.astype(np.float64)), scratch)),
        (f"{made} Parameters(", kernels.step, (parameters, x[0], (h, c), scratch)),
        (f"{made} LSTM(4, 5, dtype=float32)", kernels.step, (layer, x[0], (h, c), scratch)),
        (f"{made} LSTM(4, 5, dtype=float32)", kernels.scratch_size, (layer,)),
        (f"{made} LSTM(4, 5, dtype=float32)", kernels.tape_size, (layer,)),
        ("steps: expected an integer, got float64", kernels.scratch_size, (w, 2.0)),
        ("x: expected an array, got float32", kernels.sequence, (w, dot, (h, c), y, scratch)),
        ("y: expected an array, got float32; y[t:t+1]", kernels.sequence, (w, x, (h, c), dot, scratch)),
        ("tape: expected an array, got float32", kernels.sequence_forward, (w, x, (h, c), y, dot, scratch)),
        ("tape: expected an array of one", kernels.step_forward, (w, x[0], (h, c), tape[None], scratch)),
        ("dy: expected an array", kernels.sequence_backward, (w, x, tape, dot, (h, c), dx, grads, scratch)),
        ("dx: expected an array", kernels.step_backward, (w, x[0], tape, (h, c), dot, grads, scratch)),
        ("dstate: expected a tuple", kernels.step_backward, (w, x[0], tape, h, dx[0], grads, scratch)),
        ("grads: expected Parameters", kernels.step_backward, (w, x[0], tape, (h, c), dx[0], tape, scratch)),
        ("grads.weight_hh: expected an array of dimension 2", kernels.step_backward,
         (w, x[0], tape, (h, c), dx[0], thin, scratch)),
        ("packed: expected what kernels.pack(", kernels.repack, (case.plain, parameters)),
        ("parameters: expected Parameters", kernels.repack, (w, tape)),
        ("like: expected Parameters", kernels.parameter_count, (w,)),
    ]  # fmt: skip

    def compiled(function: Any) -> Any:
        return njit(lambda arguments: function(*arguments))

    for message, function, arguments in faults:
        with pytest.raises(numba.TypingError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(message)
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(numba.TypingError) as caught:
            compiled(function)(arguments)
        assert str(caught.value).splitlines()[1].startswith(message)


def test_a_layer_is_named_where_it_is_no_argument() -> None:
    @njit
    def ignores(anything):
        return 0

    for given, name in ((ln.GRU(2, 3), "GRU(2, 3"), (ln.Stream(ln.GRU(2, 3)), "Stream(GRU(2, 3")):
        with pytest.raises(numba.TypingError, match=r"cannot be an argument of compiled code") as caught:
            ignores(given)
        assert name in str(caught.value)


def test_refuses_to_make_weights_of_other_things() -> None:
    rnn = ln.LSTM(3, 5, seed=0)
    good = kernels.plain(rnn).parameters

    def changed(**arrays: Any) -> Any:
        return lambda: kernels.plain(rnn.cell, good._replace(**arrays))

    flat, both = np.zeros((3, 20), np.float32), ln.LSTM(3, 5, bidirectional=True)
    anything: Any = good
    cstep: Any = kernels.CStep
    faults: list[tuple[type[Exception], str, Any]] = [
        (TypeError, "parameters: expected none", lambda: kernels.plain(rnn, good)),
        (TypeError, "parameters: expected Parameters", lambda: kernels.plain(rnn.cell)),
        (TypeError, "source: expected a recurrent layer, or a cell", lambda: kernels.plain(flat)),
        (TypeError, "source: .* got class LSTM", lambda: kernels.plain(ln.LSTM)),
        (ValueError, "layer, direction: expected below 1 and 1", lambda: kernels.plain(rnn, layer=1)),
        (TypeError, "weight_hh: expected an array of float32", changed(weight_hh=np.zeros((20, 5), int))),
        (TypeError, "weight_ih: expected a C-contiguous array of float32", changed(weight_ih=flat.T)),
        (TypeError, "weight_ih: expected a C-contiguous", changed(weight_ih=np.zeros((20, 3)))),
        (ValueError, "bias_ih", changed(bias_ih=good.bias_ih[None])),
        (ValueError, "weight_ih", changed(weight_ih=good.weight_ih[:4])),
        (TypeError, "weights: expected Plain", lambda: kernels.pack(anything)),
        (TypeError, "rnn: expected a recurrent layer", lambda: kernels.CStep(anything)),
        (ValueError, "rnn: expected one direction", lambda: kernels.CStep(both)),
        (ValueError, "batch: expected an integer >= 1", lambda: kernels.CStep(rnn, 0)),
        (TypeError, "batch: expected an integer, got float", lambda: cstep(rnn, 1.5)),
    ]
    for error, message, call in faults:
        with pytest.raises(error, match=message):
            call()


def test_c_step_refuses_pointers_to_other_numbers() -> None:
    step = kernels.CStep(ln.GRU(2, 3, seed=0))
    cell, zero, pointer = step.cell, step.zero, types.CPointer(types.float64)
    for message, handle in (
        ("x: expected a pointer to float32, got float64*", types.voidptr),
        ("handle: expected a pointer or its address, CStep.handle.value, got float64", types.float64),
    ):
        with pytest.raises(numba.TypingError) as caught:

            @cfunc(types.void(handle, pointer, types.CPointer(types.float32)))
            def run(handle, x, y):
                kernels.c_step(cell, zero, handle, x, carray(y, 3), y)

        assert message in str(caught.value).splitlines()
