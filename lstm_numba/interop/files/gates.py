"""Gates in the order of another library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lstm_numba.interop.files.contents import Array


def reorder_gates(array: Array, order: Sequence[int] | npt.NDArray[np.intp]) -> Array:
    """A parameter with its gates, blocks of rows, in another order: block n is the old block ``order[n]``."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[n] for n in order])
