"""
A custom cell
=============

A class with gates, states and the equations of one hidden unit becomes a layer; its backward pass is derived.
"""

import inspect

import matplotlib.pyplot as plt
import numpy as np

import lstm_numba as ln
from lstm_numba.examples import janet

print(inspect.getsource(janet))

# %%
# The equations that run, forward and backward, and a check of the derivative.

print(ln.show_cell(janet.JANET))
print(ln.check_gradients(janet.JANET))

# %%
# The layer is used like any other.

rnn = janet.JANET(1, 8, seed=0)
y, _ = rnn(np.sin(np.arange(60, dtype=np.float32) / 5)[:, None, None])
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(y[:, 0])
axes.set(xlabel="step", ylabel="h")
