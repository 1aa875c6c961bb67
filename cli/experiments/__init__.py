"""The commands of ``lstm-numba experiment``, a module each."""
