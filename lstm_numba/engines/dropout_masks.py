"""Inverted dropout: kept values are scaled by 1 / (1 - p) in training, so inference needs no change.

N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def check_probability(p: float, name: str = "dropout") -> float:
    """Return `p` as a float, or raise ValueError where it is not in [0, 1)."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {p}")
    return float(p)


def _discard_buffer(rng: np.random.Generator) -> None:
    """Discard the values that a Philox generator has buffered."""
    if isinstance(rng.bit_generator, np.random.Philox):
        rng.bit_generator.advance(0)


def draw_mask(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    p: float,
    dtype: npt.DTypeLike = np.float32,
    out: npt.NDArray[Any] | None = None,
    kept: float | None = None,
) -> npt.NDArray[Any]:
    """Draw a mask to multiply by, such as a dropout mask.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws one float32 per element whatever the dtype: float32 and float64 models drop the same units. With
        `numpy.random.Philox` a mask begins and ends at a counter value, so both engines draw the same masks.
    shape : tuple of int
    p : float
        Probability of dropping, in [0, 1).
    dtype : float32 or float64
    out : ndarray, optional
        Array of that shape and dtype, overwritten with the mask.
    kept : float, optional
        The mask's value where it drops nothing; ``1 / (1 - p)`` by default.

    Returns
    -------
    ndarray
        0 with probability `p`, else `kept`.
    """
    check_probability(p)
    mask = np.empty(shape, dtype) if out is None else out
    _discard_buffer(rng)
    keep = rng.random(shape, dtype=np.float32) >= np.float32(p)
    _discard_buffer(rng)
    np.multiply(keep, mask.dtype.type(1.0 / (1.0 - p) if kept is None else kept), out=mask)
    return mask
