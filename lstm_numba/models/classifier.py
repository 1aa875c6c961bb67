"""A sequence classifier: recurrent layers, a linear layer on their final state, softmax cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.models.base import (
    Array,
    Model,
    Network,
    Placed,
    SequenceBatch,
    State,
    StepResult,
    random_streams,
)
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.losses import softmax


class SequenceClassifier(Model):
    """Predicts the class of a sequence.

    The linear layer sees the last layer's hidden state at the end of the sequence (at each sequence's own
    end, with lengths), both directions concatenated. The objective is the cross-entropy averaged over the
    batch.

    Parameters
    ----------
    input_size : int
        Features of a step, I.
    hidden : int
        Hidden units, H.
    classes : int
        Number of classes, C.
    bidirectional : bool
        Read in both directions.
    seed : int, optional
        Seed of weights and dropout.
    device : {"cpu", "cuda"}
        Where the model computes.
    **options
        See `lstm_numba.models.base.Network`.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        classes: int,
        *,
        bidirectional: bool = False,
        seed: int | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        network, streams = Network(hidden, **options), random_streams(seed)
        rnn = network.recurrent(input_size, streams.weights, bidirectional)
        self.output = Linear(rnn.output_size * rnn.directions, classes, dtype=rnn.dtype, rng=streams.weights)
        parts = {"rnn": rnn.params, "output": self.output.params}
        sizes = {"input_size": input_size, "classes": classes, "bidirectional": rnn.bidirectional}
        super().__init__(network, rnn, parts, streams, device, **sizes)

    def place(
        self, batch: SequenceBatch, gradient: bool = True, fixed: bool = False, out: Placed | None = None
    ) -> Placed:
        """See `Model.place`."""
        x, targets = (None, None) if out is None else (out.inputs, out.targets)
        x = self._input(batch.x) if x is None else self.engine.upload(batch.x, x)
        labels = self.engine.targets(batch.labels, None, self._config["classes"], targets)
        return Placed(x, labels, len(batch.labels), batch.lengths)

    def learn(self, placed: Placed, state: State = None) -> StepResult:
        """Loss, correct predictions and gradients of a batch, with dropout.

        Parameters
        ----------
        placed : Placed
            From `place`.
        state : ndarray or tuple of ndarray, optional
            Initial state; zero by default.
        """
        engine, weight = self.engine, self.output.params["weight"]
        _, final, tape = self.rnn.forward(placed.inputs, state, placed.lengths, training=True, copy=False)
        features = self._features(final)
        mask = None
        if self.dropout:
            features, mask = engine.dropout(self.rng, features, self.dropout)
        size = placed.predictions
        dlogits, totals = self._logits(features), engine.totals()
        bias = self.output.params["bias"]
        engine.cross_entropy(dlogits, placed.targets, totals, scale=1.0 / size, bias=bias)
        dfeatures = engine.matmul(dlogits, weight)
        if mask is not None:
            dfeatures = engine.multiply(dfeatures, mask, out=dfeatures)
        dstate = self._state_gradient(final, dfeatures)
        _, _, rnn_grads = self.rnn.backward(tape, None, dstate, input_gradient=False)
        grads: dict[str, Any] = {f"rnn.{name}": gradient for name, gradient in rnn_grads.items()}
        grads["output.weight"] = engine.matmul(engine.transposed(dlogits), features)
        grads["output.bias"] = engine.column_sums(dlogits)
        return StepResult(engine, totals, size, 1.0 / size, grads, final)

    def evaluate(self, batch: SequenceBatch, state: State = None) -> StepResult:
        """Loss and correct predictions of a batch, without dropout."""
        engine, placed = self.engine, self.place(batch, gradient=False)
        _, final = self.rnn(placed.inputs, state, placed.lengths)
        totals, size = engine.totals(), placed.predictions
        logits, bias = self._logits(self._features(final)), self.output.params["bias"]
        engine.cross_entropy(logits, placed.targets, totals, bias=bias, gradient=False)
        return StepResult(engine, totals, size, 1.0 / size, None, final)

    def logits(self, x: Array, lengths: Array | None = None) -> Array:
        """Logits of the classes.

        Parameters
        ----------
        x : ndarray (T, B, I)
        lengths : ndarray (B,), int, optional

        Returns
        -------
        ndarray (B, C)
        """
        _, final = self.rnn(self._input(x), None, lengths)
        logits = self.engine.add_row(self._logits(self._features(final)), self.output.params["bias"])
        return np.array(self.engine.download(logits))

    def probabilities(self, x: Array, lengths: Array | None = None) -> Array:
        """Probabilities of the classes, (B, C) float64; arguments as for `logits`."""
        return softmax(self.logits(x, lengths))

    def _input(self, x: Array) -> Array:
        """A user's input in the engine's memory."""
        return self.engine.from_user("x", x, self.dtype)

    def _logits(self, features: Array) -> Array:
        """Logits without the bias, which the loss adds."""
        shape = (len(features), self._config["classes"])
        out = self.workspace.get("logits", shape, self.dtype)
        weight = self.engine.transposed(self.output.params["weight"])
        return self.engine.matmul(features, weight, out=out)

    def _features(self, final: State) -> Array:
        """The last layer's final hidden states, directions concatenated: (B, D*H)."""
        h = final[0] if isinstance(final, tuple) else final
        return self.engine.last_outputs(h, self.rnn.directions)

    def _state_gradient(self, final: State, dfeatures: Array) -> State:
        """Gradient of the final state from that of `_features`, structured like the state."""
        arrays = final if isinstance(final, tuple) else (final,)
        dh = self.engine.last_outputs_gradient(arrays[0], self.rnn.directions, dfeatures)
        others = [self.engine.zeros(array.shape, array.dtype) for array in arrays[1:]]
        return (dh, *others) if isinstance(final, tuple) else dh
