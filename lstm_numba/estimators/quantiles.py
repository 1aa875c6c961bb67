"""Quantiles of what the losses "quantile" and "gaussian" predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Array = npt.NDArray[Any]


def check_levels(loss: str, learnt: Sequence[float], wanted: Any) -> tuple[float, ...]:
    """The levels of a prediction.

    Raises
    ------
    ValueError
        The loss learns no quantiles, or not these.
    """
    levels = tuple(learnt if wanted is None else wanted)
    if loss not in ("quantile", "gaussian"):
        raise ValueError(f"quantiles: the loss {loss!r} learns none; 'quantile' and 'gaussian' do")
    if loss == "quantile" and levels != tuple(learnt):
        raise ValueError(f"quantiles: the trained levels are {tuple(learnt)}, got {levels}")
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"quantiles: expected numbers between 0 and 1, got {levels}")
    return levels


def quantiles_of(found: Array, loss: str, levels: Sequence[float]) -> Array:
    """Quantiles (..., Q) of predictions (..., P), see `SequenceRegressor.predict`."""
    return found if loss == "quantile" else found[..., :1] + found[..., 1:] * norm.ppf(levels)


def middle(loss: str, levels: Sequence[float]) -> int:
    """Which of the numbers that predict a target stands for it: the median, or the mean."""
    return int(np.argmin(np.abs(np.array(levels) - 0.5))) if loss == "quantile" else 0
