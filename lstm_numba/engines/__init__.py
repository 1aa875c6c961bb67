"""How and where cells are computed: one engine for each device, with the same file names.

`base` is the abstract engine: what layers, models and training ask of a device. `cpu` and `cuda` implement
it, `lookup` finds the one of a device, and the other modules here are what both share.
"""

from lstm_numba.engines.lookup import DEVICES, Cuda, engine, engine_of, find_cuda, host_array

__all__ = ["DEVICES", "Cuda", "engine", "engine_of", "find_cuda", "host_array"]
