"""Sequences out of a user's own tables, and what can be said of them: the types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.series_columns import Columns
from lstm_numba.data.tables import Array, Table

TASKS = ("forecast", "regress", "classify")
SPLITS = ("time", "group", "random")
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class SeriesOptions:
    """What a user can say of tables; None and () leave it to be guessed.

    Attributes
    ----------
    target, features : tuple of str
        Columns to predict, and to predict from; by default all other columns of numbers.
    time, group : str, optional
        The column that orders the rows, and the one that says which sequence a row belongs to.
    task : {"forecast", "regress", "classify"}, optional
    window : int, optional
        Steps that a prediction is made from; None where whole groups are classified or regressed.
    horizon : int, optional
        Steps to forecast.
    stride : int
        Steps between the beginnings of two windows.
    split : {"time", "group", "random"}, optional
        See `lstm_numba.data.series_split.split`.
    validation, test : float
        Shares of the data.
    seed : int
        Of the order in which groups are dealt out.
    only : str, optional
        Name of the one sequence that is read, as if there were no others.
    """

    target: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    task: str | None = None
    window: int | None = None
    horizon: int | None = None
    stride: int = 1
    split: str | None = None
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    only: str | None = None


class Sequence(NamedTuple):
    """A sequence, or a piece of one.

    Attributes
    ----------
    name : str
        The group's, or the file's.
    file : str
    time : ndarray (T,), float64 or datetime64[ns], optional
    x : ndarray (T, F), float64
        NaN where missing.
    y : ndarray (T, M), float64
        Targets, or the class's number (M = 1); NaN where missing.
    rows : ndarray (T,), int64
        Where each step stands in the file.
    """

    name: str
    file: str
    time: Array | None
    x: Array
    y: Array
    rows: npt.NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Its length T."""
        return len(self.x)

    def part(self, first: int, last: int | None) -> Sequence:
        """The steps from `first` to before `last`."""
        cut = slice(first, last)
        time = None if self.time is None else self.time[cut]
        return self._replace(time=time, x=self.x[cut], y=self.y[cut], rows=self.rows[cut])


class Targets(NamedTuple):
    """The targets of all sequences.

    Attributes
    ----------
    task : {"forecast", "regress", "classify"}
    names : tuple of str
        The columns.
    classes : tuple of str
        Names of the classes, sorted; empty for numbers.
    one_each : bool
        The target is constant within every sequence.
    values : list of ndarray (T, M), float64
        One for each sequence: numbers, or the class's index; NaN where missing. Of a target that is constant
        within its sequence no step is missing unless all are.
    """

    task: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    one_each: bool
    values: list[Array]


@dataclass(frozen=True, eq=False)
class SeriesData:
    """Sequences, and what is to be predicted of them.

    Attributes
    ----------
    options : SeriesOptions
        Settled: task, split and, where there are windows, window and horizon.
    columns : Columns
    features : tuple of str
        The columns of ``x``; for forecasts the targets are among them.
    targets : Targets
    sequences : tuple of Sequence
    parts : dict of list of Sequence
        Pieces by ``train``, ``valid`` and ``test``.
    guesses : tuple of str
        What was guessed, left out or filled, a line each.
    """

    options: SeriesOptions
    columns: Columns
    features: tuple[str, ...]
    targets: Targets
    sequences: tuple[Sequence, ...]
    parts: Mapping[str, list[Sequence]] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """What is done with the targets."""
        assert self.options.task is not None
        return self.options.task

    @property
    def per_step(self) -> bool:
        """Whether there is a target at every step of a sequence that is read as a whole."""
        return self.task == "regress" and self.options.window is None and not self.targets.one_each

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, of a classification."""
        return self.targets.classes


class Raw(NamedTuple):
    """Rows of a table that are a sequence, in the order of time."""

    name: str
    table: Table
    places: npt.NDArray[np.int64]
    time: Array | None
    backwards: bool

    def column(self, name: str) -> Array:
        """A column's values."""
        return self.table.columns[name][self.places]
