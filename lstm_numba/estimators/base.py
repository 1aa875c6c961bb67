"""What the estimators share: parameters, standardisation, training, prediction in batches."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from lstm_numba.arguments import integer
from lstm_numba.data.scaling import Scaler
from lstm_numba.data.sequences import Sequences
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.optim.optimizers import Optimizer, make_optimizer
from lstm_numba.training.array_data import Items
from lstm_numba.training.fitting import fit
from lstm_numba.training.prediction_stream import PredictionStream

Array = npt.NDArray[Any]

#: Sequences of a batch: of training, at most, where batch_size is "auto", and of a prediction.
_LARGEST_BATCH, _PREDICTION_BATCH = 64, 500


class RecurrentEstimator(BaseEstimator):
    """Base of the estimators, which document the parameters."""

    _model: SequenceModel
    _optimizer: Optimizer
    _inputs: Scaler
    _targets: Scaler | None
    loss_curve_: list[float]
    best_loss_: float

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        learning_rate: float = 0.005,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        schedule: str = "constant",
        clip: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 10,
        tol: float = 1e-4,
        standardize: bool = True,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        dtype: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.standardize = standardize
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    # -- training ------------------------------------------------------------------------------------

    def _network(self, dtype: np.dtype[Any], seed: int) -> dict[str, Any]:
        """Arguments of the model that all estimators give."""
        return {
            "hidden": self.hidden_size,
            "cell": self.cell,
            "layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "dtype": dtype if self.dtype is None else np.dtype(self.dtype),
            "device": self.device,
            "seed": seed,
        }

    def _begin(self, goes_on: bool) -> int:
        """Seed of a training, or, where it goes on, of its next part."""
        if not goes_on:
            self._random = check_random_state(self.random_state)
            if self._random is self.random_state:
                self._random = copy.deepcopy(self._random)
        return int(self._random.randint(np.iinfo(np.int32).max))

    def _goes_on(self) -> bool:
        """Whether `fit` starts from what the last one reached."""
        return bool(self.warm_start and hasattr(self, "_model"))

    def _new_optimizer(self) -> Optimizer:
        return make_optimizer(
            self.optimizer, self._model.params, self.learning_rate, weight_decay=self.weight_decay
        )

    def _scaled(self, sequences: Sequences) -> Sequences:
        """Standardised, without NaN: a missing number is the last one of its feature, at first the mean."""
        return Sequences(self._inputs.transform(sequences.rows), sequences.lengths).filled()

    def _train(self, data: Items, held: Items | None, epochs: int, seed: int) -> None:
        """Train the model, and set the attributes that tell of it."""
        size: Any = self.batch_size
        size = min(_LARGEST_BATCH, len(data)) if size == "auto" else size
        patience = self.n_iter_no_change
        if patience is not None:
            integer("n_iter_no_change", patience)
        if held is None:
            # With little data an epoch is a step or two, and its loss goes up and down while it still falls.
            patience = None
        with self._threads():
            history = fit(
                self._model,
                data,
                validation=held,
                epochs=epochs,
                batch_size=size,
                optimizer=self._optimizer,
                lr=self.learning_rate,
                schedule=self.schedule,
                clip=self.clip,
                patience=patience,
                tol=self.tol,
                keep_best=bool(self.early_stopping),
                seed=seed,
                verbose=bool(self.verbose),
            )
        before = self.loss_curve_ if hasattr(self, "loss_curve_") else []
        self.loss_curve_ = [*before, *history["loss"]]
        self.history_ = history
        self.n_iter_ = len(self.loss_curve_)
        best = history.best_loss
        self.best_loss_ = min(best, self.best_loss_) if hasattr(self, "best_loss_") else best

    def _forget(self) -> None:
        """Begin anew: remove what tells of an earlier training."""
        for name in ("loss_curve_", "best_loss_"):
            if hasattr(self, name):
                delattr(self, name)

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """Compute on `n_jobs` threads; -1 stands for all."""
        if self.n_jobs is None:
            yield
            return
        most = int(numba.config.NUMBA_NUM_THREADS)
        count = most + 1 + self.n_jobs if self.n_jobs < 0 else self.n_jobs
        if count < 1:
            raise ValueError(f"n_jobs: expected a number of threads, or -1 for all, got {self.n_jobs}")
        before = numba.get_num_threads()
        numba.set_num_threads(min(count, most))
        try:
            yield
        finally:
            numba.set_num_threads(before)

    # -- use -----------------------------------------------------------------------------------------

    def _scores(self, sequences: Sequences, use: Any) -> Array:
        """What the model gives, batch by batch: `use` is a method of it, called with x and lengths."""
        scaled, parts = self._scaled(sequences), []
        with self._threads():
            for first in range(0, len(scaled), _PREDICTION_BATCH):
                chosen = np.arange(first, min(first + _PREDICTION_BATCH, len(scaled)))
                x, lengths = scaled.padded(chosen, self._model.dtype)
                found = use(x, lengths)
                if found.ndim > 2 and self._model.per_step:  # the steps of each sequence, one after the other
                    inside = np.arange(len(x)) < scaled.lengths[chosen][:, None]
                    found = np.swapaxes(found, 0, 1)[inside]
                parts.append(found)
        found = np.concatenate(parts)
        if not np.all(np.isfinite(found)):
            raise ValueError("the model's answers are no numbers: its weights are too large")
        return found

    def to_rnn(self) -> Recurrent:
        """The trained recurrent layers, a copy.

        They take standardised input; `inputs_scaler_` has mean and scale.
        """
        check_is_fitted(self)
        return copy.deepcopy(self._model.rnn)

    @property
    def inputs_scaler_(self) -> Scaler:
        """Mean and scale of the features."""
        check_is_fitted(self)
        return self._inputs

    def stream(self) -> PredictionStream:
        """The trained model, fed step by step: standardisation, layers and output layer in one compiled call.

        Raises
        ------
        ValueError
            The layers read in both directions.
        """
        check_is_fitted(self)
        return PredictionStream(self._model, self._inputs, self._targets)
