"""The options of the models as type checkers read them; `Network` says what they are, and their defaults.

A signature with ``**options`` shows a type checker nothing else: a test compares both.
"""

from __future__ import annotations

from typing import TypedDict

import numpy.typing as npt


class NetworkOptions(TypedDict, total=False):
    """Fields of `lstm_numba.models.base.Network` that have a default."""

    cell: str
    layers: int
    dropout: float
    weight_drop: float
    zoneout: float
    zoneout_cell: float | None
    recurrent_dropout: float
    recurrent_dropout_kind: str
    proj_size: int | None
    heads: int
    periods: str | None
    init: str
    init_range: float | None
    forget_bias: float
    dtype: npt.DTypeLike
