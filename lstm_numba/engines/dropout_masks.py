"""Inverted dropout: what is kept is scaled up in training, so that inference needs no change.

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


def _begin_block(rng: np.random.Generator) -> None:
    """Make a Philox generator forget what it has drawn ahead."""
    if isinstance(rng.bit_generator, np.random.Philox):
        rng.bit_generator.advance(0)


def draw_mask(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    p: float,
    dtype: npt.DTypeLike = np.float32,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Draw a dropout mask to multiply with.

    Parameters
    ----------
    rng : numpy.random.Generator
        Gives one float32 a number, whatever the dtype: float32 and float64 models drop the same units. One of
        `numpy.random.Philox` starts and ends with a new value of its counter, as the CUDA engine's masks do:
        both devices draw the same masks.
    shape : tuple of int
    p : float
        Probability of dropping, in [0, 1).
    dtype : float32 or float64
    out : ndarray, optional
        Array of that shape and dtype to write to.

    Returns
    -------
    ndarray
        0 with probability `p`, else ``1 / (1 - p)``.
    """
    check_probability(p)
    mask = np.empty(shape, dtype) if out is None else out
    _begin_block(rng)
    keep = rng.random(shape, dtype=np.float32) >= np.float32(p)
    _begin_block(rng)
    np.multiply(keep, mask.dtype.type(1.0 / (1.0 - p)), out=mask)
    return mask
