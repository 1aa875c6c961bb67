"""Models of sequences: recurrent layers, and a linear layer on their final state or on every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.models.base import (
    Array,
    Model,
    Placed,
    Ready,
    SequenceBatch,
    State,
    StepResult,
    random_streams,
)
from lstm_numba.models.network import Network
from lstm_numba.nn.dropout import dropout
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.many import check_models

if TYPE_CHECKING:
    from lstm_numba.models.network import NetworkOptions


class SequenceModel(Model):
    """Base of `SequenceClassifier` and `SequenceRegressor`.

    The linear layer sees the last layer's hidden state at the end of the sequence (at each sequence's own
    end, with lengths), or at every step; both directions concatenated. The objective is the loss averaged
    over the predictions of the batch, with their weights.

    Parameters
    ----------
    input_size : int
        Features of a step, I.
    hidden : int
        Hidden units, H.
    outputs : int
        Numbers that the linear layer gives, O.
    per_step : bool
        Predict at every step, not at the end.
    bidirectional : bool
        Read in both directions.
    seed : int, or sequence of int, optional
        Seed of weights and dropout; of many models see `Recurrent`.
    models : int, optional
        As many models on a leading axis of all arrays, N; see `Recurrent`. A batch without that axis is one
        for all.
    device : {"cpu", "cuda"}
        Where the model computes.
    options : mapping
        See `lstm_numba.models.network.Network`.
    sizes : mapping
        Further arguments that make the model, for `config`.

    Attributes
    ----------
    output : Linear
        The linear layer.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        outputs: int,
        *,
        per_step: bool,
        bidirectional: bool,
        seed: Any,
        models: int | None,
        device: str,
        options: NetworkOptions,
        sizes: dict[str, Any],
    ) -> None:
        network, streams = Network(hidden, **options), random_streams(seed, check_models(models))
        rnn = network.recurrent(input_size, streams.weights, bidirectional)
        self.per_step = bool(per_step)
        self.output = Linear(rnn.output_size * rnn.directions, outputs, dtype=rnn.dtype, rng=streams.weights)
        parts = {"rnn": rnn.params, "output": self.output.params}
        sizes = {"input_size": input_size, **sizes, "bidirectional": rnn.bidirectional}
        sizes |= {"models": models} if models else {}
        super().__init__(network, rnn, parts, streams, device, **sizes)

    # -- what a kind of prediction adds --------------------------------------------------------------

    @property
    def _label_axes(self) -> int:
        """Axes of the labels of one model."""
        raise NotImplementedError

    def check_labels(self, y: Array, axes: int | None = None) -> None:
        """Check labels of many sequences before a batch is made of them.

        Parameters
        ----------
        y : ndarray
            Classes (N,), numbers (N, M) or, of every step, (N, T, M) or the rows of all sequences (L, M).
        axes : int, optional
            How many axes they stand for, 3 of the rows; by default those of `y`.

        Raises
        ------
        ValueError
            The model predicts something else.
        """
        raise NotImplementedError

    def _targets(self, labels: Array, weights: Array | None, out: Any) -> Any:
        """Labels of all predictions, as the engine takes them; `weights` begin with the labels' axis."""
        raise NotImplementedError

    def _count(self, labels: Array, weights: Array | None) -> float:
        """Number of predictions, or the sum of their weights."""
        return len(labels) if weights is None else float(np.sum(weights))

    def _loss(
        self, scores: Array, targets: Any, totals: Array, *, scale: float, bias: Array, gradient: bool
    ) -> None:
        """Loss of scores (N, O) without the bias, of one model; the gradient overwrites them."""
        raise NotImplementedError

    # -- training ------------------------------------------------------------------------------------

    def place(
        self, batch: SequenceBatch, gradient: bool = True, fixed: bool = False, out: Placed | None = None
    ) -> Placed:
        """See `Model.place`."""
        x, targets = (None, None) if out is None else (out.inputs, out.targets)
        x = self._input(batch.x) if x is None else self.engine.upload(batch.x, x)
        if self.models:
            found = [self._place_targets(self._of_model(batch, n), None) for n in range(self.models)]
            each, counts = zip(*found, strict=True)
            return Placed(x, each, np.array(counts), batch.lengths)
        return Placed(x, *self._place_targets(batch, targets), batch.lengths)

    def _place_targets(self, batch: SequenceBatch, out: Any) -> tuple[Any, float]:
        """Targets of a batch of one model in the engine's memory, and their number or weight."""
        labels, weights = self._in_a_row(batch)
        return self._targets(labels, weights, out), self._count(labels, weights)

    def predictions(self, batch: SequenceBatch) -> float:
        """See `Model.predictions`."""
        return self._count(*self._in_a_row(batch))

    def _in_a_row(self, batch: SequenceBatch) -> tuple[Array, Array | None]:
        """Labels and weights of all predictions, whose first axis counts them."""
        labels, weights = batch.labels, batch.weights
        if self.per_step:
            weights = _within(weights, labels, batch.lengths)
            labels = labels.reshape(-1, *labels.shape[2:])
        return labels, weights

    def _of_model(self, batch: SequenceBatch, n: int) -> SequenceBatch:
        """A model's part of a batch; x stays as it is."""
        labels, (_, _, lengths, weights) = batch.labels, batch
        axes = self._label_axes
        if labels.ndim > axes:
            labels, weights = labels[n], None if weights is None else weights[n]
        lengths = lengths if lengths is None or lengths.ndim == 1 else lengths[n]
        return SequenceBatch(batch.x, labels, lengths, weights)

    def learn(self, placed: Placed, state: State = None, ready: Ready | None = None) -> StepResult:
        """Loss and gradients of a batch, with dropout.

        Parameters
        ----------
        placed : Placed
            From `place`.
        state : ndarray or tuple of ndarray, optional
            Initial state; zero by default.
        ready : callable, optional
            See `Model.learn`.
        """
        engine, weight = self.engine, self.output.params["weight"]
        y, final, tape = self.rnn.forward(placed.inputs, state, placed.lengths, training=True, copy=False)
        features, mask = self._features(y, final), None
        if self.output_dropout:
            seen = features.reshape(y.shape) if self.per_step else features  # rows before the last axis
            drawn = dropout(engine, self.rng, seen, self.output_dropout, self.dropout_kind)
            features, mask = (one.reshape(features.shape) for one in drawn)
        scale, dscores = _scale(placed), self._scores(features)
        totals = self._losses(dscores, placed.targets, scale, gradient=True)
        dfeatures = engine.matmul(dscores, weight)
        if mask is not None:
            dfeatures = engine.multiply(dfeatures, mask, out=dfeatures)
        dy, dstate = self._feature_gradients(y, final, dfeatures)
        output = {
            "output.weight": engine.matmul(engine.transposed(dscores), features),
            "output.bias": engine.column_sums(dscores),
        }
        if ready is not None:
            ready(output)
        backward = self.rnn.backward(tape, dy, dstate, input_gradient=False, ready=self._of_rnn(ready))
        grads: dict[str, Any] = {f"rnn.{name}": gradient for name, gradient in backward[2].items()} | output
        return StepResult(engine, totals, placed.predictions, scale, grads, final)

    def evaluate(self, batch: SequenceBatch, state: State = None) -> StepResult:
        """Loss of a batch, without dropout."""
        placed = self.place(batch, gradient=False)
        y, final = self.rnn(placed.inputs, state, placed.lengths)
        scale, scores = _scale(placed), self._scores(self._features(y, final))
        totals = self._losses(scores, placed.targets, scale, gradient=False)
        return StepResult(self.engine, totals, placed.predictions, scale, None, final)

    def _losses(self, scores: Array, targets: Any, scale: Any, *, gradient: bool) -> Array:
        """Totals of the loss, of each model; see `_loss`."""
        totals, bias = self.engine.totals(self.models or 0), self.output.params["bias"]
        if not self.models:
            self._loss(scores, targets, totals, scale=scale, bias=bias, gradient=gradient)
            return totals
        for n in range(self.models):
            self._loss(scores[n], targets[n], totals[n], scale=scale[n], bias=bias[n], gradient=gradient)
        return totals

    # -- use -----------------------------------------------------------------------------------------

    def scores(self, x: Array, lengths: Array | None = None) -> Array:
        """What the linear layer gives.

        Parameters
        ----------
        x : ndarray (T, B, I)
        lengths : ndarray (B,), int, optional

        Returns
        -------
        ndarray (B, O), or (T, B, O) of a model that predicts at every step; of many models (N, ...)
            Beyond a sequence's end they mean nothing.
        """
        y, final = self.rnn(self._input(x), None, lengths)
        scores = self.engine.add_row(self._scores(self._features(y, final)), self.output.params["bias"])
        found = np.array(self.engine.download(scores))
        return found.reshape(*y.shape[:-1], -1) if self.per_step else found

    def _input(self, x: Array) -> Array:
        """A user's input in the engine's memory."""
        return self.engine.from_user("x", x, self.dtype)

    def _scores(self, features: Array) -> Array:
        """Scores without the bias, which the loss adds."""
        weight = self.output.params["weight"]
        *_, outputs, _ = weight.shape
        out = self.workspace.get("scores", (*features.shape[:-1], outputs), self.dtype)
        return self.engine.matmul(features, self.engine.transposed(weight), out=out)

    def _features(self, y: Array, final: State) -> Array:
        """What the linear layer reads: (B, D*H), the final hidden states, or (T*B, D*H)."""
        if self.per_step:
            *lead, steps, batch, width = y.shape
            return y.reshape(*lead, steps * batch, width)
        h = final[0] if isinstance(final, tuple) else final
        return self.engine.last_outputs(h, self.rnn.directions)

    def _feature_gradients(self, y: Array, final: State, dfeatures: Array) -> tuple[Array | None, State]:
        """Gradients of the layers' output and final state from that of `_features`."""
        if self.per_step:
            return dfeatures.reshape(y.shape), None
        arrays = final if isinstance(final, tuple) else (final,)
        dh = self.engine.last_outputs_gradient(arrays[0], self.rnn.directions, dfeatures)
        others = [self.engine.zeros(array.shape, array.dtype) for array in arrays[1:]]
        return None, ((dh, *others) if isinstance(final, tuple) else dh)


