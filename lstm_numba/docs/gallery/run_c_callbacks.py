"""
A cell inside SciPy's compiled code
===================================

SciPy calls a GRU's step as a C function for every line of an array.
Source: ``lstm_numba/examples/c_callbacks.py``.
"""

import inspect

from lstm_numba.examples import c_callbacks

print(inspect.getsource(c_callbacks.main))

# %%
# What it prints:

c_callbacks.main()
