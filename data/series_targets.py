"""What is to be predicted of sequences: numbers or classes, one a sequence or one a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.series_columns import Columns, is_number
from lstm_numba.data.series_types import Raw, Targets
from lstm_numba.data.tables import Array, texts_of
from lstm_numba.errors import DataError

#: Most whole numbers that are taken for classes.
_MOST_CLASSES = 20


def read_targets(
    found: Sequence[Raw],
    columns: Columns,
    task: str | None,
    window: int | None,
    horizon: int | None,
    has_groups: bool,
    guesses: list[str],
    classes: tuple[str, ...] | None = None,
) -> Targets:
    """Read the targets, and tell from them what the task is.

    Parameters
    ----------
    found : sequence of Raw
    columns : Columns
    task, window, horizon
        The options.
    has_groups : bool
        Whether there are several sequences, or a column that names them.
    guesses : list of str
        What is guessed is added.
    classes : tuple of str, optional
        Those that a model knows.

    Raises
    ------
    DataError
        The task cannot be told, or the targets do not fit it; the text names file, row, and values.
    """
    names = columns.targets
    texts = [name for name in names if not is_number(found[0].table.columns[name])]
    one_each = has_groups and all(_constant(raw, name) for raw in found for name in names)
    if task is None:
        task = _guess_task(found, columns, texts, one_each, horizon, guesses)
    if task == "classify":
        if len(names) > 1:
            raise DataError(f"--target: a classification has one, got {len(names)}: {', '.join(names)}")
        if has_groups and window is None and not one_each:
            _refuse_varying(found, names[0])
        return _classes(found, names[0], one_each, classes)
    if texts:
        raw = found[0]
        value = next((v for v in raw.table.columns[texts[0]] if v), "")
        raise fault(
            raw.table.name,
            f"column {texts[0]}: --task {task} needs numbers as targets, got {one_line(repr(value), 60)}",
        )
    values = [np.stack([raw.column(name) for name in names], axis=1) for raw in found]
    if one_each:
        values = [_spread(y) for y in values]
    return Targets(task, names, (), one_each, values)


def _constant(raw: Raw, name: str) -> bool:
    """Whether all values of a column that are there are the same."""
    values = raw.column(name)
    if values.dtype.kind == "O":
        return len(set(values) - {""}) <= 1
    if values.dtype.kind != "f":
        return False
    known = values[~np.isnan(values)]
    return len(known) == 0 or bool(np.all(known == known[0]))


def _spread(y: Array) -> Array:
    """The one value of each column at every step."""
    known = ~np.isnan(y)
    first = np.argmax(known, axis=0)
    return np.broadcast_to(y[first, np.arange(y.shape[1])], y.shape).copy()


def _guess_task(
    found: Sequence[Raw],
    columns: Columns,
    texts: Sequence[str],
    one_each: bool,
    horizon: int | None,
    guesses: list[str],
) -> str:
    shown = ", ".join(columns.targets)
    if texts:
        guesses.append(f"task: classify, as the target {shown} holds text")
        return "classify"
    if one_each:
        values = np.concatenate([raw.column(columns.targets[0]) for raw in found])
        distinct = np.unique(values[~np.isnan(values)])
        few = len(distinct) <= min(_MOST_CLASSES, len(found) // 2) and np.all(distinct == np.rint(distinct))
        if few and len(columns.targets) == 1:
            guesses.append(
                f"task: classify, as the target {shown} is one of {len(distinct)} whole numbers in each group"
            )
            return "classify"
        guesses.append(f"task: regress, as the target {shown} is one number in each group")
        return "regress"
    if columns.time is not None:
        guesses.append(f"task: forecast, as the target {shown} changes with {columns.time}")
        return "forecast"
    if horizon is not None:
        guesses.append("task: forecast, as there is a --horizon")
        return "forecast"
    if not columns.features:
        guesses.append(f"task: forecast, as there is nothing but the target {shown} to predict from")
        return "forecast"
    raise DataError(
        "--task: the data do not say it: forecast predicts the next steps of the target, regress its value "
        "from the other columns, classify which of some values it has"
    )


def _refuse_varying(found: Sequence[Raw], name: str) -> None:
    """Refuse a class that changes within its sequence: the first row where one does."""
    for raw in found:
        texts = texts_of(raw.column(name))
        known = np.flatnonzero(texts != "")
        other = [k for k in known if texts[k] != texts[known[0]]]
        if other:
            values = (one_line(repr(str(texts[k])), 40) for k in (other[0], known[0]))
            row, first = raw.table.rows[raw.places[other[0]]], raw.table.rows[raw.places[known[0]]]
            later, earlier = values
            raise fault(
                raw.table.name,
                f"row {row}, column {name}: the class of {raw.name} is {later}, in row {first} it is "
                f"{earlier}; expected one class for each group, or --window, whose last step has the class",
            )


def _classes(found: Sequence[Raw], name: str, one_each: bool, classes: tuple[str, ...] | None) -> Targets:
    texts = [texts_of(raw.column(name)) for raw in found]
    known = {str(text) for part in texts for text in part} - {""}
    if classes is None:
        classes = tuple(sorted(known, key=_by_number))
        count = len(found) if one_each else sum(map(len, texts))
        if len(classes) > max(2, count // 2):
            shown = one_line(repr(classes[0]), 60)
            raise fault(
                found[0].table.name,
                f"column {name}: expected classes with several examples each, got {len(classes)} different "
                f"values in {count} {'groups' if one_each else 'rows'}, such as {shown}",
            )
        if len(classes) < 2:
            which = "none" if not classes else f"only {one_line(repr(classes[0]), 60)}"
            raise fault(found[0].table.name, f"column {name}: expected two or more classes, got {which}")
    foreign = sorted(known - set(classes))
    if foreign:
        raise fault(
            found[0].table.name,
            f"column {name}: the model knows no class {one_line(repr(foreign[0]), 60)}",
        )
    codes = {text: float(k) for k, text in enumerate(classes)} | {"": np.nan}
    values = [np.array([codes[text] for text in part], np.float64)[:, None] for part in texts]
    return Targets(
        "classify", (name,), classes, one_each, [_spread(y) for y in values] if one_each else values
    )


def _by_number(text: str) -> tuple[float, str]:
    """Sorts numbers by their value, before other texts."""
    try:
        return (float(text), text)
    except ValueError:
        return (np.inf, text)
