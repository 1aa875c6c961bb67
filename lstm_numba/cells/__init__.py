"""Recurrent cells: one file per cell with its equations, forward and backward, and their source.

Also exports what equations are written with: `sigmoid`, `tanh`, `relu`, `positive`, `Stage`.
"""

from lstm_numba.cells.activations import positive, relu, sigmoid, tanh
from lstm_numba.cells.gru import GRUCell, GRUResetBeforeCell
from lstm_numba.cells.lstm import LSTMCell
from lstm_numba.cells.peephole_lstm import PeepholeLSTMCell
from lstm_numba.cells.protocol import Stage, display_name
from lstm_numba.cells.registry import BUILT_IN, CELLS, add_cell, find_cell, load_cell
from lstm_numba.cells.rnn import ReluRNNCell, RNNCell

__all__ = [
    "BUILT_IN",
    "CELLS",
    "GRUCell",
    "GRUResetBeforeCell",
    "LSTMCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "ReluRNNCell",
    "Stage",
    "add_cell",
    "display_name",
    "find_cell",
    "load_cell",
    "positive",
    "relu",
    "sigmoid",
    "tanh",
]
