"""Numbers that say what gates did: how often they were open or closed, how long units remember, surprise.

A. Karpathy, J. Johnson, L. Fei-Fei, "Visualizing and understanding recurrent networks", arXiv:1506.02078,
2015, section 4.2: a gate is left-saturated at a step where it is below 0.1, right-saturated where it is
above 0.9.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: Below and above these values a gate is saturated.
LEFT, RIGHT = 0.1, 0.9


class Shares(NamedTuple):
    """Shares of the steps, 0 to 1, at which each unit's gate is saturated.

    Attributes
    ----------
    left, right : ndarray (H,), float64
        Below `LEFT`: closed; above `RIGHT`: open. NaN where there are no steps.
    """

    left: Array
    right: Array


def steps_of(values: Array, lengths: Array | None = None) -> Array:
    """All steps of all sequences in a row, (N, H), without what is beyond a sequence's end.

    Parameters
    ----------
    values : ndarray (T, B, H)
    lengths : ndarray (B,), int, optional
        Steps of each sequence; T by default.
    """
    steps, batch, units = values.shape
    if lengths is None:
        return values.reshape(steps * batch, units)
    inside = np.arange(steps)[:, None] < np.asarray(lengths)
    found: Array = values[inside]
    return found


def shares(values: Array, lengths: Array | None = None) -> Shares:
    """How often a gate is closed, and how often it is open, for each unit.

    Parameters
    ----------
    values : ndarray (T, B, H)
        The gate after its activation.
    lengths : ndarray (B,), int, optional
    """
    rows = steps_of(values, lengths)
    if not len(rows):
        nothing = np.full(values.shape[2], np.nan)
        return Shares(nothing, nothing.copy())
    return Shares((rows < LEFT).mean(axis=0), (rows > RIGHT).mean(axis=0))


def time_constants(
    values: Array, lengths: Array | None = None, *, inverted: bool = False, zoneout: float = 0.0
) -> Array:
    """Steps after which a fraction 1/e of what a unit remembers is left: -1 / log(mean share that is kept).

    Parameters
    ----------
    values : ndarray (T, B, H)
        The gate that decides what is kept, after its activation.
    lengths : ndarray (B,), int, optional
    inverted : bool
        What is kept is one minus the gate.
    zoneout : float
        Probability that a step leaves the state as it is.

    Returns
    -------
    ndarray (H,), float64
        0 where nothing is ever kept, infinite where all always is, NaN where there are no steps.
    """
    rows = steps_of(values, lengths)
    if not len(rows):
        return np.full(values.shape[2], np.nan)
    mean = rows.mean(axis=0, dtype=np.float64)
    mean = 1 - mean if inverted else mean
    mean = zoneout + (1 - zoneout) * np.clip(mean, 0, 1)
    with np.errstate(divide="ignore"):
        return -1 / np.where(mean == 1, -0.0, np.log(mean))


def longest_first(constants: Array) -> npt.NDArray[np.int64]:
    """The units in the order of their time constants; of equal ones the first comes first."""
    order: npt.NDArray[np.int64] = np.argsort(-np.nan_to_num(constants, nan=-1.0), kind="stable")
    return order


def log_probabilities(logits: Array) -> Array:
    """Natural logarithms of the softmax of the last axis, in float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def surprises(logits: Array, targets: Array) -> Array:
    """How unexpected each token was, in bits: -log2 of its probability.

    Parameters
    ----------
    logits : ndarray (N, V)
        Before each token.
    targets : ndarray (N,), int
        The tokens.

    Returns
    -------
    ndarray (N,), float64
    """
    logs = log_probabilities(logits)
    found: Array = -logs[np.arange(len(logs)), targets] / np.log(2)
    return found + 0.0  # no negative zeros


class Likeliest(NamedTuple):
    """The likeliest tokens at each step, the likeliest first.

    Attributes
    ----------
    tokens : ndarray (N, K), int
    probabilities : ndarray (N, K), float64
    """

    tokens: Array
    probabilities: Array


def likeliest(logits: Array, count: int = 5) -> Likeliest:
    """The `count` likeliest tokens, or all if there are fewer, and their probabilities.

    Parameters
    ----------
    logits : ndarray (N, V)
    count : int
    """
    logs = log_probabilities(logits)
    order = np.argsort(-logs, axis=-1, kind="stable")[:, :count]
    return Likeliest(order, np.exp(np.take_along_axis(logs, order, axis=-1)))
