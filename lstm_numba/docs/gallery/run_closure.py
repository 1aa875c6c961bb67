"""
A force that is not in the equations
====================================

A GRU inside a differential equation stands for a force that depends on what was before.
Source: ``lstm_numba/examples/closure.py``.
"""

import inspect

from lstm_numba.examples import closure

print(inspect.getsource(closure.main))

# %%
# What it prints:

closure.main()
