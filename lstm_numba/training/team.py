"""What the ranks of a training agree on, and whether they still train the same network."""

from __future__ import annotations

import signal
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_numba.errors import UserError
from lstm_numba.models.base import Model
from lstm_numba.optim.optimizers import Optimizer
from lstm_numba.ranks.base import Ranks
from lstm_numba.training.shared_step import SharedStep
from lstm_numba.training.step import TrainingStep

#: Signals that stop a training, each with a number of its own among the votes.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RanksDiffer(UserError):
    """Ranks have different parameters, which must not happen: their updates are the same."""


class Team:
    """The ranks as the trainer sees them; one that is alone has nothing to agree on.

    A signal may reach some ranks only, and clocks differ: the ranks vote with each step's sums.

    Parameters
    ----------
    ranks : Ranks

    Attributes
    ----------
    signum : int or None
        The signal that stops them all.
    save : bool
        Whether all write a checkpoint after this step: the first one's clock says so.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.signum: int | None = None
        self.save = False
        self._ranks = ranks

    def training_step(
        self,
        model: Model,
        optimizer: Optimizer,
        clip_value: float | None,
        clip: float | None,
        carries_state: bool,
    ) -> TrainingStep:
        """The step that these ranks take."""
        if self._ranks.size == 1:
            return TrainingStep(model, optimizer, clip_value, clip, carries_state)
        return SharedStep(model, optimizer, clip_value, clip, carries_state, self._ranks)

    def votes(self, received: int | None, due: bool) -> list[float]:
        """This rank's, as numbers to be summed.

        Parameters
        ----------
        received : int or None
            A signal that this rank got.
        due : bool
            It is time for a checkpoint.
        """
        return [*(float(received == one) for one in _SIGNALS), float(due and self._ranks.first)]

    def count(self, votes: Sequence[float]) -> None:
        """Take the sums of all votes."""
        *signals, save = votes
        self.signum = next((one for one, number in zip(_SIGNALS, signals, strict=True) if number), None)
        self.save = save > 0

    def agree(self, received: int | None) -> None:
        """Vote on signals outside a step."""
        if self._ranks.size > 1:
            self.count(self._ranks.sum(np.array(self.votes(received, False))).tolist())

    def compare(self, tensors: Mapping[str, Any]) -> None:
        """Compare parameters and the optimizer's state, before they are written.

        Raises
        ------
        RanksDiffer
            On all ranks, if those of one are not the first one's.
        """
        if self._ranks.size == 1:
            return
        digests = self._ranks.gather(np.array([_digest(array) for array in tensors.values()], np.int64))
        for rank, differs in enumerate(digests != digests[0]):
            if differs.any():
                name = list(tensors)[int(np.argmax(differs))]
                raise RanksDiffer(f"rank {rank} has another {name.removeprefix('model.')} than rank 0")


def _digest(array: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
