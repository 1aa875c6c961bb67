"""A regressor of sequences: one number or many, at the end of a sequence or at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length, check_is_fitted

from lstm_numba.data.scaling import Scaler
from lstm_numba.data.sequences import Sequences
from lstm_numba.engines.number_losses import DEFAULT_QUANTILES
from lstm_numba.estimators.base import Array, RecurrentEstimator
from lstm_numba.estimators.documentation import document
from lstm_numba.estimators.ensemble import combined, deviation
from lstm_numba.estimators.inputs import Given, dimensions, is_ragged, read_sequences
from lstm_numba.estimators.quantiles import check_levels, middle, quantiles_of
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.signatures import explicit
from lstm_numba.training.array_data import SequenceData


@document
class RNNRegressor(RegressorMixin, RecurrentEstimator):
    """Predicts numbers of sequences: recurrent layers and a linear layer on their state.

    Parameters
    ----------
    {parameters}
    loss : {"mse", "mae", "huber", "quantile", "gaussian"}
        Squared, absolute or Huber's error; the pinball loss, for `quantiles`; or the negative log-likelihood
        of a Gaussian whose mean and standard deviation are predicted.
    quantiles : tuple of float
        Levels of the loss "quantile", ascending.
    per_step : bool
        Predict at every step, (N, T) or (N, T, M) numbers, not at the end of the sequence.

    Attributes
    ----------
    n_outputs_ : int
        Targets, M.
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_numba.estimators import RNNRegressor
    >>> X = np.random.default_rng(0).standard_normal((200, 12, 2))
    >>> y = np.tanh(X[:, :, 0].sum(axis=1))
    >>> RNNRegressor(hidden_size=8, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    @explicit(RecurrentEstimator.__init__)
    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        loss: str = "mse",
        quantiles: tuple[float, ...] = DEFAULT_QUANTILES,
        per_step: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(cell, hidden_size, num_layers, **options)
        self.loss = loss
        self.quantiles = quantiles
        self.per_step = per_step

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train.

        Parameters
        ----------
        X : array_like (N, T, F), (N, T), or list of array_like (T_i, F)
            See the class.
        y : array_like (N,) or (N, M)
            Numbers of each sequence. With `per_step` (N, T), (N, T, M), or a list of (T_i,) or (T_i, M), NaN
            where nothing is known.
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
        given, numbers, weights = self._read(X, y, sample_weight, reset=True)
        seed = self._begin(goes_on)
        kept, chosen = np.arange(len(given.lengths)), None
        if self.early_stopping:
            kept, chosen = train_test_split(kept, test_size=self.validation_fraction, random_state=seed)
        training = _take(given.sequences, numbers, weights, kept)
        if not goes_on:
            self._forget()
            self._make(given, training, seed)
        held = None if chosen is None else self._data(*_take(given.sequences, numbers, weights, chosen))
        self._train(self._data(*training), held, self.max_epochs, seed)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RNNRegressor:
        """Train for one epoch, going on from what was reached; the first call's data standardise all others.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        self
        """
        first = not hasattr(self, "_model")
        given, numbers, weights = self._read(X, y, sample_weight, reset=first)
        seed = self._begin(goes_on=not first)
        training = given.sequences, numbers, weights
        if first:
            self._make(given, training, seed)
        self._train(self._data(*training), None, 1, seed)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict numbers: of quantiles the one whose level is nearest to the median, of a Gaussian the mean.

        Parameters
        ----------
        X : array_like
            As for `fit`.
        return_std : bool
            Also the standard deviation. With the loss "gaussian" the one that is learnt, of an ensemble that
            of the mixture of its members' Gaussians: it holds both the noise and what the members disagree
            about. With other losses that of an ensemble's members.

        Returns
        -------
        ndarray (N,) or (N, M); with `per_step` (N, T) or (N, T, M), or a list of arrays if X is one
            In the form in which `y` was given to `fit`; with `return_std` a pair of them.
        """
        given, found = self._predictions(X)
        mean = self._shaped(given, self._middle(combined(found, self.loss)))
        if not return_std:
            return mean
        return mean, self._shaped(given, deviation(found, self.loss, self.quantiles))

    def predict_members(self, X: Any) -> Any:
        """What each member predicts, (n_models, ...), as `predict`; a list of lists where X is a list."""
        given, found = self._predictions(X)
        members = [self._shaped(given, one) for one in self._middle(found)]
        return members if isinstance(members[0], list) else np.stack(members)

    def predict_quantiles(self, X: Any, quantiles: Any = None) -> Any:
        """Predict quantiles, of the loss "quantile" or "gaussian".

        Of an ensemble they are the means of its members' quantiles; with "gaussian" those of the Gaussian
        that has mean and standard deviation of the mixture.

        Parameters
        ----------
        X : array_like
            As for `fit`.
        quantiles : sequence of float, optional
            Levels; by default, and of the loss "quantile" always, those of the parameter `quantiles`.

        Returns
        -------
        ndarray
            As `predict`, with one more dimension, of the levels, at the end.
        """
        levels = check_levels(self.loss, self.quantiles, quantiles)
        given, found = self._predictions(X)
        return self._shaped(given, quantiles_of(combined(found, self.loss), self.loss, levels))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination R², with `per_step` over all steps of which `y` is known."""
        if not self.per_step:
            return float(super().score(X, y, sample_weight))
        found = self.predict(X)
        true, predicted = (np.concatenate([np.asarray(part, float) for part in of]) for of in (y, found))
        known = ~(np.isnan(true) | np.isnan(predicted))
        known = known if known.ndim == 1 else known.all(axis=1)
        if sample_weight is not None:
            sample_weight = np.repeat(sample_weight, [len(part) for part in y])[known]
        return float(r2_score(true[known], predicted[known], sample_weight=sample_weight))

    _model: SequenceRegressor

    def _predictions(self, X: Any) -> tuple[Given, Array]:
        """What X is, and the members' predictions (n_models, N, M, P), or (n_models, R, M, P) of all steps
        that are there.
        """
        check_is_fitted(self)
        given = read_sequences(self, X, reset=False)
        found = self._scores(given.sequences, self._model.predict)
        assert self._targets is not None
        mean, scale = self._targets.mean[:, None], self._targets.scale[:, None]
        if self.loss == "gaussian":
            return given, np.stack(
                [found[..., 0] * scale[:, 0] + mean[:, 0], found[..., 1] * scale[:, 0]], axis=-1
            )
        return given, found * scale + mean

    def _middle(self, found: Array) -> Array:
        """Of the numbers (..., P) that predict a target the one that stands for it."""
        return found[..., middle(self.loss, self.quantiles)]

    def _shaped(self, given: Given, numbers: Array) -> Any:
        """Predictions (N or R, M, ...) in the form of the targets that `fit` got."""
        if self._single:
            numbers = numbers[:, 0]
        return given.spread(numbers) if self.per_step else numbers

    def _read(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Given, Any, Array | None]:
        """Sequences, numbers (N, M) or `Sequences` of them, and weights."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        given = read_sequences(self, X, reset=reset)
        numbers: Any = self._steps(given, y) if self.per_step else self._numbers(given, y)
        outputs = (numbers.rows if self.per_step else numbers).shape[1]
        if reset:
            self.n_outputs_ = outputs
        elif outputs != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} targets as before, got {outputs}")
        if sample_weight is None:
            return given, numbers, None
        return (
            given,
            numbers,
            _check_sample_weight(sample_weight, given.lengths, dtype=np.float64, ensure_non_negative=True),
        )

    def _numbers(self, given: Given, y: Any) -> Array:
        if dimensions(y) > 2:
            raise ValueError(f"y: expected shape (N,) or (N, M) without per_step, got {np.shape(y)}")
        numbers = _check_y(y, multi_output=True, y_numeric=True, estimator=self)
        check_consistent_length(given.lengths, numbers)
        self._single = numbers.ndim == 1
        return np.asarray(numbers, np.float64).reshape(len(numbers), -1)

    def _steps(self, given: Given, y: Any) -> Sequences:
        """Targets of the steps that are there."""
        parts = (
            [np.asarray(part, np.float64) for part in y] if is_ragged(y) else list(np.asarray(y, np.float64))
        )
        lengths = [len(part) for part in parts if part.ndim]
        if lengths != list(given.lengths):
            raise ValueError(
                "y: expected a number for each step of each sequence of X, since per_step is set"
            )
        self._single = parts[0].ndim == 1
        rows = np.concatenate([part.reshape(len(part), -1) for part in parts])[given.known]
        if not np.all(np.isfinite(rows) | np.isnan(rows)):
            raise ValueError("y: expected finite numbers, or NaN where nothing is known, got infinity")
        if np.isnan(rows).all():
            raise ValueError("y: expected at least one number, got NaN only")
        return Sequences(rows, given.sequences.lengths)

    def _make(self, given: Given, training: tuple[Sequences, Any, Array | None], seed: int) -> None:
        """Standardise, and make a new model."""
        sequences, numbers, weights = training
        width, outputs = sequences.rows.shape[1], self.n_outputs_
        self._inputs, self._targets = Scaler.identity(width), Scaler.identity(outputs)
        if self.standardize:
            steps = None if weights is None else weights[sequences.owners]
            self._inputs = Scaler.fit(sequences.rows, steps)
            rows = numbers.rows if self.per_step else numbers
            self._targets = Scaler.fit(rows, steps if self.per_step else weights)
        network = self._network(given.dtype, seed)
        self._model = SequenceRegressor(
            width,
            outputs=outputs,
            loss=self.loss,
            quantiles=self.quantiles,
            per_step=self.per_step,
            **network,
        )
        self._optimizer = self._new_optimizer()

    def _data(self, sequences: Sequences, numbers: Any, weights: Array | None) -> SequenceData:
        assert self._targets is not None
        if not self.per_step:
            return SequenceData(self._scaled(sequences), self._targets.transform(numbers), weights=weights)
        rows = self._targets.transform(numbers.rows)
        known = ~np.isnan(rows)
        steps = known if weights is None else known * weights[sequences.owners][:, None]
        return SequenceData(
            self._scaled(sequences),
            Sequences(np.where(known, rows, 0.0), sequences.lengths),
            weights=Sequences(steps.astype(np.float64), sequences.lengths),
        )


def _take(
    sequences: Sequences, numbers: Any, weights: Array | None, chosen: Array
) -> tuple[Sequences, Any, Array | None]:
    """Some of the sequences, with their numbers and weights."""
    part = numbers.take(chosen) if isinstance(numbers, Sequences) else numbers[chosen]
    return sequences.take(chosen), part, None if weights is None else weights[chosen]
