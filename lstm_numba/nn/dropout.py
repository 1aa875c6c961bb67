"""Dropout of a layer's input: a new mask for each element, or one for all time steps of a sequence.

The latter is called variational or locked dropout: Y. Gal, Z. Ghahramani, "A theoretically grounded
application of dropout in recurrent neural networks", NIPS 2016; S. Merity, N. S. Keskar, R. Socher,
"Regularizing and optimizing LSTM language models", ICLR 2018. Both scale what is kept by 1 / (1 - p).
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.base import Array, Engine
from lstm_numba.nn.many import Generators

#: Kinds of dropout on connections that are not recurrent.
KINDS = ("element", "sequence")


def check_kind(kind: Any) -> str:
    """Return a kind of dropout, or raise ValueError where there is no such one."""
    if kind not in KINDS:
        raise ValueError(f"dropout_kind: expected {' or '.join(KINDS)}, got {kind!r}")
    return str(kind)


def dropout(
    engine: Engine,
    rng: Generators,
    x: Array,
    p: float,
    kind: str = "element",
    out: Array | None = None,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Draw a mask and multiply with it, of each of many models by its own generator.

    Parameters
    ----------
    engine : Engine
    rng : Generator or list of Generator
    x : Array (T, B, H), or (B, H), or any shape of kind "element"; with a leading axis of many models
    p : float
        Probability of dropping.
    kind : {"element", "sequence"}
        "sequence" draws (B, H) numbers, the same ones at every step.
    out, mask : Array, optional
        Get product and mask, of the shape of x; `out` may be `x`.

    Returns
    -------
    out, mask : Array
    """
    if not isinstance(rng, list):
        draw = _one_for_all_steps if kind == "sequence" and x.ndim == 3 else _one_for_each
        return draw(engine, rng, x, p, out, mask)
    out = engine.empty(x.shape, x.dtype) if out is None else out
    mask = engine.empty(x.shape, x.dtype) if mask is None else mask
    for n, one in enumerate(rng):
        dropout(engine, one, engine.contiguous(x[n]), p, kind, out[n], mask[n])
    return out, mask


def _one_for_each(
    engine: Engine, rng: Any, x: Array, p: float, out: Array | None, mask: Array | None
) -> tuple[Array, Array]:
    return engine.dropout(rng, x, p, out, mask)


def _one_for_all_steps(
    engine: Engine, rng: Any, x: Array, p: float, out: Array | None, mask: Array | None
) -> tuple[Array, Array]:
    steps, batch, width = x.shape
    drawn = engine.mask(rng, (1, batch, width), p, x.dtype, 1.0 / (1.0 - p))
    mask = engine.empty(x.shape, x.dtype) if mask is None else mask
    done = min(steps, 1)
    engine.assign(mask[:done], drawn[:done])
    while done < steps:  # doubling takes few copies, each of which is a launch on a GPU
        last = min(steps, 2 * done)
        engine.assign(mask[done:last], mask[: last - done])
        done = last
    return engine.multiply(x, mask, out), mask
