"""State of a training in a checkpoint: sums, evaluations, the best epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lstm_numba.models.base import State, StepResult
from lstm_numba.ranks.shares import Part
from lstm_numba.training.callbacks import Best, Evaluation
from lstm_numba.training.task import perplexity


@dataclass(frozen=True)
class Sums:
    """Running sums over steps."""

    loss: float = 0.0
    correct: int = 0
    count: float = 0

    def plus(self, result: StepResult) -> Sums:
        """The sums with one more step."""
        return Sums(self.loss + result.loss_sum, self.correct + result.correct, self.count + result.count)

    @classmethod
    def unpack(cls, values: Sequence[Any]) -> Sums:
        """From a checkpoint; raises ValueError or TypeError."""
        loss, correct, count = values
        return cls(float(loss), int(correct), count if isinstance(count, int) else float(count))


def pack_evaluation(result: Evaluation) -> dict[str, Any]:
    """An evaluation without the perplexity, which may overflow in JSON and follows from the loss."""
    values = asdict(result)
    del values["perplexity"]
    if not values["measures"]:
        del values["measures"]
    return values


def unpack_evaluation(values: Mapping[str, Any], metric: str) -> Evaluation:
    """Undo `pack_evaluation`; raises KeyError, ValueError or TypeError."""
    loss, accuracy = float(values["loss"]), values["accuracy"]
    return Evaluation(
        str(values["split"]),
        loss,
        None if accuracy is None else float(accuracy),
        perplexity(loss) if metric == "perplexity" else None,
        int(values["count"]),
        {str(name): float(value) for name, value in values.get("measures", {}).items()},
    )


def unpack_best(values: Sequence[Any] | None) -> Best | None:
    """The best epoch; raises ValueError or TypeError."""
    if values is None:
        return None
    epoch, split, loss = values
    return Best(int(epoch), str(split), float(loss))


def natural(value: Any) -> int:
    """A count; raises ValueError or TypeError."""
    number = int(value)
    if number < 0:
        raise ValueError(f"expected a number from 0, got {number}")
    return number


def rows_of_state(state: State, part: Part) -> State:
    """The rows of a part, of a state of NumPy arrays (layers, B, H)."""
    if state is None or part.size == part.total:
        return state
    arrays = state if isinstance(state, tuple) else (state,)
    found = tuple(np.ascontiguousarray(array[:, part.rows]) for array in arrays)
    return found if isinstance(state, tuple) else found[0]


def check_state(state: State, like: State) -> None:
    """Compare the arrays of a recurrent state with those of another; None fits always.

    Raises
    ------
    ValueError
        Their number, shapes or dtypes differ.
    """
    if state is None:
        return
    ours, theirs = (s if isinstance(s, tuple) else (s,) for s in (state, like))
    found, expected = ([(array.shape, np.dtype(array.dtype)) for array in s] for s in (ours, theirs))
    if found != expected:
        raise ValueError(f"state: expected {expected}, got {found}")