def label_form(y: Array, axes: int | None) -> str:
    """The shape of labels for a message; see `SequenceModel.check_labels`."""
    return str(y.shape) if axes is None else f"(N, T, {y.shape[-1]})"


def _within(weights: Array | None, labels: Array, lengths: Array | None) -> Array | None:
    """Weights of all steps in a row, (T*B,) or (T*B, M): those of steps, or (B,) of whole sequences; zero
    beyond a sequence's end.
    """
    steps, batch = labels.shape[:2]
    if weights is None and lengths is None:
        return None
    found = np.ones((steps, batch)) if weights is None else np.asarray(weights, np.float64)
    if found.ndim == 1:
        found = np.broadcast_to(found, (steps, batch))
    if lengths is not None:
        inside = np.arange(steps)[:, None] < lengths
        found = np.where(inside.reshape(steps, batch, *[1] * (found.ndim - 2)), found, 0.0)
    return found.reshape(steps * batch, *found.shape[2:])


def _scale(placed: Placed) -> Any:
    """Factor that makes a mean of the summed loss, of the whole batch; 0 where nothing has a weight."""
    if np.ndim(placed.predictions):
        return np.array([placed.fraction / count if count else 0.0 for count in placed.predictions.tolist()])
    return placed.fraction / placed.predictions if placed.predictions else 0.0
