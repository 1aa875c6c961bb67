"""Recurrent cells: each file holds one cell's equations, forward and backward, with their source."""

from __future__ import annotations

from typing import Any

from lstm_numba.cells.gru import GRUCell, GRUResetBeforeCell
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.peephole_lstm import PeepholeLSTMCell
from lstm_numba.cells.rnn import ReluRNNCell, RNNCell

#: Every cell by the name that the command line and `lstm_numba.layers.make_layer` know it by.
CELLS: dict[str, Any] = {
    "rnn": RNNCell(),
    "rnn-relu": ReluRNNCell(),
    "lstm": LSTMCell(),
    "peephole": PeepholeLSTMCell(),
    "gru": GRUCell(),
    "gru-reset-before": GRUResetBeforeCell(),
}

__all__ = [
    "CELLS",
    "GRUCell",
    "GRUResetBeforeCell",
    "LSTMCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "ReluRNNCell",
]
