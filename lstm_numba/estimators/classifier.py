"""A classifier of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from lstm_numba.data.scaling import Scaler
from lstm_numba.data.sequences import Sequences
from lstm_numba.estimators.base import Array, RecurrentEstimator
from lstm_numba.estimators.documentation import document
from lstm_numba.estimators.ensemble import spread
from lstm_numba.estimators.inputs import Given, read_sequences
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.signatures import explicit
from lstm_numba.training.array_data import SequenceData


@document
class RNNClassifier(ClassifierMixin, RecurrentEstimator):
    """Classifies sequences: recurrent layers, and a softmax on their state after the last step.

    Parameters
    ----------
    {parameters}
    class_weight : dict or "balanced", optional
        Weights of the classes, see scikit-learn's `compute_class_weight`.

    Attributes
    ----------
    classes_ : ndarray (C,)
        The classes, sorted.
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_numba.estimators import RNNClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 20, 1)).cumsum(axis=1)
    >>> y = np.where(X[:, -1, 0] > 0, "up", "down")
    >>> RNNClassifier(hidden_size=8, random_state=0).fit(X, y).predict(X[:3]) == y[:3]
    array([ True,  True,  True])

    Five members say how sure they are:

    >>> ensemble = RNNClassifier(hidden_size=8, n_models=5, random_state=0).fit(X, y)
    >>> probabilities, spread = ensemble.predict_proba(X, return_std=True)
    >>> bool(spread.max() > 10 * np.median(spread))
    True
    """

    @explicit(RecurrentEstimator.__init__)
    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        class_weight: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(cell, hidden_size, num_layers, **options)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNClassifier:
        """Train.

        Parameters
        ----------
        X : array_like (N, T, F), (N, T), or list of array_like (T_i, F)
            See the class.
        y : array_like (N,)
            Classes.
        sample_weight : array_like (N,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            What was given does not fit, or a parameter is out of range.
        """
        goes_on = self._goes_on()
        given, labels = self._read(X, y, reset=True)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y: expected at least two classes, got 1 class, {classes[0]!r}")
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"y: warm_start expects the classes of before, {self.classes_}, got {classes}")
        self.classes_ = classes
        weights = self._weights(given, labels, sample_weight)
        seed = self._begin(goes_on)
        kept, held = np.arange(len(codes)), None
        if self.early_stopping:
            kept, chosen = train_test_split(
                kept, test_size=self.validation_fraction, stratify=codes, random_state=seed
            )
            held = given.sequences.take(chosen), codes[chosen], _of(weights, chosen)
        training = given.sequences.take(kept), codes[kept], _of(weights, kept)
        if not goes_on:
            self._forget()
            self._make(given, training, seed)
        self._train(self._data(*training), None if held is None else self._data(*held), self.max_epochs, seed)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> RNNClassifier:
        """Train for one epoch, going on from what was reached; the first call's data standardise all others.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes : array_like (C,)
            All classes that there will be; needed in the first call.

        Returns
        -------
        self
        """
        first = not hasattr(self, "_model")
        if first and classes is None:
            raise ValueError("classes: expected all classes in the first call of partial_fit")
        if not first and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}")
        given, labels = self._read(X, y, reset=first)
        if first:
            self.classes_ = np.unique(classes)
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y: {unknown[0]!r} is not among the classes, {self.classes_}")
        codes = np.searchsorted(self.classes_, labels)
        training = given.sequences, codes, self._weights(given, labels, sample_weight)
        seed = self._begin(goes_on=not first)
        if first:
            self._make(given, training, seed)
        self._train(self._data(*training), None, 1, seed)
        return self

    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """Probabilities of the classes, of an ensemble the mean of its members'.

        Parameters
        ----------
        X : array_like
            As for `fit`.
        return_std : bool
            Also the standard deviation of an ensemble's members.

        Returns
        -------
        ndarray (N, C), float64; with `return_std` two of them
        """
        found = self.predict_proba_members(X)
        if not return_std:
            return found.mean(axis=0)
        if len(found) == 1:
            raise ValueError("return_std: expected an ensemble, n_models > 1, got one model")
        return found.mean(axis=0), spread(found)

    def predict_proba_members(self, X: Any) -> Array:
        """Probabilities that each member gives, (n_models, N, C); X as for `predict_proba`."""
        check_is_fitted(self)
        given = read_sequences(self, X, reset=False)
        return self._scores(given.sequences, self._model.probabilities)

    def predict(self, X: Any) -> Array:
        """The most probable classes, (N,)."""
        check_is_fitted(self)
        found: Array = self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        return found

    _model: SequenceClassifier
    classes_: Array

    def _read(self, X: Any, y: Any, reset: bool) -> tuple[Given, Array]:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        given = read_sequences(self, X, reset=reset)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(given.lengths, labels)
        return given, labels

    def _weights(self, given: Given, labels: Array, sample_weight: Any) -> Array | None:
        """Weights of the sequences with those of their classes."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights: Array = _check_sample_weight(
            sample_weight, given.lengths, dtype=np.float64, ensure_non_negative=True
        )
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, labels)
        return weights

    def _make(self, given: Given, training: tuple[Sequences, Array, Array | None], seed: int) -> None:
        """Standardise, and make a new model."""
        sequences, _, weights = training
        width = sequences.rows.shape[1]
        self._inputs, self._targets = Scaler.identity(width), None
        if self.standardize:
            self._inputs = Scaler.fit(sequences.rows, None if weights is None else weights[sequences.owners])
        self._model = SequenceClassifier(
            width, classes=len(self.classes_), **self._network(given.dtype, seed)
        )
        self._optimizer = self._new_optimizer()

    def _data(self, sequences: Sequences, codes: Array, weights: Array | None) -> SequenceData:
        return SequenceData(self._scaled(sequences), codes, weights=weights)


def _of(weights: Array | None, chosen: Array) -> Array | None:
    return None if weights is None else weights[chosen]
