"""A forecaster of series: windows of the past predict the steps that follow, all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from lstm_numba.data.scaling import Scaler
from lstm_numba.data.series_types import Sequence
from lstm_numba.data.series_windows import WindowIndex
from lstm_numba.engines.number_losses import DEFAULT_QUANTILES
from lstm_numba.estimators.base import Array, RecurrentEstimator
from lstm_numba.estimators.documentation import document
from lstm_numba.estimators.ensemble import combined, deviation
from lstm_numba.estimators.inputs import ahead_of, dimensions, read_known, read_series
from lstm_numba.estimators.quantiles import check_levels, middle, quantiles_of
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.signatures import explicit
from lstm_numba.training.forecast_windows import ForecastWindows, drifts
from lstm_numba.training.prediction_stream import PredictionStream

#: Longest window that is chosen where none is given.
_LONGEST_WINDOW = 48


@document
class RNNForecaster(RecurrentEstimator):
    """Forecasts series: recurrent layers read a window, a linear layer predicts the steps after it.

    Parameters
    ----------
    {parameters}
    horizon : int
        Steps that are predicted from a window, H. `predict` goes on from its own forecasts beyond it.
    window : int, optional
        Steps that are read; by default half of the shortest series, at most 48.
    loss : {"mse", "mae", "huber", "quantile", "gaussian"}
        As of `RNNRegressor`; the last two give bands.
    quantiles : tuple of float
        Levels of the loss "quantile", ascending.
    relative : bool or "auto"
        Read and predict differences from the window's last step, in the place of levels: for series that
        drift to where they never were. "auto" does so where the mean of the last third of the series is more
        than their standard deviation away from that of the first.

    Attributes
    ----------
    window_ : int
        Steps that are read.
    relative_ : bool
        Whether differences are.
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_numba.estimators import RNNForecaster
    >>> y = np.sin(np.arange(400) / 5)
    >>> forecaster = RNNForecaster(horizon=20, hidden_size=16, random_state=0).fit(y[:380])
    >>> bool(np.abs(forecaster.predict(20) - y[380:]).max() < 0.2)
    True

    Ten members, trained at once; the further ahead, the less do they agree:

    >>> ensemble = RNNForecaster(horizon=20, hidden_size=16, n_models=10, random_state=0).fit(y[:380])
    >>> mean, spread = ensemble.predict(200, return_std=True)
    >>> bool(spread[:20].mean() < spread[-20:].mean())
    True
    """

    @explicit(RecurrentEstimator.__init__)
    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        horizon: int = 1,
        window: int | None = None,
        loss: str = "mse",
        quantiles: tuple[float, ...] = DEFAULT_QUANTILES,
        relative: bool | str = "auto",
        **options: Any,
    ) -> None:
        super().__init__(cell, hidden_size, num_layers, **options)
        self.horizon = horizon
        self.window = window
        self.loss = loss
        self.quantiles = quantiles
        self.relative = relative

    def fit(self, y: Any, Y: Any = None, *, X: Any = None) -> RNNForecaster:
        """Train on the windows of one series or many.

        Parameters
        ----------
        y : array_like (T,), (N, T), (N, T, M), or list of array_like (T_i,) or (T_i, M)
            One series; or N series, of M numbers a step. Of an array (N, T) other series must have T steps
            too, as scikit-learn's rule is; of the other forms the number of steps is free.
        Y : ignored
            What scikit-learn's tools pass on as labels.
        X : array_like (T,) or (T, F), (N, T, F), or list of array_like, optional
            Features that will be known in advance, such as the weekday, at every step of every series.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            What was given does not fit, a series is too short, or a parameter is out of range.
        """
        goes_on = self._goes_on()
        self._check_horizon(self.horizon)
        series = self._series(y, reset=True)
        if Y is not None and (dimensions(Y) != 1 or self._form == "1d" or len(Y) != len(series)):
            raise ValueError("X: features that are known in advance are given by name, fit(y, X=X)")
        known = self._known(series, X, 0)
        seed = self._begin(goes_on)
        if not goes_on:
            self._forget()
            self._settle(series, known)
        pieces: Any = self._pieces(series, known)
        held: Any = None
        if self.early_stopping:
            pieces, held = zip(*(self._cut(piece) for piece in pieces), strict=True)
        training = self._windows(pieces, made=goes_on)
        if not goes_on:
            self._inputs = training.inputs or Scaler.identity(pieces[0].x.shape[1])
            self._targets = training.targets or Scaler.identity(self.n_outputs_)
            self._make(np.result_type(*series), seed)
        # What a forecast goes on from.
        self._last = [values[-self.window_ :] for values in series]
        self._last_known = [values[-self.window_ :] for values in known]
        self._train(training, None if held is None else self._windows(held, made=True), self.max_epochs, seed)
        return self

    def predict(self, horizon: Any = None, *, y: Any = None, X: Any = None, return_std: bool = False) -> Any:
        """Forecast the steps after those that are known.

        Parameters
        ----------
        horizon : int or array_like, optional
            Steps to forecast, by default the parameter `horizon`; more are forecast from forecasts, by each
            member of an ensemble from its own. An array stands for `y`, as scikit-learn calls it.
        y : array_like, optional
            Series to go on from, as `fit` takes them, by default those of `fit`; at least one step, of which
            the last `window_` count.
        X : array_like, optional
            Features that are known in advance, of the steps to forecast, at least `horizon` of the
            parameters, (H, F) or (N, H, F); where `y` is given, of its steps and those to forecast.
        return_std : bool
            Also the standard deviation, see `RNNRegressor.predict`; with the loss "gaussian" of at most the
            parameter `horizon` steps.

        Returns
        -------
        ndarray (H,), (N, H) or (N, H, M); with `return_std` a pair of them
            As the series were given. Of quantiles the one whose level is nearest to the median, of a Gaussian
            the mean.
        """
        check_is_fitted(self)
        if return_std and self.loss == "gaussian":
            self._check_learnt(horizon, "the standard deviation")
        found = self._forecasts(horizon, y, X)
        mean = self._shaped(self._middle(combined(found, self.loss)))
        return (mean, self._shaped(deviation(found, self.loss, self.quantiles))) if return_std else mean

    def predict_members(self, horizon: Any = None, *, y: Any = None, X: Any = None) -> Array:
        """What each member forecasts, (n_models, ...); the arguments are those of `predict`."""
        check_is_fitted(self)
        return np.stack([self._shaped(one) for one in self._middle(self._forecasts(horizon, y, X))])

    def predict_quantiles(
        self, horizon: Any = None, quantiles: Any = None, *, y: Any = None, X: Any = None
    ) -> Array:
        """Forecast quantiles, of the loss "quantile" or "gaussian"; of an ensemble as `RNNRegressor`'s.

        Parameters
        ----------
        horizon : int, optional
            At most the parameter `horizon`: beyond it the spread of forecasts from forecasts is not known.
        quantiles : sequence of float, optional
            Levels; by default, and of the loss "quantile" always, those of the parameter `quantiles`.
        y, X
            See `predict`.

        Returns
        -------
        ndarray
            As `predict`, with one more dimension, of the levels, at the end.
        """
        check_is_fitted(self)
        levels = check_levels(self.loss, self.quantiles, quantiles)
        self._check_learnt(horizon, "quantiles")
        found = combined(self._forecasts(horizon, y, X), self.loss)
        return self._shaped(quantiles_of(found, self.loss, levels))

    def stream(self, member: int | None = None) -> PredictionStream:
        """The trained model, fed step by step; each gives the forecasts of the next `horizon`, (H * M * P,).

        After `window_` steps they are those of `predict`; later the state remembers more than a window.

        Parameters
        ----------
        member : int, optional
            Which one of an ensemble: a stream is of one model.

        Raises
        ------
        ValueError
            Differences are read (`relative_`), features are known in advance, the layers read in both
            directions, or an ensemble's member is not given.
        """
        model = self._stream_model(member)
        if self.relative_ or self.n_known_:
            what = "differences from a window's last step are read, relative=False reads levels"
            raise ValueError(f"stream: {'features are known in advance' if self.n_known_ else what}")
        assert self._targets is not None
        targets = Scaler(*(np.tile(numbers, self.horizon) for numbers in self._targets))
        return PredictionStream(model, self._inputs, targets)

    def score(self, series: Any, y: Any = None, *, X: Any = None) -> float:
        """Coefficient of determination R² of the last `horizon` steps of series, forecast from those before.

        Parameters
        ----------
        series : array_like
            As `y` of `fit`.
        y : ignored
            What scikit-learn's tools pass on as labels.
        X : array_like, optional
            See `fit`.
        """
        check_is_fitted(self)
        series = self._series(series, reset=False)
        known = self._known(series, X, 0)
        short = [n for n, values in enumerate(series) if len(values) <= self.horizon]
        if short:
            raise ValueError(
                f"y: expected more than {self.horizon} steps to score, got {len(series[short[0]])}"
            )
        before = [values[: -self.horizon] for values in series]
        true = np.stack([values[-self.horizon :] for values in series])
        members = np.stack([self._steps(model, before, known) for model in self._models()])
        found = self._middle(combined(members, self.loss))
        present = ~np.isnan(true)
        return float(r2_score(true[present], found[present]))

    _model: SequenceRegressor

    # -- training ------------------------------------------------------------------------------------

    def _check_horizon(self, horizon: Any) -> int:
        if isinstance(horizon, bool) or not isinstance(horizon, (int, np.integer)) or horizon < 1:
            raise ValueError(f"horizon: expected a whole number from 1, got {horizon!r}")
        return int(horizon)

    def _series(self, y: Any, reset: bool) -> list[Array]:
        """Series (T_i, M); also notes the form in which they were given."""
        series, self._form = read_series(self, y, reset=reset)
        return series

    def _known(self, series: list[Array], X: Any, more: int) -> list[Array]:
        """Features (T_i + more, F) that are known in advance; F = 0 without any."""
        wanted = getattr(self, "n_known_", None) if hasattr(self, "_model") else None
        return read_known(X, [len(values) + more for values in series], wanted)

    def _settle(self, series: list[Array], known: list[Array]) -> None:
        """Choose what is not given: window, and whether differences are read."""
        shortest = min(map(len, series))
        if shortest < 2:
            raise ValueError(
                f"y: expected series of at least 2 steps, got a series of n_features = {shortest} step; "
                "a forecast needs a step to read and one to predict"
            )
        self.window_ = self.window or max(1, min(_LONGEST_WINDOW, (shortest - self.horizon) // 2))
        self._check_horizon(self.window_)
        if shortest < self.window_ + self.horizon:
            raise ValueError(
                f"y: expected at least {self.window_ + self.horizon} steps, {self.window_} to read and "
                f"{self.horizon} to predict, got a series of {shortest}"
            )
        self.relative_ = drifts(series) if self.relative == "auto" else bool(self.relative)
        self.n_known_, self.n_outputs_ = known[0].shape[1], series[0].shape[1]

    def _pieces(self, series: list[Array], known: list[Array]) -> list[Sequence]:
        """Series with their features: the numbers of a step, and what is known of the steps ahead."""
        found = []
        for n, (values, x) in enumerate(zip(series, known, strict=True)):
            ahead = ahead_of(x, len(values), self.horizon)
            found.append(
                Sequence(str(n), "y", None, np.hstack([values, ahead]), values, np.arange(len(values)))
            )
        return found

    def _cut(self, piece: Sequence) -> tuple[Sequence, Sequence]:
        """A series without its end, and its end, with as much before it as a window reads."""
        held = max(self.horizon, round(self.validation_fraction * piece.steps))
        first = piece.steps - held
        needed = self.window_ + self.horizon
        if first < needed:
            raise ValueError(
                f"y: expected at least {needed + held} steps, {held} of them held out for early stopping, "
                f"got {piece.steps}"
            )
        return piece.part(0, first), piece.part(first - self.window_, None)

    def _windows(self, pieces: Any, made: bool) -> ForecastWindows:
        index = WindowIndex(pieces, self.window_, self.horizon)
        if not len(index):
            raise ValueError("y: expected at least one window with a step to predict that is not NaN")
        return ForecastWindows(
            index,
            range(self.n_outputs_),
            relative=self.relative_,
            inputs=self._inputs if made else None,
            targets=self._targets if made else None,
            standardize=self.standardize,
        )

    def _make(self, dtype: np.dtype[Any], seed: int) -> None:
        self._model = SequenceRegressor(
            self.n_outputs_ + self.n_known_ * self.horizon,
            outputs=self.horizon * self.n_outputs_,
            loss=self.loss,
            quantiles=self.quantiles,
            **self._network(dtype, seed),
        )
        self._optimizer = self._new_optimizer()

    # -- forecasts -----------------------------------------------------------------------------------

    def _forecasts(self, horizon: Any, y: Any, X: Any) -> Array:
        """The members' forecasts (n_models, N, H, M, P)."""
        if horizon is not None and np.ndim(horizon):
            horizon, y = None, horizon
        horizon = self.horizon if horizon is None else self._check_horizon(horizon)
        ahead = -(-horizon // self.horizon) * self.horizon
        if y is not None:
            series = self._series(y, reset=False)
            known = self._known(series, X, ahead if self.n_known_ else 0)
        else:
            series, future = (
                self._last,
                self._known([np.empty((0, 1))] * len(self._last), X, ahead if self.n_known_ else 0),
            )
            known = [np.concatenate(parts) for parts in zip(self._last_known, future, strict=True)]
        found = [self._forecast(model, series, known, ahead) for model in self._models()]
        return np.stack(found)[:, :, :horizon]

    def _forecast(
        self, model: SequenceRegressor, series: list[Array], known: list[Array], ahead: int
    ) -> Array:
        """A model's forecasts (N, H, M, P), which go on from its own."""
        found, parts = series, []
        for _ in range(ahead // self.horizon):
            parts.append(self._steps(model, found, known))
            found = [
                np.vstack([values, part]) for values, part in zip(found, self._middle(parts[-1]), strict=True)
            ]
        return np.concatenate(parts, axis=1)

    def _models(self) -> list[SequenceRegressor]:
        """Each member's."""
        return [self._model.model(n) for n in range(self._members)] if self._model.models else [self._model]

    def _middle(self, found: Array) -> Array:
        """Of the numbers (..., P) that predict a target the one that stands for it."""
        return found[..., middle(self.loss, self.quantiles)]

    def _check_learnt(self, horizon: Any, what: str) -> None:
        """The spread of forecasts from forecasts is not learnt."""
        if horizon is not None and not np.ndim(horizon) and horizon > self.horizon:
            raise ValueError(f"horizon: expected at most {self.horizon} for {what}, got {horizon}")

    def _steps(self, model: SequenceRegressor, series: list[Array], known: list[Array]) -> Array:
        """A model's forecasts of the next `horizon` steps of series, (N, H, M, P)."""
        pieces = []
        for n, (values, x) in enumerate(zip(series, known, strict=True)):
            first = max(len(values) - self.window_, 0)
            ahead = ahead_of(x, len(values), self.horizon)[first:]
            rows = np.hstack([values[first:], ahead])
            # Of a short series the step before its first is the first again.
            rows = np.vstack([np.repeat(rows[:1], self.window_ - len(rows), axis=0), rows])
            rows = np.vstack([rows, np.full((self.horizon, rows.shape[1]), np.nan)])
            pieces.append(Sequence(str(n), "y", None, rows, rows[:, : self.n_outputs_], np.arange(len(rows))))
        index = WindowIndex(pieces, self.window_, self.horizon, all_items=True)
        windows = ForecastWindows(
            index, range(self.n_outputs_), relative=self.relative_, inputs=self._inputs,
            targets=self._targets, standardize=False,
        )  # fmt: skip
        with self._threads():
            found = windows.predict(model)
        if not np.all(np.isfinite(found)):
            raise ValueError("the model's outputs are not finite: its weights are too large")
        return found

    def _shaped(self, found: Array) -> Array:
        """Forecasts (N, H, M, ...) in the form in which the series were given."""
        if self._form in ("1d", "2d", "list1d"):
            found = found[:, :, 0]
        return found[0] if self._form == "1d" else found
