"""What every model can be told of its recurrent layers and parameters."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from lstm_numba.cells import CELLS, display_name, find_cell
from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.nn.layers import make_layer
from lstm_numba.nn.many import Generators
from lstm_numba.nn.recurrent import Recurrent


class Network(NamedTuple):
    """What every model can be told of its recurrent layers and parameters.

    Parameters
    ----------
    hidden : int
        Hidden units, H.
    cell : str
        As `lstm_numba.make_layer` takes it.
    layers : int
        Recurrent layers.
    dropout : float
        Probability of dropping between the layers and before the output.
    dropout_kind : {"element", "sequence"}
        A new mask for each element and step, or one for all steps of a sequence, see `Recurrent`.
    output_dropout : float, optional
        Probability of dropping before the output, where it is not `dropout`.
    weight_drop : float
        Probability of dropping an element of the recurrent weights, see `Recurrent`.
    zoneout, zoneout_cell : float
        Probability that a unit keeps its output, and the other states; the latter as the former if not given.
    recurrent_dropout, recurrent_dropout_kind, proj_size, heads
        See `Recurrent`.
    periods : str
        Of a `ClockworkRNN`, such as "1,2,4,8".
    bias : bool
        Whether the recurrent layers have biases.
    init : str
        Initial weights of the recurrent layers, see `lstm_numba.nn.initial_weights`.
    init_range : float, optional
        Draw every parameter from U(-init_range, init_range) instead of each layer's usual range; beside
        `init` "uniform" only.
    forget_bias : float
        Added to the initial biases of the forget gates.
    dtype : float32 or float64
    """

    hidden: int
    cell: str = "lstm"
    layers: int = 1
    dropout: float = 0.0
    dropout_kind: str = "element"
    output_dropout: float | None = None
    weight_drop: float = 0.0
    zoneout: float = 0.0
    zoneout_cell: float | None = None
    recurrent_dropout: float = 0.0
    recurrent_dropout_kind: str = "sequence"
    proj_size: int | None = None
    heads: int = 1
    periods: str | None = None
    bias: bool = True
    init: str = "uniform"
    init_range: float | None = None
    forget_bias: float = 0.0
    dtype: npt.DTypeLike = np.float32

    @classmethod
    def of(cls, rnn: Recurrent) -> Network:
        """The options with which `recurrent` makes such layers; `batch_first` apart, which no model has.

        Raises
        ------
        ValueError
            There are none: no name says which cell it is, or zoneout differs among states after the first.
        """
        chances = rnn.zoneout if isinstance(rnn.zoneout, (tuple, list)) else (rnn.zoneout,) * 2
        if len(set(chances[1:])) > 1:
            raise ValueError(f"rnn: expected one zoneout of all states but the first, got {rnn.zoneout}")
        return cls(
            rnn.hidden_size,
            cell=_name_of(rnn),
            layers=rnn.num_layers,
            dropout=rnn.dropout,
            dropout_kind=rnn.dropout_kind,
            weight_drop=rnn.weight_drop,
            zoneout=chances[0],
            zoneout_cell=chances[1] if len(set(chances)) > 1 else None,
            recurrent_dropout=rnn.recurrent_dropout,
            recurrent_dropout_kind=rnn.recurrent_dropout_kind,
            proj_size=rnn.proj_size or None,
            heads=rnn.heads,
            periods=",".join(map(str, rnn.periods)) if isinstance(rnn, ClockworkRNN) else None,
            bias=rnn.bias,
            dtype=rnn.dtype,
        )

    def recurrent(self, input_size: int, rng: Generators, bidirectional: bool = False) -> Recurrent:
        """Make the recurrent layers, of many models by a list of generators."""
        others = self.zoneout if self.zoneout_cell is None else self.zoneout_cell
        zoneout = (self.zoneout, *[others] * (len(find_cell(self.cell).states) - 1))
        options: dict[str, Any] = {
            "weight_drop": self.weight_drop,
            "zoneout": zoneout if any(zoneout) else 0.0,
            "recurrent_dropout": self.recurrent_dropout,
            "proj_size": self.proj_size or 0,
            "heads": 0 if self.heads == 1 else self.heads,
            "periods": tuple(map(int, self.periods.split(","))) if self.periods else (),
            "models": len(rng) if isinstance(rng, list) else 0,
        }
        options = {name: value for name, value in options.items() if value}  # not all layers have all of them
        if self.dropout_kind != "element":
            options["dropout_kind"] = self.dropout_kind
        if self.recurrent_dropout:
            options["recurrent_dropout_kind"] = self.recurrent_dropout_kind
        return make_layer(
            self.cell,
            input_size,
            self.hidden,
            self.layers,
            bias=self.bias,
            bidirectional=bidirectional,
            dropout=self.dropout,
            init=self.init,
            dtype=self.dtype,
            seed=rng,
            **options,
        )


def _name_of(rnn: Recurrent) -> str:
    """What `make_layer` calls a layer's cell, projected or not."""
    if isinstance(rnn, ClockworkRNN):
        return "clockwork"
    cell = rnn.plain_cell
    key: str = getattr(cell, "key", "")
    if type(CELLS.get(key)) is not type(cell):
        raise ValueError(f"rnn: expected a registered cell, which a model can name, got {display_name(cell)}")
    return key.removesuffix("-projected") if rnn.proj_size else key


class NetworkOptions(TypedDict, total=False):
    """The fields of `Network` that have a default, for type checkers.

    A signature with ``**options`` shows them nothing else: a test compares both.
    """

    cell: str
    layers: int
    dropout: float
    dropout_kind: str
    output_dropout: float | None
    weight_drop: float
    zoneout: float
    zoneout_cell: float | None
    recurrent_dropout: float
    recurrent_dropout_kind: str
    proj_size: int | None
    heads: int
    periods: str | None
    bias: bool
    init: str
    init_range: float | None
    forget_bias: float
    dtype: npt.DTypeLike
