"""
A guitar amplifier, played in blocks
====================================

An LSTM with a skip connection learns what an amplifier makes of a signal.
Source: ``lstm_numba/examples/amplifier.py``.
"""

import inspect

from lstm_numba.examples import amplifier

print(inspect.getsource(amplifier.main))

# %%
# What it prints:

amplifier.main()
