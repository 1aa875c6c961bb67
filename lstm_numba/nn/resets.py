"""Resets inside a sequence: which steps a state goes on to, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import refuse_mask
from lstm_numba.cells.wrappers import RESETS
from lstm_numba.engines import engine

Array = npt.NDArray[Any]


def check_resets(
    resets: Any,
    to: str,
    shape: tuple[int, int],
    lengths: Array | None,
    batch_first: bool,
    lead: tuple[int, ...] = (),
) -> Array | None:
    """Check the arguments of a call.

    Parameters
    ----------
    resets : array_like of bool, shape (T, B), or (B, T) with `batch_first`, or None
    to : str
    shape : tuple of int
        (T, B).
    lengths : ndarray of int, shape (B,), or None
    batch_first : bool
    lead : tuple of int
        The axis of models, which resets may have, too; empty if there is none.

    Returns
    -------
    ndarray of bool, shape (T, B), or (N, T, B) for N models, or None
        False past a sequence's end; None if there is no reset.

    Raises
    ------
    ValueError, TypeError
        A shape, a dtype or `to` does not fit.
    """
    if to not in RESETS:
        raise ValueError(f"reset_to: expected {' or '.join(RESETS)}, got {to!r}")
    if resets is None:
        return None
    if hasattr(resets, "__cuda_array_interface__") or getattr(resets, "__cuda_ndarray__", False):
        resets = engine("cuda").download(engine("cuda").from_user("resets", resets, None))
    refuse_mask("resets", resets)
    found = np.asarray(resets)
    if found.dtype != np.bool_:
        raise TypeError(f"resets: expected booleans, got {found.dtype}")
    expected = shape[::-1] if batch_first else shape
    if found.shape not in (expected, (*lead, *expected)):
        several = f"{(*lead, *expected)} or " if lead else ""
        raise ValueError(f"resets: expected shape {several}{expected}, got {found.shape}")
    found = found.swapaxes(-2, -1) if batch_first else found
    if lengths is not None:
        found = found & (np.arange(shape[0])[:, None] < lengths[..., None, :])
    return found if found.any() else None


def going(resets: Array, reverse: bool, dtype: np.dtype[Any]) -> Array:
    """1 where a step follows another one of the same sequence, 0 where its states are reset; (T, B, 1).

    The boundary before step t is one between t - 1 and t: in the reverse direction, before t - 1.
    """
    if reverse:
        resets = np.concatenate([resets[..., 1:, :], np.zeros_like(resets[..., :1, :])], axis=-2)
    return np.ascontiguousarray(~resets[..., None], dtype)
