"""The CUDA engine: kernels for sequences, products, losses and updates, and the memory they work in.

It may not stand at the top as ``lstm_numba.cuda``: the package ``numba-cuda`` redirects imports of every
module whose full name contains ``numba.cuda``, and never comes to an end with that one.
"""
