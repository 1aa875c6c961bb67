"""
Train a controller inside a simulation
======================================

An LSTM steers a plant; the loss is the plant's cost and the gradient passes through the simulation.
Source: ``lstm_numba/examples/controller.py``.
"""

import inspect

from lstm_numba.examples import controller

print(inspect.getsource(controller.main))

# %%
# What it prints:

controller.main()
