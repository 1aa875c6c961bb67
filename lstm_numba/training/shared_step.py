"""A training step of several ranks: each computes its rows of the batch, and all make the same update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.base import CORRECT, LOSS, TOTALS
from lstm_numba.engines.dropout_masks import RowShare
from lstm_numba.models.base import Model, Placed, State, StepResult
from lstm_numba.optim.optimizers import Optimizer
from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.gradients import GradientSum
from lstm_numba.ranks.nccl import device_sums
from lstm_numba.ranks.shares import Share
from lstm_numba.training.step import TrainingStep


class SharedStep(TrainingStep):
    """`TrainingStep` of one of several ranks.

    Gradients are those of the whole batch's objective and are summed; so are losses, right answers, and
    numbers on which the ranks have to agree. The model draws its rows of the whole batch's dropout masks.

    Parameters
    ----------
    model, optimizer, clip_value, clip, carries_state
        See `TrainingStep`.
    ranks : Ranks

    Attributes
    ----------
    sum : GradientSum
    """

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        clip_value: float | None,
        clip: float | None,
        carries_state: bool,
        ranks: Ranks,
    ) -> None:
        super().__init__(model, optimizer, clip_value, clip, carries_state)
        self._records = None  # a sum between ranks is no part of a recorded step
        self._ranks = ranks
        device = device_sums(ranks, ranks.own_gpu) if model.device == "cuda" else None
        self.sum = GradientSum(ranks, model.engine, model.params, device=device)
        if model.device == "cpu":
            places = self.sum.places()
            for name, here in model.gradient_places().items():
                if name in places:
                    model.workspace.lend(here, places[name])
        self._masks = RowShare(model.rng)
        model.rng = model.rnn.rng = self._masks

    def take(
        self, shares: Iterable[Share], state: State, rate: float, votes: Sequence[float]
    ) -> tuple[StepResult, list[float]]:
        """Take a step.

        Parameters
        ----------
        shares : iterable of Share
            Of the batches of this step, at least one; see `TrainingStep.several`.
        state : ndarray or tuple of ndarray or None
            Initial state of this rank's rows.
        rate : float
            Learning rate.
        votes : sequence of float
            What the ranks have to agree on.

        Returns
        -------
        result : StepResult
            Of the whole batch, the same on all ranks; its state is that of this rank's rows.
        votes : list of float
            Summed over the ranks.
        """
        self.optimizer.lr = rate
        shares = list(shares)
        count = sum(share.predictions for share in shares)
        with np.errstate(all="ignore"):
            if len(shares) == 1:
                self.sum.begin(shares[0].largest)
                placed = self._place(shares[0])
                result = self.model.learn(placed, state, self.sum.ready)
                part = float(placed.fraction > 0)
            else:
                self.sum.begin()
                weighted = ((self._place(one), one.predictions / max(count, 1)) for one in shares)
                result = self._learn_all(weighted, count, state)
                self.sum.ready(result.grads)
                part = 1.0
            own = part * self.model.engine.download(result.totals)
            numbers = np.array([own[LOSS], own[CORRECT], *votes])
            grads = self.sum.finish(numbers)
            result = self._whole(result, count, grads, numbers)
            self._update(result)
        result.fetch()
        return result, numbers[2:].tolist()

    def _place(self, share: Share) -> Placed:
        """A share in the engine's memory; the masks that are drawn next are for it."""
        # Without rows of its own a rank computes one that counts for nothing: its generator goes on alike.
        part = share.part
        self._masks.first, self._masks.stop = (part.first, part.stop) if part.size else (0, 1)
        self._masks.total = part.total
        placed = self.model.place(share.batch)
        mine = placed.predictions if part.size else 0.0
        return placed._replace(fraction=mine / share.predictions if share.predictions else 0.0)

    def _whole(
        self, result: StepResult, count: float, grads: dict[str, Any], numbers: npt.NDArray[np.float64]
    ) -> StepResult:
        """The result of the whole batch, from the sums."""
        engine, totals = self.model.engine, np.zeros(len(TOTALS))
        totals[LOSS], totals[CORRECT] = numbers[:2]
        scale = result.scale or 1.0 / max(count, 1)
        return StepResult(engine, engine.upload(totals), count, scale, grads, result.state)
