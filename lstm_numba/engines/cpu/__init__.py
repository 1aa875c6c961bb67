"""The CPU engine: packed weights, register-tiled products and the loops over time and batch."""

from numba.core import config

from lstm_numba.errors import UserError

if config.DISABLE_JIT:
    raise UserError("NUMBA_DISABLE_JIT is set, but lstm_numba's kernels run compiled only: unset it")
