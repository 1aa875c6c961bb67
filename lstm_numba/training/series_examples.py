"""Tables that the program makes itself, to try out what it does with a user's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lstm_numba.data import gestures, pendulum
from lstm_numba.data.series import SeriesOptions
from lstm_numba.data.tables import Table
from lstm_numba.training.series_settings import EXAMPLES

_TABLES = {"pendulum": pendulum.table, "gestures": gestures.table}
assert set(_TABLES) == set(EXAMPLES)


def example_table(name: str) -> Table:
    """The table of an example."""
    columns = {}
    for column, values in _TABLES[name]().items():
        columns[column] = values.astype(object if values.dtype.kind == "U" else np.float64)
    return Table(name, columns, np.arange(1, 1 + len(next(iter(columns.values())))))


def example_options(name: str, options: SeriesOptions) -> SeriesOptions:
    """The options, with what makes an example of itself where nothing else was said."""
    if name == "pendulum":
        return options if options.target else replace(options, target=("angle",))
    group = options.group or "gesture"
    return replace(options, target=options.target or ("label",), group=group)
