"""What the estimators share: parameters, standardisation, training, prediction in batches."""

from __future__ import annotations

import contextlib
import copy
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from lstm_numba.arguments import integer, non_negative
from lstm_numba.data.scaling import Scaler
from lstm_numba.data.sequences import Sequences
from lstm_numba.estimators.ensemble import mean_losses, member_model, member_optimizer, threads, train
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.optim.optimizers import Optimizer, make_optimizer
from lstm_numba.training.array_data import Items
from lstm_numba.training.history import History
from lstm_numba.training.prediction_stream import PredictionStream

Array = npt.NDArray[Any]
E = TypeVar("E", bound="RecurrentEstimator")

#: Sequences of a batch: of training, at most, where batch_size is "auto", and of a prediction.
_LARGEST_BATCH, _PREDICTION_BATCH = 64, 500


class RecurrentEstimator(BaseEstimator):
    """Base of the estimators, which document the parameters."""

    _model: SequenceModel
    _optimizer: Optimizer
    _inputs: Scaler
    _targets: Scaler | None
    loss_curve_: list[float]
    histories_: list[History]
    _best_losses: Array

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
        n_models: int = 1,
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
        self.n_models = n_models
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

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        if hasattr(self, "_model"):
            # joblib's files hold an array as often as it is referred to, not once as pickle's do.
            for part, layer in (("rnn", self._model.rnn), ("output", self._model.output)):
                self._model.params.update({f"{part}.{name}": a for name, a in layer.params.items()})
            self._optimizer.params = dict(self._model.params)

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
            "models": None if integer("n_models", self.n_models) == 1 else self.n_models,
        }

    def _begin(self, goes_on: bool) -> int:
        """Seed of a training, or, where it goes on, of its next part."""
        if goes_on and self.n_models != self._members:
            raise ValueError(
                f"n_models: expected {self._members}, as before, to continue, got {self.n_models}"
            )
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
        # Where it goes on, the last schedule has left its last rate.
        self._optimizer.lr = non_negative("learning_rate", self.learning_rate)
        with self._threads():
            histories = train(
                self._model,
                self._optimizer,
                data,
                seed=seed,
                jobs=self.n_jobs,
                validation=held,
                epochs=epochs,
                batch_size=size,
                lr=self.learning_rate,
                schedule=self.schedule,
                clip=self.clip,
                patience=patience,
                tol=self.tol,
                keep_best=bool(self.early_stopping),
                verbose=bool(self.verbose),
            )
        self._tell(histories)

    def _tell(self, histories: list[History]) -> None:
        """Set the attributes that tell of a training, beside those that went before."""
        before = self.loss_curve_ if hasattr(self, "loss_curve_") else []
        self.histories_ = histories
        self.loss_curve_ = [*before, *mean_losses(histories)]
        self.n_iter_ = len(self.loss_curve_)
        best = np.array([history.best_loss for history in histories])
        self._best_losses = np.minimum(best, self._best_losses) if before else best
        self.best_loss_ = float(self._best_losses.mean())

    def _forget(self) -> None:
        """Begin anew: remove what tells of an earlier training."""
        if hasattr(self, "loss_curve_"):
            del self.loss_curve_

    def _threads(self) -> AbstractContextManager[None]:
        """Compute on `n_jobs` threads; -1 stands for all. Of an ensemble `n_jobs` are jobs."""
        if self.n_jobs is None or self._model.models:
            return contextlib.nullcontext()
        most = int(numba.config.NUMBA_NUM_THREADS)
        count = most + 1 + self.n_jobs if self.n_jobs < 0 else self.n_jobs
        if count < 1:
            raise ValueError(f"n_jobs: expected a number of threads, or -1 for all, got {self.n_jobs}")
        return threads(count)

    # -- use -----------------------------------------------------------------------------------------

    def _scores(self, sequences: Sequences, use: Any) -> Array:
        """What the members give, (n_models, ...), batch by batch: `use` is a method of the model, called with
        x and lengths.
        """
        scaled, parts = self._scaled(sequences), []
        size = max(1, _PREDICTION_BATCH // self._members)
        with self._threads():
            for first in range(0, len(scaled), size):
                chosen = np.arange(first, min(first + size, len(scaled)))
                x, lengths = scaled.padded(chosen, self._model.dtype)
                found = use(x, lengths)
                found = found if self._model.models else found[None]
                if self._model.per_step:  # the steps of each sequence, one after the other
                    inside = np.arange(len(x)) < scaled.lengths[chosen][:, None]
                    found = np.swapaxes(found, 1, 2)[:, inside]
                parts.append(found)
        found = np.concatenate(parts, axis=1)
        if not np.all(np.isfinite(found)):
            raise ValueError("the model's outputs are not finite: its weights are too large")
        return found

    def to_rnn(self) -> Recurrent:
        """The trained recurrent layers, a copy.

        They take standardised input; `inputs_scaler_` has mean and scale. Those of an ensemble have a leading
        axis of members, see `Recurrent`.
        """
        check_is_fitted(self)
        return copy.deepcopy(self._model.rnn)

    @property
    def inputs_scaler_(self) -> Scaler:
        """Mean and scale of the features."""
        check_is_fitted(self)
        return self._inputs

    @property
    def history_(self) -> History:
        """All numbers of the last training; of an ensemble there are `histories_`."""
        check_is_fitted(self)
        if self._model.models:
            raise AttributeError(f"history_: expected one model, got {self._members}; see histories_")
        return self.histories_[0]

    @property
    def estimators_(self: E) -> list[E]:
        """The members, each a copy that is an estimator of one model and tells of the last training."""
        check_is_fitted(self)
        return [self._member(n) for n in range(self._members)]

    def _member(self: E, n: int) -> E:
        """Member n as an estimator of one model, which goes on where it is."""
        member = copy.copy(self)
        member._random = copy.deepcopy(self._random)
        if not self._model.models:
            member._model, member._optimizer = copy.deepcopy((self._model, self._optimizer))
            return member
        member.n_models = 1
        member._model = member_model(self._model, n)
        member._optimizer = member_optimizer(self._optimizer, member._new_optimizer(), n)
        member._forget()
        member._tell([self.histories_[n]])
        return member

    @property
    def _members(self) -> int:
        """Models that were trained."""
        return self._model.models or 1

    def _stream_model(self, member: int | None) -> SequenceModel:
        """The model that a stream reads with."""
        check_is_fitted(self)
        if not self._model.models:
            if member not in (None, 0):
                raise ValueError(f"member: expected None or 0 of one model, got {member!r}")
            return self._model
        if member is None:
            raise ValueError(f"member: expected which of {self._members} is to stream, from 0, got None")
        return self._model.model(member)

    def stream(self, member: int | None = None) -> PredictionStream:
        """The trained model, fed step by step: standardisation, layers and output layer in one compiled call.

        Parameters
        ----------
        member : int, optional
            Which one of an ensemble: a stream is of one model.

        Raises
        ------
        ValueError
            The layers read in both directions, or an ensemble's member is not given.
        """
        return PredictionStream(self._stream_model(member), self._inputs, self._targets)
