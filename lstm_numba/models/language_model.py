"""A language model: embedding, recurrent layers, and a softmax over the vocabulary, optionally tied.

Dropout follows W. Zaremba, I. Sutskever, O. Vinyals, "Recurrent neural network regularization" (2014): on the
non-recurrent connections only, that is after the embedding, between the layers and before the output. Tied
weights: O. Press, L. Wolf, "Using the output embedding to improve language models" (2017). Dropout of whole
words: Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks"
(2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.engines.dropout_masks import check_probability, whole
from lstm_numba.models.base import (
    Array,
    Model,
    Placed,
    Ready,
    State,
    StepResult,
    TokenBatch,
    random_streams,
)
from lstm_numba.models.network import Network
from lstm_numba.nn.dropout import dropout
from lstm_numba.nn.embedding import Embedding
from lstm_numba.nn.linear import Linear
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.models.network import NetworkOptions


class LanguageModel(Model):
    """Predicts the next token of a text.

    The objective is the cross-entropy summed over time and averaged over the batch, as in the literature.

    Parameters
    ----------
    vocabulary : int
        Number of tokens, V.
    hidden : int
        Hidden units, H.
    embedding : int, optional
        Numbers a token, E; the hidden size if not given.
    tie : bool
        Use the embedding's table as the output's weights; needs E = H.
    embedding_dropout : float
        Probability of dropping a word: all numbers of its vector, wherever it stands in the window. One mask
        a window; tied output weights are not dropped.
    input_dropout : float, optional
        Probability of dropping after the embedding, where it is not `dropout`.
    seed : int, optional
        Seed of weights and dropout.
    device : {"cpu", "cuda"}
        Where the model computes.
    **options
        See `lstm_numba.models.network.Network`. Dropout: see above; the embedding's usual range is
        U(-0.1, 0.1).
    """

    @explicit(Network)
    def __init__(
        self,
        vocabulary: int,
        hidden: int,
        *,
        embedding: int | None = None,
        tie: bool = False,
        embedding_dropout: float = 0.0,
        input_dropout: float | None = None,
        seed: int | None = None,
        device: str = "cpu",
        **options: Unpack[NetworkOptions],
    ) -> None:
        network, streams = Network(hidden, **options), random_streams(seed)
        self.tie = bool(tie)
        width = hidden if embedding is None else embedding
        units = network.proj_size or hidden
        if self.tie and width != units:
            raise ValueError(f"embedding: tied weights need the size of the output, {units}, got {width}")
        self.embedding = Embedding(vocabulary, width, dtype=network.dtype, rng=streams.weights)
        rnn = network.recurrent(width, streams.weights)
        self.output = Linear(units, vocabulary, dtype=network.dtype, rng=streams.weights)
        if self.tie:
            self.output.params["weight"] = self.embedding.params["weight"]
        parts = {"embedding": self.embedding.params, "rnn": rnn.params, "output": self.output.params}
        self.embedding_dropout = check_probability(embedding_dropout, "embedding_dropout")
        sizes = {
            "vocabulary": vocabulary,
            "embedding": width,
            "tie": self.tie,
            "embedding_dropout": self.embedding_dropout,
            "input_dropout": input_dropout,
        }
        super().__init__(network, rnn, parts, streams, device, **sizes)
        self.input_dropout = self._rate("input_dropout", input_dropout)

    def place(
        self, batch: TokenBatch, gradient: bool = True, fixed: bool = False, out: Placed | None = None
    ) -> Placed:
        """See `Model.place`."""
        tokens, targets = (None, None) if out is None else (out.inputs, out.targets)
        weights = None if batch.weights is None else batch.weights.reshape(-1)
        classes = len(self.output.params["weight"])
        return Placed(
            self.embedding.tokens(batch.inputs, gradient=gradient, fixed=fixed, out=tokens),
            self.engine.targets(batch.targets.reshape(-1), weights, classes, targets),
            self.predictions(batch),
        )

    def predictions(self, batch: TokenBatch) -> int:
        """See `Model.predictions`: tokens that are predicted."""
        return int(batch.targets.size if batch.weights is None else np.count_nonzero(batch.weights))

    def learn(self, placed: Placed, state: State = None, ready: Ready | None = None) -> StepResult:
        """Loss, gradients and final state of a window of text, with dropout.

        No gradient flows into `state` (truncated back-propagation
        through time).

        Parameters
        ----------
        placed : Placed
            (T, B) tokens, from `place`.
        state : ndarray or tuple of ndarray, optional
            State at the beginning of the window; zero by default.
        ready : callable, optional
            See `Model.learn`.
        """
        engine, tell = self.engine, _ignore if ready is None else ready
        steps, size = placed.inputs.shape
        x, masks_in = self._drop_input(placed.inputs, self._embed(placed.inputs))
        y, final, tape = self.rnn.forward(x, state, training=True, copy=False)
        y, mask_out = self._drop("mask_out", y, self.output_dropout)
        rows = y.reshape(steps * size, -1)
        scale = placed.fraction / size
        dlogits, totals = self._score(rows, placed, gradient=True, scale=scale)
        grads = self._output_gradients(rows, dlogits)
        tell({name: grads[name] for name in grads if name != "output.weight" or not self.tie})
        weight = self.output.params["weight"]
        dy = engine.matmul(dlogits, weight, out=self.workspace.get("dy", rows.shape, self.dtype))
        dy = dy.reshape(y.shape)
        if mask_out is not None:
            dy = engine.multiply(dy, mask_out, out=dy)
        dx, _, rnn_grads = self.rnn.backward(tape, dy, ready=self._of_rnn(ready))
        for mask in masks_in:
            dx = engine.multiply(dx, mask, out=dx)
        table = engine.row_gradient(placed.inputs, dx, self.embedding.params["weight"].shape)
        if self.tie:
            tied = grads.pop("output.weight")
            engine.add_rows(table, tied)
            grads["embedding.weight"] = tied
        else:
            grads["embedding.weight"] = table
        tell({"embedding.weight": grads["embedding.weight"]})
        grads.update({f"rnn.{name}": gradient for name, gradient in rnn_grads.items()})
        return StepResult(engine, totals, placed.predictions, scale, grads, final)

    def evaluate(self, batch: TokenBatch, state: State = None) -> StepResult:
        """Loss, correct predictions and final state of a window of text, without dropout."""
        placed = self.place(batch, gradient=False)
        steps, size = batch.inputs.shape
        y, final = self.rnn(self._embed(placed.inputs), state)
        _, totals = self._score(y.reshape(steps * size, -1), placed, gradient=False)
        return StepResult(self.engine, totals, placed.predictions, 1.0 / size, None, final)

    def next_logits(self, ids: Array, state: State = None) -> tuple[Array, State]:
        """Logits of the next token.

        Parameters
        ----------
        ids : ndarray (T, B), int
            Tokens to read, T at least 1.
        state : ndarray or tuple of ndarray, optional
            State before the tokens; zero by default.

        Returns
        -------
        logits : ndarray (B, V)
            A NumPy array on any device.
        state : ndarray or tuple of ndarray
            State after the tokens.
        """
        y, final = self.rnn(self.embedding.forward(np.asarray(ids)), state)
        logits = self.output.forward(self.engine.contiguous(y[len(y) - 1]))
        return np.array(self.engine.download(logits)), final

    def gradient_places(self) -> dict[str, str]:
        """See `Model.gradient_places`."""
        return {"embedding.weight" if self.tie else "output.weight": "output.weight"}

    def _facts(self) -> list[str]:
        return ["tied: output.weight is embedding.weight"] if self.tie else []

    def _embed(self, tokens: Any) -> Array:
        out = self.workspace.get("x", (*tokens.shape, self._config["embedding"]), self.dtype)
        return self.engine.take_rows(self.embedding.params["weight"], tokens, out)

    def _drop(self, name: str, x: Array, p: float, out: Array | None = None) -> tuple[Array, Array | None]:
        """Apply dropout, and return the mask, which is stored in the workspace under `name`."""
        if not p:
            return x, None
        mask = self.workspace.get(name, x.shape, self.dtype)
        return dropout(self.engine, self.rng, x, p, self.dropout_kind, out, mask)

    def _drop_input(self, tokens: Any, x: Array) -> tuple[Array, list[Array]]:
        """Drop whole words and then elements of the embedded tokens, in place; and the masks."""
        masks = []
        if self.embedding_dropout:
            masks.append(self._word_mask(tokens, x.shape))
            x = self.engine.multiply(x, masks[0], out=x)
        x, mask = self._drop("mask_in", x, self.input_dropout, x)
        return x, masks if mask is None else [*masks, mask]

    def _word_mask(self, tokens: Any, shape: tuple[int, ...]) -> Array:
        """The mask of dropped words at every place of a window, (T, B, E)."""
        engine, p, (steps, size, width) = self.engine, self.embedding_dropout, shape
        words = len(self.embedding.params["weight"])
        # Words are no rows of a batch: all ranks draw the same ones.
        kept = engine.mask(whole(self.rng), (words, 1), p, self.dtype, 1.0 / (1.0 - p))
        column = self.workspace.get("kept_words", (steps, size, 1), self.dtype)
        column = engine.take_rows(kept, tokens, column).reshape(steps * size, 1)
        out = self.workspace.get("mask_words", (steps * size, width), self.dtype)
        ones = self.workspace.constant("ones", np.ones((1, width), self.dtype))
        return engine.matmul(column, ones, out=out).reshape(shape)  # the column, once for each number

    def _score(
        self, rows: Array, placed: Placed, *, gradient: bool, scale: float = 1.0
    ) -> tuple[Array, Array]:
        """Totals of the rows; the gradient overwrites the logits."""
        weight = self.output.params["weight"]
        logits = self.workspace.get("logits", (rows.shape[0], weight.shape[0]), self.dtype)
        self.engine.matmul(rows, self.engine.transposed(weight), out=logits)
        totals = self.engine.totals()
        bias = self.output.params["bias"]
        self.engine.cross_entropy(logits, placed.targets, totals, scale=scale, bias=bias, gradient=gradient)
        return logits, totals

    def _output_gradients(self, rows: Array, dlogits: Array) -> dict[str, Any]:
        weight, bias = self.output.params["weight"], self.output.params["bias"]
        out = self.workspace.get("output.weight", weight.shape, self.dtype)
        sums = self.workspace.get("output.bias", bias.shape, self.dtype)
        return {
            "output.weight": self.engine.matmul(self.engine.transposed(dlogits), rows, out=out),
            "output.bias": self.engine.column_sums(dlogits, sums),
        }


def _ignore(grads: Any) -> None:
    """Nobody wants to know that gradients are ready."""
