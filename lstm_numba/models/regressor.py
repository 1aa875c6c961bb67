"""A sequence regressor: recurrent layers and a linear layer that predicts numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.engines.number_losses import DEFAULT_QUANTILES, GAUSSIAN, number_loss, variance
from lstm_numba.models.base import Array
from lstm_numba.models.network import Network
from lstm_numba.models.sequence_model import SequenceModel, label_form
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.models.network import NetworkOptions


class SequenceRegressor(SequenceModel):
    """Predicts numbers, one or many, at the end of a sequence or at every step.

    The objective is the loss averaged over the targets of the batch, with their weights; a target of weight
    zero is missing.

    Parameters
    ----------
    input_size : int
        Features of a step, I.
    hidden : int
        Hidden units, H.
    outputs : int
        Targets, M.
    loss : {"mse", "mae", "huber", "quantile", "gaussian"}
        See `lstm_numba.engines.number_losses.number_loss`.
    quantiles : sequence of float
        Levels of the loss "quantile", ascending.
    per_step : bool
        Predict at every step, not at the end.
    bidirectional : bool
        Read in both directions.
    seed : int, or sequence of int, optional
        Seed of weights and dropout.
    models : int, optional
        Many models on a leading axis, see `Recurrent`.
    device : {"cpu", "cuda"}
        Where the model computes.
    **options
        See `lstm_numba.models.network.Network`.

    Notes
    -----
    A `SequenceBatch` for it has labels (B, M), or (T, B, M) with `per_step`, and weights (B,), (B, M), or of
    the steps (T, B) or (T, B, M).
    """

    @explicit(Network)
    def __init__(
        self,
        input_size: int,
        hidden: int,
        outputs: int,
        *,
        loss: str = "mse",
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        per_step: bool = False,
        bidirectional: bool = False,
        seed: int | Sequence[int] | None = None,
        models: int | None = None,
        device: str = "cpu",
        **options: Unpack[NetworkOptions],
    ) -> None:
        self.loss = number_loss(loss, quantiles)
        self.outputs = outputs
        super().__init__(
            input_size,
            hidden,
            outputs * self.loss.width,
            per_step=per_step,
            bidirectional=bidirectional,
            seed=seed,
            models=models,
            device=device,
            options=options,
            sizes={
                "outputs": outputs,
                "loss": loss,
                "quantiles": list(map(float, quantiles)),
                "per_step": bool(per_step),
            },
        )

    def predict(self, x: Array, lengths: Array | None = None) -> Array:
        """Predicted numbers.

        Parameters
        ----------
        x : ndarray (T, B, I)
        lengths : ndarray (B,), int, optional

        Returns
        -------
        ndarray (B, M, P), or (T, B, M, P) with `per_step`, float64
            P is 1; with the loss "quantile" one number a level, sorted where training left them crossed; with
            "gaussian" mean and standard deviation. Beyond a sequence's end they mean nothing.
        """
        scores = self.scores(x, lengths).astype(np.float64)
        found = scores.reshape(*scores.shape[:-1], self.outputs, self.loss.width)
        if self.loss.kind == GAUSSIAN:
            found[..., 1] = np.sqrt(variance(found[..., 1]))
        return found if self.loss.kind == GAUSSIAN else np.sort(found, axis=-1)

    def _facts(self) -> list[str]:
        name, levels = self._config["loss"], self._config["quantiles"]
        loss = f"{name} {', '.join(map(str, levels))}" if name == "quantile" else name
        return [f"loss: {loss}{', at every step' if self.per_step else ''}"]

    @property
    def _label_axes(self) -> int:
        return 3 if self.per_step else 2

    def check_labels(self, y: Array, axes: int | None = None) -> None:
        """See `SequenceModel.check_labels`."""
        if (axes or y.ndim) != self._label_axes or y.shape[-1] != self.outputs:
            form = f"(N, T, {self.outputs}), of every step" if self.per_step else f"(N, {self.outputs})"
            raise ValueError(f"y: expected numbers {form}, got shape {label_form(y, axes)}")

    def _targets(self, labels: Array, weights: Array | None, out: Any) -> Any:
        if labels.ndim != 2 or labels.shape[1] != self.outputs:
            raise ValueError(f"labels: expected {self.outputs} targets for each, got shape {labels.shape}")
        return self.engine.number_targets(labels, weights, self.loss, out)

    def _count(self, labels: Array, weights: Array | None) -> float:
        if weights is None:
            return int(labels.size)
        return float(np.sum(weights)) * (self.outputs if weights.ndim == 1 else 1)

    def _loss(
        self, scores: Array, targets: Any, totals: Array, *, scale: float, bias: Array, gradient: bool
    ) -> None:
        self.engine.number_loss(scores, targets, totals, self.loss, scale=scale, bias=bias, gradient=gradient)
