"""Reads what users give: arrays of 2 or 3 dimensions, lists of arrays, missing steps; features ahead."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_array, validate_data

from lstm_numba.data.sequences import Sequences

Array = npt.NDArray[Any]

_NUMBERS = [np.float64, np.float32]
#: Of a pandas object whose rows are times.
_TIME_INDEXES = ("DatetimeIndex", "PeriodIndex", "TimedeltaIndex")


class Given(NamedTuple):
    """Sequences as a user gave them.

    Attributes
    ----------
    sequences : Sequences
        Without the steps that are missing; NaN where a step lacks some of its numbers.
    known : ndarray (R,), bool
        Which of the steps given are there.
    lengths : ndarray (N,)
        Steps given of each sequence.
    ragged : bool
        A list was given.
    dtype : dtype
        float32 if all numbers were, else float64.
    """

    sequences: Sequences
    known: Array
    lengths: Array
    ragged: bool
    dtype: np.dtype[Any]

    def split(self) -> list[Array]:
        """The sequences, (T_i, F) each."""
        return np.split(self.sequences.rows, np.cumsum(self.sequences.lengths)[:-1])

    def spread(self, rows: Array) -> Any:
        """Rows of the steps that are there, in the form in which X was given, NaN for the others.

        Parameters
        ----------
        rows : ndarray (R', ...)

        Returns
        -------
        ndarray (N, T, ...) or list of ndarray (T_i, ...)
        """
        full = np.full((len(self.known), *rows.shape[1:]), np.nan)
        full[self.known] = rows
        if self.ragged:
            return np.split(full, np.cumsum(self.lengths)[:-1])
        return full.reshape(len(self.lengths), -1, *rows.shape[1:])


def dimensions(X: Any) -> int:
    """Dimensions of an array, or of what scikit-learn will make one of."""
    if hasattr(X, "shape"):
        return len(X.shape)
    return np.asarray(X).ndim if hasattr(X, "__array__") else int(np.ndim(X))


def is_ragged(X: Any) -> bool:
    """Whether X is a list of arrays, one a sequence, rather than one array."""
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) >= 1
    if not isinstance(X, (list, tuple)) or not len(X):
        return False
    shapes = {np.shape(x) for x in X if hasattr(x, "__array__")}
    return len(shapes) > 1 or any(len(shape) == 2 for shape in shapes)


def read_sequences(estimator: Any, X: Any, *, reset: bool, whole: bool = False) -> Given:
    """Check X as scikit-learn does, and note or compare its number of features.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` with `reset`.
    X : array_like (N, T), (N, T, F), or list of array_like (T_i,) or (T_i, F)
        Of an array (N, T), the columns are the steps of one feature; there must be as many as there were in
        `fit`, as of every scikit-learn estimator. Of the other forms the number of steps is free.
    reset : bool
        Whether it is `fit` that calls.
    whole : bool
        Keep the steps that are missing.

    Raises
    ------
    ValueError, TypeError
        Other shapes, infinite numbers, another number of features than in `fit`, or a sequence without any
        step.
    """
    if is_ragged(X):
        arrays = [_ragged(n, x) for n, x in enumerate(X)]
        dtype = np.result_type(*arrays)
        given, ragged = Sequences.join(arrays), True
        _check_width(estimator, X, given.rows.shape[1], reset)
    else:
        array, ragged = _array(estimator, X, reset), False
        dtype, given = array.dtype, Sequences.of_equal_length(array)
    sequences, known = given.without_missing_steps()
    if whole:
        return Given(given, np.ones(len(given.rows), np.bool_), given.lengths, ragged, np.dtype(dtype))
    empty = np.flatnonzero(sequences.lengths == 0)
    if len(empty):
        raise ValueError(f"X[{empty[0]}]: expected at least one step with a number, got none")
    return Given(sequences, known, given.lengths, ragged, np.dtype(dtype))


def _array(estimator: Any, X: Any, reset: bool) -> Array:
    """An array (N, T, F)."""
    # Its own conversion, since `validate_data` counts the features of three dimensions along the steps.
    if dimensions(X) != 3:
        free = not reset and getattr(estimator, "_free_steps", False)
        options: dict[str, Any] = {"dtype": _NUMBERS, "ensure_all_finite": "allow-nan"}
        if free and estimator.n_features_in_ == 1:
            found = check_array(X, estimator=estimator, **options)
        else:
            found = validate_data(estimator, X, reset=reset, **options)
        if reset:
            estimator._free_steps = False
        return np.asarray(found)[:, :, None]
    array = check_array(X, allow_nd=True, dtype=_NUMBERS, ensure_all_finite="allow-nan", estimator=estimator)
    if 0 in array.shape:
        raise ValueError(f"X: expected at least one step and feature, got shape {array.shape}")
    _check_width(estimator, X, array.shape[2], reset)
    return array


def _ragged(n: int, x: Any) -> Array:
    """One of several sequences, (T, F)."""
    array = np.asarray(x)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise ValueError(f"X[{n}]: expected shape (T, F) or (T,), got {np.shape(x)}")
    if 0 in array.shape:
        raise ValueError(f"X[{n}]: expected at least one step and feature, got shape {np.shape(x)}")
    found = check_array(array, dtype=_NUMBERS, ensure_all_finite="allow-nan", input_name=f"X[{n}]")
    return np.asarray(found)


def _check_width(estimator: Any, X: Any, features: int, reset: bool) -> None:
    """Note the number of features, or compare it."""
    if reset:
        estimator.n_features_in_, estimator._free_steps = features, True
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    expected = estimator.n_features_in_ if estimator._free_steps else 1
    if features != expected:
        raise ValueError(
            f"X has {features} features, but {type(estimator).__name__} is expecting {expected} features "
            "as input"
        )


def read_series(estimator: Any, y: Any, *, reset: bool) -> tuple[list[Array], str]:
    """Series (T_i, M), and the form in which they were given: "1d", "2d", "3d", "list1d" or "list".

    Parameters
    ----------
    estimator, reset
        See `read_sequences`.
    y : array_like (T,), (N, T), (N, T, M), or list of array_like (T_i,) or (T_i, M)

    Raises
    ------
    ValueError, TypeError
        See `read_sequences`; or a table whose rows are times.
    """
    if hasattr(y, "iloc") and hasattr(y, "columns") and type(y.index).__name__ in _TIME_INDEXES:
        raise ValueError(
            "y: the rows of this DataFrame are times, but a row would be read as a series; give one of "
            "its columns, or y.to_numpy()[None] for one series of several numbers per step"
        )
    form = "list" if is_ragged(y) else f"{dimensions(y)}d"
    if form == "1d" and not reset and not estimator._free_steps:
        raise ValueError("y: expected series (N, T) as in fit, got a 1D array. Reshape your data: y[None]")
    if form == "1d":
        column = check_array(np.reshape(y, (-1, 1)), ensure_all_finite="allow-nan", input_name="y")
        y = column[None]
    elif form == "list" and np.ndim(y[0]) == 1:
        form = "list1d"
    return read_sequences(estimator, y, reset=reset, whole=True).split(), form


def read_known(X: Any, steps: list[int], wanted: int | None) -> list[Array]:
    """Features of series that are known in advance, (T_i, F) float64 each; F = 0 without any.

    Parameters
    ----------
    X : array_like (T,) or (T, F), (N, T, F), list of array_like, or None
    steps : list of int
        That each of the series needs.
    wanted : int, optional
        Features; by default as many as there are.

    Raises
    ------
    ValueError
        X does not fit, or its numbers are not finite.
    """
    if X is None:
        if wanted:
            raise ValueError(f"X: expected {wanted} features that are known in advance, as in fit, got None")
        return [np.empty((count, 0)) for count in steps]
    if len(steps) == 1 and not is_ragged(X) and np.ndim(X) < 3:
        X = [X]
    if len(X) != len(steps):
        raise ValueError(f"X: expected features of {len(steps)} series, got {len(X)}")
    found = [np.asarray(x, np.float64) for x in X]
    found = [x[:, None] if x.ndim == 1 else x for x in found]
    for n, (x, count) in enumerate(zip(found, steps, strict=True)):
        if x.ndim != 2 or len(x) < count or (wanted is not None and x.shape[1] != wanted):
            raise ValueError(
                f"X[{n}]: expected {count} steps of {wanted or 'F'} features, got shape {x.shape}"
            )
        if not np.all(np.isfinite(x)):
            raise ValueError(f"X[{n}]: expected finite numbers, got NaN or infinity")
    if len({x.shape[1] for x in found}) > 1:
        raise ValueError("X: expected as many features of each series")
    return found


def ahead_of(known: Array, steps: int, horizon: int) -> Array:
    """The features of the `horizon` steps after each of so many, (T, H * F); NaN where unknown."""
    features = known.shape[1]
    if not features:
        return np.empty((steps, 0))
    padded = np.vstack([known, np.full((horizon + max(steps - len(known), 0), features), np.nan)])
    return np.hstack([padded[k : k + steps] for k in range(1, horizon + 1)])
