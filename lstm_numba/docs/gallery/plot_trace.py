"""
Gates and states of a layer
===========================

`lstm_numba.Recurrent.trace` returns every gate and state at every step, here of an LSTM with initial weights
that reads a pulse.
"""

import matplotlib.pyplot as plt
import numpy as np

import lstm_numba as ln

rnn = ln.LSTM(1, 8, seed=0)
x = np.zeros((40, 1, 1), np.float32)  # (T, B, F)
x[5:10] = 3
trace = rnn.trace(x)
print({name: array.shape for name, array in trace.items()})

# %%
# A row per array, a line per hidden unit. What the pulse leaves in the state c fades as the
# forget gate f says.

figure, rows = plt.subplots(4, sharex=True, figsize=(7, 6), layout="constrained")
rows[0].plot(x[:, 0], color="black")
rows[0].set_ylabel("x")
for axes, name in zip(rows[1:], ("f", "c", "h"), strict=True):
    axes.plot(trace[f"{name}_l0"][:, 0])
    axes.set_ylabel(name)
rows[-1].set_xlabel("step")
