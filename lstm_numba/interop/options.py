"""Options of a layer whose sizes, cell and precision come from weights; `Recurrent` says what they are.

Functions that make a layer from weights show the fields of `Options`, and type checkers read `LayerOptions`,
which names the same: a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np


class Options(NamedTuple):
    """What a caller may choose where weights say the rest, with the defaults."""

    batch_first: bool = False
    dropout: float = 0.0
    dropout_kind: str = "element"
    weight_drop: float = 0.0
    zoneout: float | tuple[float, ...] = 0.0
    recurrent_dropout: float = 0.0
    recurrent_dropout_kind: str = "sequence"
    device: str = "cpu"
    seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None = None


class LayerOptions(TypedDict, total=False):
    """The fields of `Options`, none of which must be given."""

    batch_first: bool
    dropout: float
    dropout_kind: str
    weight_drop: float
    zoneout: float | tuple[float, ...]
    recurrent_dropout: float
    recurrent_dropout_kind: str
    device: str
    seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None
