"""Prints what was derived from a cell's equations."""

from __future__ import annotations

from typing import Any

from lstm_numba.nn.gradient_check import cell_of


def show_cell(cell: Any) -> str:
    """The equations of one hidden unit of a cell, forward and derived backward, as lines to read.

    ``z_f`` is the pre-activation in slot f, ``c_prev`` the previous state c, ``dc`` the gradient of the new
    state c, ``dz_f`` that of the pre-activation; the library adds to the previous states' gradients what
    comes back through the matrix products. Where a cell has a second product, ``doperand`` is the gradient of
    what it multiplies, and ``for_f`` and ``kept_f`` are numbers that one part of the equations leaves to the
    next in the place of slot f.

    Parameters
    ----------
    cell : layer class, layer, Cell or str
        As for `check_gradients`.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        It is none of these.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> "h" in ln.show_cell("lstm")
    True
    """
    return str(cell_of(cell).shown)
