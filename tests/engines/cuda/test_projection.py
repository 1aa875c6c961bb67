"""Cells whose second product has weights of its own, projected or not, against the CPU engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_cells
import pytest
from backends import simulated
from engine_problems import LENGTHS, EngineProblem, compare_devices, with_everything
from tolerances import assert_close

from lstm_numba.cells import Phase, Product, find_cell, sigmoid, tanh
from lstm_numba.cells.registration import make_cell
from lstm_numba.engines.cuda import plans
from lstm_numba.engines.cuda.layout import CooperativeGrid, SingleBlock


class OwnWeights:
    """A second product of two slots, whose weights are not ``weight_hh``."""

    states = ("h", "c")

    def first(self, z: Any, v: Any) -> dict[str, Any]:
        """The new cell state, and the operand."""
        c = sigmoid(z.f) * v.c + tanh(z.g)
        return {"c": c, "m": tanh(c)}

    def second(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": sigmoid(z.o) * tanh(z.u)}

    phases = (
        Phase((Product("weight_ih", "x", ("f", "g")), Product("weight_hh", "h", ("f", "g"))), first),
        Phase((Product("weight_mh", "m", ("o", "u")),), second),
    )


CELLS = {
    "lstm-projected": find_cell("lstm-projected"),
    "wrapped": with_everything("lstm-projected"),
    "own weights": make_cell(OwnWeights),
}


@pytest.mark.parametrize(
    ("mode", "reverse", "lengths"),
    [(SingleBlock, False, LENGTHS), (SingleBlock, True, None), (CooperativeGrid, True, LENGTHS)],
)
@pytest.mark.parametrize("name", ["wrapped"] if simulated() else CELLS)
def test_sequences(
    name: str, mode: type, reverse: bool, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FORCED_MODE", mode)
    output = 5 if name == "own weights" else 2
    compare_devices(EngineProblem(CELLS[name], lengths, reverse, int(reverse), output))


def test_h_has_no_gradient_beyond_its_units() -> None:
    problem = EngineProblem(make_cell(own_cells.HAndCTogether), output=2)
    direction = np.random.default_rng(0).standard_normal(problem.x.shape)
    expected = np.vdot(problem.run("cuda")["backward: x"], direction)
    x, losses = problem.x, []
    for step in (1e-5, -1e-5):
        problem.x = x + step * direction
        found = problem.run("cuda")
        finals = [found[f"forward: final state {n}, keep=True"] for n in range(2)]
        pairs = zip([found["forward: y, keep=True"], *finals], [problem.dy, *problem.dstates], strict=True)
        losses.append(sum(np.vdot(a, b) for a, b in pairs))
    assert_close(expected, (losses[0] - losses[1]) / 2e-5, "central differences")
