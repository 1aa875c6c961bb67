"""The options of the layers as type checkers read them; `Recurrent` says what they are, and their defaults.

A signature with ``**options`` shows a type checker nothing else: a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np


class LayerOptions(TypedDict, total=False):
    """Options of `Recurrent`."""

    bias: bool
    batch_first: bool
    dropout: float
    dropout_kind: str
    weight_drop: float
    zoneout: float | tuple[float, ...]
    recurrent_dropout: float
    recurrent_dropout_kind: str
    bidirectional: bool
    proj_size: int
    heads: int
    dtype: Any
    device: str
    seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None
    init: str
    models: int | None


class AnyLayerOptions(LayerOptions, total=False):
    """Options of any layer: those of a `ClockworkRNN` too."""

    periods: Sequence[int]
