"""A sequence classifier: recurrent layers, a linear layer on their final state, softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstm_numba.models.base import Array
from lstm_numba.models.network import Network
from lstm_numba.models.sequence_model import SequenceModel, label_form
from lstm_numba.nn.losses import softmax
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.models.network import NetworkOptions


class SequenceClassifier(SequenceModel):
    """Predicts the class of a sequence.

    The objective is the cross-entropy averaged over the batch, with the weights of the sequences.

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
    seed : int, or sequence of int, optional
        Seed of weights and dropout.
    models : int, optional
        Many models on a leading axis, see `Recurrent`.
    device : {"cpu", "cuda"}
        Where the model computes.
    **options
        See `lstm_numba.models.network.Network`.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> model = ln.SequenceClassifier(3, 4, 2, cell="lstm", seed=0)
    >>> p = model.probabilities(np.ones((5, 2, 3), np.float32))
    >>> p.shape, bool(np.allclose(p.sum(axis=1), 1))
    ((2, 2), True)
    """

    @explicit(Network)
    def __init__(
        self,
        input_size: int,
        hidden: int,
        classes: int,
        *,
        bidirectional: bool = False,
        seed: int | Sequence[int] | None = None,
        models: int | None = None,
        device: str = "cpu",
        **options: Unpack[NetworkOptions],
    ) -> None:
        super().__init__(
            input_size,
            hidden,
            classes,
            per_step=False,
            bidirectional=bidirectional,
            seed=seed,
            models=models,
            device=device,
            options=options,
            sizes={"classes": classes},
        )

    def logits(self, x: Array, lengths: Array | None = None) -> Array:
        """Logits of the classes, (B, C); arguments as for `scores`."""
        return self.scores(x, lengths)

    def probabilities(self, x: Array, lengths: Array | None = None) -> Array:
        """Probabilities of the classes, (B, C) float64; arguments as for `scores`."""
        return softmax(self.scores(x, lengths))

    @property
    def _label_axes(self) -> int:
        return 1

    def check_labels(self, y: Array, axes: int | None = None) -> None:
        """See `SequenceModel.check_labels`."""
        classes = self._config["classes"]
        expected = f"y: expected classes (N,), whole numbers from 0 to {classes - 1}"
        if (axes or y.ndim) != 1:
            mends = {classes: "; if rows are one-hot, y.argmax(axis=1)", 1: "; y.ravel()"}
            mend = mends.get(y.shape[-1], "") if axes is None and y.ndim == 2 else ""
            raise ValueError(f"{expected}, got numbers of shape {label_form(y, axes)}{mend}")
        if y.dtype.kind == "f":
            raise ValueError(f"{expected}, got {y.dtype}")
        if y.size and not 0 <= y.min() <= y.max() < classes:
            mend = "; y - 1" if (y.min(), y.max()) == (1, classes) else ""
            raise ValueError(f"{expected}, got {y.min()} to {y.max()}{mend}")

    def _targets(self, labels: Array, weights: Array | None, out: Any) -> Any:
        return self.engine.targets(labels, weights, self._config["classes"], out)

    def _loss(
        self, scores: Array, targets: Any, totals: Array, *, scale: float, bias: Array, gradient: bool
    ) -> None:
        self.engine.cross_entropy(scores, targets, totals, scale=scale, bias=bias, gradient=gradient)
