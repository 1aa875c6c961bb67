"""What a training in memory has reached, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class History(Mapping[str, list[float]]):
    """Numbers of each epoch, by name: ``loss``, ``valid_loss``, ``accuracy``, ``lr``, ``seconds``, ...

    Attributes
    ----------
    epochs : list of dict
        One dictionary an epoch.
    best_epoch : int
        Epoch of the lowest watched loss, from 1; 0 before the first.
    best_loss : float
        That loss: on the validation data, if there are any.
    stopped_early : bool
        The loss had stopped improving.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_loss = float("inf")
        self.stopped_early = False

    def note(self, loss: float, tol: float) -> bool:
        """Note the watched loss of the last epoch; whether it is lower than the best by more than `tol`."""
        if self.best_epoch and not loss < self.best_loss - tol:
            return False
        self.best_loss, self.best_epoch = loss, len(self.epochs)
        return True

    def __getitem__(self, name: str) -> list[float]:
        if not any(name in epoch for epoch in self.epochs):
            raise KeyError(name)
        return [epoch.get(name, float("nan")) for epoch in self.epochs]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def __len__(self) -> int:
        return len(dict.fromkeys(name for epoch in self.epochs for name in epoch))

    def __repr__(self) -> str:
        done = f"{len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'}"
        best = f", best loss {self.best_loss:.4g} in epoch {self.best_epoch}" if self.epochs else ""
        return f"History({done}{best}{', stopped early' if self.stopped_early else ''})"

    def to_frame(self) -> Any:
        """The numbers as a pandas DataFrame, one row an epoch, counted from 1.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("a DataFrame needs pandas: pip install 'lstm_numba[tables]'") from None
        index = pd.RangeIndex(1, len(self.epochs) + 1, name="epoch")
        return pd.DataFrame(dict(self), index=index)
