"""What a type checker must accept and refuse in a user's program; `check_wheel.py` runs mypy on it.

mypy complains of an ``ignore`` where there is no error.
"""

from __future__ import annotations

import numpy as np
from typing_extensions import assert_type

import lstm_numba as ln
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.models.base import Model
from lstm_numba.nn.recurrent import Recurrent


class Leaky:
    """A cell of one's own."""

    gates = ("g",)
    states = ("h",)


LeakyRNN = ln.register_cell(Leaky)


assert_type(ln.LSTM(3, 4, num_layers=2, dropout=0.1, proj_size=2, zoneout=(0.1, 0.2)), ln.LSTM)
ln.LSTM(3, 4, dropuot=0.1)  # type: ignore[call-arg]
ln.LSTM(3, 4, dropout="half")  # type: ignore[arg-type]
ln.LSTM(3)  # type: ignore[call-arg]
ln.GRU(3, 4, reset_after=False, init="orthogonal")
ln.GRU(3, 4, reset_afer=False)  # type: ignore[call-arg]
ln.GRU(3, 4, heads="two")  # type: ignore[arg-type]
ln.ClockworkRNN(3, 4, periods=(1, 2))
ln.ClockworkRNN(3, 4, heads=2)  # type: ignore[call-arg]
assert_type(ln.make_layer("clockwork", 3, 4, periods=(1, 2)), Recurrent)
ln.make_layer("lstm", 3, 4, period=(1, 2))  # type: ignore[call-arg]
LeakyRNN(3, 4, bidirectional=True)
LeakyRNN(3, 4, bidirectionl=True)  # type: ignore[call-arg]

model = ln.SequenceClassifier(3, 4, 2, cell="gru", layers=2, zoneout_cell=0.1)
ln.SequenceClassifier(3, 4, 2, layer=2)  # type: ignore[call-arg]
ln.SequenceRegressor(3, 4, 2, loss="quantile", forget_bias="one")  # type: ignore[arg-type]
ln.LanguageModel(3, 4, tie=True, dtype=np.float64)
ln.LanguageModel(3, 4, tied=True)  # type: ignore[call-arg]

assert_type(ln.load_run("runs/digits"), Model)
assert_type(ln.evaluate(model, (np.zeros((1, 2, 3)), [0])).loss, float)
assert_type(ln.Embedding(3, 4).backward(np.zeros(2, int), np.zeros((2, 4))), SparseRows)
