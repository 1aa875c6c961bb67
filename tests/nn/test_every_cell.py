"""Every built-in cell once, in float32: output against the reference, gradients against its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from recurrent_problems import Case, Problem, unpack
from tolerances import assert_close

from lstm_numba import reference
from lstm_numba.cells import BUILT_IN

pytestmark = pytest.mark.smoke


def _reference_loss(problem: Problem, variables: dict[str, np.ndarray]) -> float:
    """The problem's loss by the NumPy reference, in float64."""
    states = [variables[f"state {n}"] for n in range(len(problem.states))]
    params = {name: variables[name] for name in problem.layer.params}
    y, final = reference.run(problem.name, params, variables["x"], states, lengths=problem.case.lengths)
    pairs = [(y, problem.dy), *zip(final, problem.dstates, strict=True)]
    return float(sum(np.vdot(a, np.float64(b)) for a, b in pairs))


@pytest.mark.parametrize("name", [*BUILT_IN, "lstm-projected"])
def test_output_and_gradients_in_float32(name: str) -> None:
    options = {"proj_size": 6} if name == "lstm-projected" else {}
    problem = Problem(name, Case(4, 3, 5, 17, lengths=(4, 1, 3)), np.float32, **options)
    variables = {key: value.astype(np.float64) for key, value in problem.variables().items()}
    params = {key: variables[key] for key in problem.layer.params}
    first = [variables[f"state {n}"] for n in range(len(problem.states))]
    expected, finals = reference.run(name, params, variables["x"], first, lengths=problem.case.lengths)
    y, state, _ = problem.layer.forward(problem.x, problem.pack(problem.states), problem.case.lengths)
    assert_close(y, expected, "forward", "y")
    for got, truth in zip(unpack(state), finals, strict=True):
        assert_close(got, truth, "forward", "state")

    rng = np.random.default_rng(0)
    for key, gradient in problem.gradients().items():
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        # A step may cross a rectifier's kink, where no derivative exists: the closest of several counts.
        slopes = []
        for step in (1e-5, 1e-6, 1e-7) if name == "rnn-relu" else (1e-5,):
            losses = [
                _reference_loss(problem, {**variables, key: variables[key] + sign * step * direction})
                for sign in (1, -1)
            ]
            slopes.append((losses[0] - losses[1]) / (2 * step))
        exact = np.float32(np.vdot(gradient, direction))
        closest = min(slopes, key=lambda slope: abs(slope - exact))
        assert_close([exact], [closest], "backward", f"d{key}", dtype=np.float32)
