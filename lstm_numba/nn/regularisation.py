"""Zoneout and dropout inside a recurrent step: which cell computes it, and the masks that it is given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import display_name
from lstm_numba.cells.wrappers import CANDIDATE_MASK, RECURRENT_MASK, update_mask, wrap
from lstm_numba.engines.base import Array, Engine
from lstm_numba.engines.dropout_masks import check_probability

#: Kinds of recurrent dropout.
KINDS = ("sequence", "candidate")


class Regularisation(NamedTuple):
    """Options of a layer; made by `read`.

    Attributes
    ----------
    zoneout : tuple of float
        Probability of keeping each state; empty if all are 0.
    dropout : float
        Of the recurrent operand or of the candidate.
    kind : str
        One of `KINDS`.
    """

    zoneout: tuple[float, ...]
    dropout: float
    kind: str

    @classmethod
    def read(cls, cell: Any, zoneout: Any, dropout: Any, kind: Any) -> Regularisation:
        """Check the options of a layer of this cell.

        Raises
        ------
        ValueError
            One is out of range, or does not fit the cell.
        """
        several = isinstance(zoneout, (tuple, list))
        values = tuple(zoneout) if several else (zoneout,) * len(cell.states)
        if len(values) != len(cell.states):
            raise ValueError(
                f"zoneout: expected a probability, or one for each of {', '.join(cell.states)}, "
                f"got {len(values)}"
            )
        values = tuple(check_probability(p, "zoneout") for p in values)
        if kind not in KINDS:
            raise ValueError(f"recurrent_dropout_kind: expected {' or '.join(KINDS)}, got {kind!r}")
        found = cls(values if any(values) else (), check_probability(dropout, "recurrent_dropout"), kind)
        if found.dropout and kind == "candidate":
            try:
                found.cell(cell, training=True)
            except ValueError:
                raise ValueError(
                    f"recurrent_dropout_kind: {display_name(cell)} has no candidate; expected sequence"
                ) from None
        return found

    @property
    def draws(self) -> bool:
        """Whether there are masks in training."""
        return bool(self.zoneout or self.dropout)

    def cell(self, cell: Any, training: bool, resets: str = "") -> Any:
        """The cell that computes a call.

        Parameters
        ----------
        cell : Cell
            Without anything around it.
        training : bool
            With masks; else with zoneout's expectation, if with anything.
        resets : str
            To what the states are reset, "zeros" or "initial"; empty for no resets.
        """
        if not training:
            return wrap(cell, zoneout=self.zoneout, resets=resets)
        return wrap(
            cell,
            zoneout_masks=tuple(p > 0 for p in self.zoneout),
            recurrent_mask=self.dropout > 0 and self.kind == "sequence",
            candidate_mask=self.dropout > 0 and self.kind == "candidate",
            resets=resets,
        )

    def draw(
        self,
        engine: Engine,
        rng: np.random.Generator,
        states: tuple[str, ...],
        shape: tuple[int, int],
        sizes: tuple[int, int],
        dtype: np.dtype[Any],
    ) -> dict[str, Array]:
        """Draw the masks of one layer, direction and head.

        First zoneout's (T, B, units), for each state that has one, then that of the dropout, (1, B, units of
        the first state) or (T, B, H).

        Parameters
        ----------
        engine : Engine
        rng : Generator
        states : tuple of str
            Of the cell without anything around it.
        shape : tuple of int
            (T, B).
        sizes : tuple of int
            Units of the first state, and of the others: H.
        dtype : dtype
        """
        masks = {
            update_mask(state): engine.mask(rng, (*shape, sizes[min(n, 1)]), p, dtype)
            for n, (state, p) in enumerate(zip(states, self.zoneout, strict=bool(self.zoneout)))
            if p
        }
        if self.dropout:
            kept = 1.0 / (1.0 - self.dropout)
            if self.kind == "sequence":
                masks[RECURRENT_MASK] = engine.mask(rng, (1, shape[1], sizes[0]), self.dropout, dtype, kept)
            else:
                masks[CANDIDATE_MASK] = engine.mask(rng, (*shape, sizes[1]), self.dropout, dtype, kept)
        return masks
