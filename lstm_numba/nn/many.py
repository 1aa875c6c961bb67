"""Many models in one layer: a random generator for each, and what each draws from its own.

A model of a layer draws what a layer of its own would, so that it computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.engines.base import Array, Engine

#: A generator; of a layer of many models a list of one for each.
Generators = Any


def check_models(models: Any) -> int:
    """The number of models, 0 for a layer that is of one and has no axis for them."""
    return 0 if models is None else integer("models", models)


def generators(seed: Any, models: int) -> Generators:
    """The generator of a layer, or those of its models.

    Parameters
    ----------
    seed : int, Generator, None, or sequence of int or Generator
        A sequence has one for each model. Of an integer, model n has that plus n; a generator draws them.
    models : int
        0 for a layer of one.

    Raises
    ------
    ValueError
        There are as many seeds as there are no models.
    """
    if not models:
        return np.random.default_rng(seed)
    return [np.random.default_rng(one) for one in seeds(seed, models)]


def seeds(seed: Any, models: int) -> list[Any]:
    """The seed of each model, see `generators`."""
    if isinstance(seed, (Sequence, np.ndarray)):
        if len(seed) != models:
            raise ValueError(f"seed: expected one, or one for each of {models} models, got {len(seed)}")
        return list(seed)
    if isinstance(seed, np.random.Generator):
        return [int(one) for one in seed.integers(2**63, size=models)]
    return [None if seed is None else seed + n for n in range(models)]


def draw_each(engine: Engine, rng: Generators, draw: Callable[[Any], dict[str, Array]]) -> dict[str, Array]:
    """The arrays that `draw` gives for a generator; for many models with a leading axis of them."""
    if not isinstance(rng, list):
        return draw(rng)
    found: dict[str, Array] = {}
    for n, one in enumerate(rng):
        for name, array in draw(one).items():
            if n == 0:
                found[name] = engine.empty((len(rng), *array.shape), array.dtype)
            engine.assign(found[name][n], array)
    return found


def repeat(engine: Engine, array: Array, models: int) -> Array:
    """As many copies, (N, ...)."""
    array, found = engine.contiguous(array), engine.empty((models, *array.shape), array.dtype)
    for n in range(models):
        engine.assign(found[n], array)
    return found
