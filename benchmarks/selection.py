"""Settings chosen out of several by their error on validation data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = dict[str, Any]


def grid(**values: Sequence[Any]) -> list[Settings]:
    """All combinations of settings, the last name's values fastest; one empty combination without names."""
    return [dict(zip(values, found, strict=True)) for found in itertools.product(*values.values())]


def choose(
    candidates: Sequence[Settings], error: Callable[[Mapping[str, Any]], tuple[float, ...]]
) -> tuple[Settings, list[dict[str, Any]]]:
    """The settings with the lowest error, the first of equals.

    Parameters
    ----------
    candidates : sequence of dict
        Where there is one only, nothing is computed.
    error : callable
        Of settings; errors are compared as tuples, so that the second number decides between equals.

    Returns
    -------
    tuple
        The settings, and ``{"settings", "error"}`` of each candidate that was tried.
    """
    if len(candidates) == 1:
        return candidates[0], []
    tried: list[dict[str, Any]] = [
        {"settings": settings, "error": error(settings)} for settings in candidates
    ]
    return min(tried, key=lambda entry: entry["error"])["settings"], tried
