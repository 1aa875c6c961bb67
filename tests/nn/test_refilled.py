"""Between forward and backward, callers may write to all arrays that are theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_cells
import pytest
from backends import simulated
from recurrent_problems import Case, Problem, unpack

from lstm_numba.engines import engine_of, host_array
from lstm_numba.nn.layers import CELL_NAMES

_CASE = Case(3, 4, 3, 9, 2)


def _back(problem: Problem, x: Any, states: Any, lengths: Any, change: bool) -> dict[str, np.ndarray]:
    """Gradients; everything that forward was given, and the parameters, overwritten before them or not."""
    layer = problem.layer
    y, _, tape = layer.forward(x, problem.pack(states), lengths)
    if change:
        arrays = [x, *states, *layer.params.values()]
        arrays += [] if isinstance(y, np.ndarray) else [y]  # NumPy's is read-only
        for array in arrays:
            engine_of(array).upload(np.full(array.shape, 7.0, problem.layer.dtype), out=array)
        if lengths is not None:
            lengths[...] = 0
    dx, dstate, grads = layer.backward(tape, problem.dy, problem.pack(problem.dstates))
    found = {"dx": dx, **{f"dstate {n}": d for n, d in enumerate(unpack(dstate))}, **grads}
    return {name: host_array(array) for name, array in found.items()}


@pytest.mark.parametrize("name", CELL_NAMES + own_cells.VARIED[-1:])
@pytest.mark.parametrize("lengths", [None, (3, 0, 2, 1)])
def test_gradients_are_those_of_what_forward_was_given(name: str, lengths: Any, backend: str) -> None:
    if backend == "cuda" and simulated() and name not in ("peephole", own_cells.VARIED[-1]):
        pytest.skip("slow in the simulator")
    for batch_first in (False, True):
        problem = Problem(name, _CASE, np.float64, batch_first=batch_first, device=backend)
        if batch_first:
            problem.x, problem.dy = (array.swapaxes(0, 1).copy() for array in (problem.x, problem.dy))
        ends = None if lengths is None else np.array(lengths)
        expected = _back(problem, problem.x, problem.states, ends, False)
        assert np.abs(expected["weight_ih_l0"]).max() > 0.01
        found = _back(problem, problem.x.copy(), [s.copy() for s in problem.states], ends, True)
        for what, array in found.items():
            np.testing.assert_array_equal(array, expected[what], what)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_view_that_is_contiguous_already_is_copied_too(steps: int) -> None:
    """With `batch_first` and one sequence or one step, turning x is no copy."""
    problem = Problem("lstm", Case(steps, 4 - steps, 3, 9), np.float64, batch_first=True)
    problem.x, problem.dy = (array.swapaxes(0, 1).copy() for array in (problem.x, problem.dy))
    expected = _back(problem, problem.x, problem.states, None, False)
    found = _back(problem, problem.x.copy(), [s.copy() for s in problem.states], None, True)
    for what, array in found.items():
        np.testing.assert_array_equal(array, expected[what], what)


@pytest.mark.gpu
def test_arrays_on_the_device_too(backend: str) -> None:
    if backend != "cuda":
        pytest.skip("of the device alone")
    problem = Problem("lstm", Case(3, 4, 3, 9), np.float64, device=backend)
    upload = problem.layer.engine.upload
    problem.dy, problem.dstates = upload(problem.dy), [upload(d) for d in problem.dstates]
    given = problem.x, problem.states
    found = []
    for change in (False, True):
        x, states = upload(given[0]), [upload(s) for s in given[1]]
        found.append(_back(problem, x, states, None, change))
    for what, array in found[1].items():
        np.testing.assert_array_equal(array, found[0][what], what)


def test_parameters_may_be_replaced_too() -> None:
    problem = Problem("lstm", _CASE, np.float64)
    expected = problem.gradients()
    _, _, tape = problem.layer.forward(problem.x, problem.pack(problem.states))
    problem.layer.params = {name: np.zeros_like(p) for name, p in problem.layer.params.items()}
    dx, _, grads = problem.layer.backward(tape, problem.dy, problem.pack(problem.dstates))
    np.testing.assert_array_equal(dx, expected["x"])
    for name, grad in grads.items():
        np.testing.assert_array_equal(grad, expected[name], name)
