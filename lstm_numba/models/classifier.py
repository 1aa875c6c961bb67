"""A sequence classifier: recurrent layers, a linear layer on their final state, softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.dropout_masks import check_probability
from lstm_numba.models.base import Array, Model, Placed, SequenceBatch, State, StepResult, random_streams
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.losses import softmax
from lstm_numba.nn.recurrent import make_layer


class SequenceClassifier(Model):
    """Classifies sequences.

    The linear layer reads the last recurrent layer's final hidden state (with lengths, that after each
    sequence's last step), directions concatenated. The objective is the mean cross-entropy of the batch.

    Parameters
    ----------
    input_size : int
        Features of a step, I.
    hidden : int
        Hidden units, H.
    classes : int
        Number of classes, C.
    cell : str
        One of `lstm_numba.nn.recurrent.CELL_NAMES`.
    layers : int
        Recurrent layers.
    bidirectional : bool
        Whether each layer reads in both directions.
    dropout : float
        Dropout probability between the layers and before the linear layer.
    init_range : float, optional
        Draw every parameter from U(-init_range, init_range) instead of PyTorch's ranges.
    forget_bias : float
        Added to the initial biases of the forget gates.
    dtype : float32 or float64
    seed : int, optional
        Seed of weights and dropout.
    device : {"cpu", "cuda"}
        Where the parameters are stored and the model computes.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        classes: int,
        *,
        cell: str = "lstm",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        init_range: float | None = None,
        forget_bias: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
        device: str = "cpu",
    ) -> None:
        streams = random_streams(seed)
        self.dropout = check_probability(dropout)
        rnn = make_layer(
            cell,
            input_size,
            hidden,
            layers,
            bidirectional=bidirectional,
            dropout=self.dropout,
            dtype=dtype,
            seed=streams.weights,
        )
        self.output = Linear(hidden * rnn.directions, classes, dtype=rnn.dtype, rng=streams.weights)
        super().__init__(rnn, {"rnn": rnn.params, "output": self.output.params}, streams)
        self._initialise(init_range, forget_bias, streams.weights)
        self.to(device)
        self._config = {
            "input_size": input_size,
            "hidden": hidden,
            "classes": classes,
            "cell": cell,
            "layers": layers,
            "bidirectional": bool(bidirectional),
            "dropout": self.dropout,
            "init_range": init_range,
            "forget_bias": forget_bias,
            "dtype": self.dtype.name,
        }

    def config(self) -> dict[str, Any]:
        """See `Model.config`."""
        return dict(self._config)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], seed: int | None = None, device: str = "cpu"
    ) -> SequenceClassifier:
        """Make a classifier from a result of `config`."""
        return cls(**config, seed=seed, device=device)

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
