"""Kernels called from a user's compiled code: what they refuse."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from kernel_tools import Case

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
    case = Case("lstm", "float32", "packed", (3, 2, 4, 5))
    w, x, scratch = case.weights, case.x, case.room(3).numbers
    h, c = case.copies(case.first)
    frozen, frozen_scratch = h.copy(), scratch.copy()
    frozen.flags.writeable = frozen_scratch.flags.writeable = False
    array = "C-contiguous array of the weights' dtype, float32"
    states = r"state: expected a tuple of 2 arrays of one type \(h, c\)"
    faults: list[tuple[str, tuple[Any, ...]]] = [
        (array, (w, x[0].astype(np.float64), (h, c), scratch)),
        (array, (w, x[:, 0], (h, c), scratch)),
        (array, (w, x[0], (h, c), scratch.astype(np.float64))),
        (array, (w, x[0], (h.T, c.T), scratch)),
        ("expected an array that may be written to", (w, x[0], (frozen, frozen), scratch)),
        ("expected an array that may be written to", (w, x[0], (h, c), frozen_scratch)),
        ("weights: expected what", (case.plain.parameters, x[0], (h, c), scratch)),
        (states, (w, x[0], h, scratch)),
        (states, (w, x[0], (h,), scratch)),
        (states, (w, x[0], (h, c.astype(np.float64)), scratch)),
    ]
    for message, arguments in faults:
        with pytest.raises(numba.TypingError, match=message):
            kernels.step(*arguments)


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
