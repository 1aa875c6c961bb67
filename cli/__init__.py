"""The command line of lstm_numba: one module a command, shared options in `options`."""
