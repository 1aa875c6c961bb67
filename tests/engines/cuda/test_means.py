"""Cells with means over a row's units, against the CPU engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import simulated
from engine_problems import LENGTHS, EngineProblem, compare_devices, with_everything

from lstm_numba.cells import Phase, Product, find_cell, tanh
from lstm_numba.cells.registration import make_cell
from lstm_numba.engines.cuda import plans
from lstm_numba.engines.cuda.layout import CooperativeGrid, SingleBlock


class ThreeGroups:
    """Means of means: of the pre-activations, of what is left of them, and of the new state's squares."""

    states = ("h", "c")
    vectors = ("p",)
    means = ("level", "spread", "energy")

    def first(self, z: Any, v: Any) -> dict[str, Any]:
        """The mean of the pre-activations."""
        return {"level": z.g + v.p * v.c}

    def second(self, z: Any, v: Any) -> dict[str, Any]:
        """The mean of their squares without that."""
        return {"spread": (z.g - v.level) * (z.g - v.level)}

    def third(self, z: Any, v: Any) -> dict[str, Any]:
        """The new state, and the mean of its squares."""
        c = 0.5 * v.c + tanh((z.g - v.level) / (1 + v.spread))
        return {"c": c, "energy": c * c}

    def last(self, z: Any, v: Any) -> dict[str, Any]:
        """The output."""
        return {"h": tanh(v.c / (1 + v.energy) + v.p)}

    phases = (
        Phase((Product("weight_ih", "x", ("g",)), Product("weight_hh", "h", ("g",))), first),
        Phase((), second),
        Phase((), third),
        Phase((), last),
    )


CELLS = {
    "layer-norm-lstm": with_everything("layer-norm-lstm"),
    "layer-norm-gru": find_cell("layer-norm-gru"),
    "three groups": make_cell(ThreeGroups),
}


@pytest.mark.parametrize(
    ("mode", "reverse", "lengths"),
    [(SingleBlock, False, LENGTHS), (SingleBlock, True, None), (CooperativeGrid, True, LENGTHS)],
)
@pytest.mark.parametrize("name", ["three groups"] if simulated() else CELLS)
def test_sequences(
    name: str, mode: type, reverse: bool, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FORCED_MODE", mode)
    compare_devices(EngineProblem(CELLS[name], lengths, reverse))


def test_both_modes_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for mode in (SingleBlock, CooperativeGrid):
        monkeypatch.setattr(plans, "FORCED_MODE", mode)
        results.append(EngineProblem(CELLS["layer-norm-gru"], dtype=np.float32).run("cuda"))
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)
