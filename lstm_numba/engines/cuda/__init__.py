"""The CUDA engine: kernels for sequences, products, losses and updates, and their device memory.

It cannot be ``lstm_numba.cuda``: the package ``numba-cuda`` redirects imports of every module whose full name
contains ``numba.cuda``, and would not terminate with that one.
"""
