"""Engines compute the cells: one for each device, with the same file names.

`base` is the abstract engine, which layers, models and training call; `cpu` and `cuda` implement it; `lookup`
returns the engine of a device. The other modules are shared by both.
"""

from lstm_numba.engines.lookup import DEVICES, Cuda, engine, engine_of, find_cuda, host_array

__all__ = ["DEVICES", "Cuda", "engine", "engine_of", "find_cuda", "host_array"]
