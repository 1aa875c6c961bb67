"""The CUDA engine: kernels for sequences, products, losses and updates, and the memory they work in.

The room is not called ``cuda``: the package ``numba-cuda`` redirects imports of every module whose full name
contains ``numba.cuda``, which ``lstm_numba.cuda`` does, and never comes to an end with it.
"""
