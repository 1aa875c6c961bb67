"""Clipping of gradients, for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines import engine_of
from lstm_numba.engines.base import FACTOR, NORM
from lstm_numba.engines.sparse import SparseRows


class Clipped(NamedTuple):
    """Norm of the gradients, and the factor that brings it down to the largest that is wanted."""

    norm: Any
    scale: Any


def clip_norm(grads: Mapping[str, Any], max_norm: float, models: int | None = None) -> Clipped:
    """Clip gradients by their global norm (Pascanu et al. 2013).

    The gradients stay as they are: the factor goes into the update, ``optimizer.step(grads, scale=scale)``,
    which saves a pass over them.

    Parameters
    ----------
    grads : dict of ndarray or SparseRows
        On one device.
    max_norm : float
        Positive.
    models : int, optional
        How many models the gradients have on a leading axis, N: each model's are clipped by their own norm.

    Returns
    -------
    Clipped
        The norm, and the factor, at most 1; NaN if the norm is not finite: then `step` changes nothing. Of
        many models arrays (N,).

    Raises
    ------
    ValueError
        `max_norm` is not positive, there are no gradients, or those of many models on CUDA.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> grads = {"w": np.array([3.0, 4.0])}
    >>> norm, scale = ln.clip_norm(grads, 1.0)
    >>> float(norm), round(float(scale), 6)
    (5.0, 0.2)
    >>> params = {"w": np.zeros(2)}
    >>> ln.SGD(params, lr=1.0).step(grads, scale=scale)
    >>> params["w"].round(6).tolist()
    [-0.6, -0.8]
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, got {max_norm}")
    if not grads:
        raise ValueError("grads: expected at least one gradient, got none")
    first = next(iter(grads.values()))
    engine = engine_of(first.values if isinstance(first, SparseRows) else first)
    if models and engine.name != "cpu":
        raise ValueError(f"models: expected none on {engine.name}, which clips all gradients together")
    totals = engine.upload(np.zeros((*([models] if models else []), 4)))
    engine.clip_by_norm(grads, totals, max_norm)
    found = np.moveaxis(np.array(engine.download(totals)), -1, 0)
    return Clipped(*(found[[NORM, FACTOR]] if models else found[[NORM, FACTOR]].tolist()))


def clip_values(grads: Mapping[str, Any], limit: float) -> None:
    """Clip each number of the gradients to [-limit, limit], in place.

    Parameters
    ----------
    grads : mapping of str to ndarray, SparseRows or device arrays
        Gradients by the names of their parameters.
    limit : float
        Largest absolute value.

    Raises
    ------
    ValueError
        `limit` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> grads = {"w": np.array([3.0, -0.5])}
    >>> ln.clip_values(grads, 1.0)
    >>> grads["w"].tolist()
    [1.0, -0.5]
    """
    if not limit > 0:
        raise ValueError(f"limit: expected a positive number, got {limit}")
    for first in grads.values():
        engine_of(first.values if isinstance(first, SparseRows) else first).clip_by_value(grads, limit)
        return
