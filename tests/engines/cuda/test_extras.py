"""Masks and resets in the kernels of sequences, against the CPU engine with the same extras."""

from __future__ import annotations

from typing import Any

import pytest
from backends import simulated
from engine_problems import LENGTHS, EngineProblem, compare_devices, with_everything

from lstm_numba.cells import find_cell
from lstm_numba.cells.wrappers import wrap
from lstm_numba.engines.cuda import plans
from lstm_numba.engines.cuda.layout import CooperativeGrid, SingleBlock

CELLS = {
    "lstm": with_everything("lstm"),
    "gru": with_everything("gru", "zeros"),
    "gru-reset-before": with_everything("gru-reset-before"),
    "peephole": wrap(find_cell("peephole"), zoneout_masks=(False, True), candidate_mask=True),
    "rnn": wrap(find_cell("rnn"), recurrent_mask=True),
}


@pytest.mark.parametrize(
    ("mode", "reverse", "lengths", "first"),
    [
        (SingleBlock, False, LENGTHS, 0),
        (SingleBlock, True, None, 1),
        (CooperativeGrid, True, LENGTHS, 2),
        (CooperativeGrid, False, None, 3),
    ],
)
@pytest.mark.parametrize("name", ["gru-reset-before", "peephole"] if simulated() else CELLS)
def test_sequences(
    name: str, mode: type, reverse: bool, lengths: Any, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FORCED_MODE", mode)
    compare_devices(EngineProblem(CELLS[name], lengths, reverse, first))
