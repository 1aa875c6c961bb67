"""Shared by all formats: a layer from parameters under PyTorch's names, checks, the name of a layer's cell.

Names and shapes are those of ``torch.nn.LSTM``, ``GRU`` and ``RNN``; ``weight_ph`` (peepholes) is our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import CELLS, GROUPED, display_name, find_cell
from lstm_numba.cells.parameters import stack_shapes
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.nn.layers import GRU, LSTM, RNN, PeepholeLSTM, make_layer
from lstm_numba.nn.recurrent import Recurrent

_NAME = re.compile(r"(weight_ih|weight_hh|weight_ph|weight_hr|bias_ih|bias_hh)_l(0|[1-9]\d{0,4})(_reverse)?")
#: Number of gates -> the default cell, that of PyTorch's modules.
_BY_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_CLASSES: dict[str, Any] = {
    "rnn": RNN,
    "rnn-relu": partial(RNN, nonlinearity="relu"),
    "lstm": LSTM,
    "lstm-projected": LSTM,
    "peephole": PeepholeLSTM,
    "gru": GRU,
    "gru-reset-before": partial(GRU, reset_after=False),
}


class Sizes(NamedTuple):
    """Sizes of stacked layers; `projected` is 0 without a projection."""

    inputs: int
    hidden: int
    layers: int
    directions: int
    projected: int

    @property
    def outputs(self) -> int:
        """Width of the output of all directions."""
        return (self.projected or self.hidden) * self.directions


class Description(NamedTuple):
    """What parameters are of."""

    cell: str
    sizes: Sizes
    bias: bool
    dtype: np.dtype[Any]


def cell_name(rnn: Recurrent, weights_only: bool = False) -> str:
    """The name in `lstm_numba.cells.CELLS` of a layer's cell.

    Parameters
    ----------
    rnn : Recurrent
    weights_only : bool
        Whatever the layer computes with the cell's weights, such as zoneout's expectation.

    Raises
    ------
    WeightsError
        The cell is not one of the library's, there are several heads, or groups of periods.
    """
    given: Any = rnn
    if not isinstance(given, Recurrent):
        more = (
            "; save_weights writes a whole model"
            if isinstance(getattr(given, "rnn", None), Recurrent)
            else ""
        )
        raise TypeError(f"rnn: expected a recurrent layer, got {type(given).__name__}{more}")
    if rnn.heads > 1:
        raise WeightsError(f"rnn: expected one head, which all formats have, got heads={rnn.heads}")
    if hasattr(rnn, "periods"):
        raise WeightsError("rnn: no format has a ClockworkRNN; save its state_dict")
    own = rnn.plain_cell if weights_only else rnn.cell
    for name, cell in CELLS.items():
        if type(cell) is type(own):  # cells without fields are all equal
            return name
    if rnn.cell.key.startswith(f"{rnn.plain_cell.key}|"):
        raise WeightsError(f"rnn: expected no zoneout, which no other format has, got {rnn.zoneout}")
    raise WeightsError(f"rnn: {display_name(rnn.cell)} is neither a cell of this library nor registered")


def build(
    params: Mapping[str, Any],
    where: str,
    cell: str | None = None,
    *,
    allow_nonfinite: bool = False,
    **options: Any,
) -> Recurrent:
    """Make a layer from parameters; sizes, layers, directions and mostly the cell follow from them.

    Parameters
    ----------
    params : mapping of str to array_like
        PyTorch's names -> arrays: ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``,
        ``bias_hh_l0`` (G*H,), ``weight_ph_l0`` (3*H,); suffix ``_reverse`` for the second direction.
    where : str
        File or argument that they come from, for messages.
    cell : str, optional
        Cell, as `lstm_numba.nn.layers.make_layer` takes it. By default PyTorch's for the number of gates
        (1: RNN with tanh, 3: GRU with reset after the product, 4: LSTM), with ``weight_ph`` peephole LSTM,
        with ``weight_hr`` an LSTM with `proj_size`.
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.
    **options
        ``batch_first``, ``dropout``, ``device``, ``seed`` of the layer.

    Returns
    -------
    Recurrent
        With exactly these weights; float64 if any of them is.

    Raises
    ------
    WeightsError
        Names or shapes are not those of a layer of this cell.
    """
    arrays = {
        name: as_float(name, value, where, finite=not allow_nonfinite) for name, value in params.items()
    }
    name, sizes, bias, dtype = describe(arrays, where, cell)
    rnn: Recurrent = _CLASSES.get(name, partial(make_layer, name))(
        sizes.inputs,
        sizes.hidden,
        sizes.layers,
        bias=bias,
        bidirectional=sizes.directions == 2,
        dtype=dtype,
        **({"proj_size": sizes.projected} if sizes.projected else {}),
        **options,
    )
    rnn.load_state_dict(arrays)
    return rnn


def describe(arrays: Mapping[str, Array], where: str, cell: str | None = None) -> Description:
    """What parameters are of, as `build` finds it, from their names and shapes alone.

    Raises
    ------
    WeightsError
        Names or shapes are not those of a layer of this cell.
    """
    sizes = _sizes(arrays, where)
    name = _choose(arrays, sizes, cell, where)
    bias = any(key.startswith("bias_") for key in arrays)
    _check(arrays, name, sizes, bias, where)
    return Description(name, sizes, bias, np.result_type(*arrays.values()))


def _sizes(arrays: Mapping[str, Array], where: str) -> Sizes:
    """Sizes from the names and the shapes of the first layer."""
    layers, reverse = set(), False
    for name in arrays:
        found = _NAME.fullmatch(name)
        if found is None:
            raise WeightsError(f"{where}: {name}: unknown name")
        layers.add(int(found[2]))
        reverse |= found[3] is not None
    projection = "weight_hr_l0" if any("weight_hr" in name for name in arrays) else "weight_hh_l0"
    for name in ("weight_ih_l0", "weight_hh_l0", projection):
        if name not in arrays:
            raise WeightsError(f"{where}: {name} is missing")
        if arrays[name].ndim != 2 or 0 in arrays[name].shape:
            raise WeightsError(f"{where}: {name}: expected a matrix, got shape {arrays[name].shape}")
    if len(layers) != max(layers) + 1:
        gap = min(set(range(max(layers))) - layers)
        raise WeightsError(f"{where}: layer {gap} is missing, there is a layer {max(layers)}")
    units, hidden = arrays["weight_hh_l0"].shape[1], arrays[projection].shape[1]
    inputs, directions = arrays["weight_ih_l0"].shape[1], 2 if reverse else 1
    return Sizes(inputs, hidden, len(layers), directions, units if projection == "weight_hr_l0" else 0)


def _choose(arrays: Mapping[str, Array], sizes: Sizes, cell: str | None, where: str) -> str:
    """The name of the cell; a requested one must have the right number of gates."""
    if cell in GROUPED:
        raise WeightsError(f"cell: no format has the groups of {cell}")
    if cell is not None:
        try:
            find_cell(cell)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"cell: {str(error).removeprefix('name: ')}") from None
    rows, hidden = len(arrays["weight_hh_l0"]), sizes.hidden
    gates, rest = divmod(rows, hidden)
    if rest or (cell is None and gates not in _BY_GATES):
        expected = "1, 3 or 4" if cell is None else len(CELLS[cell].recurrent_gates)
        raise WeightsError(
            f"{where}: weight_hh_l0: expected {expected} gates of {hidden} rows, got shape {(rows, hidden)}"
        )
    if sizes.projected and cell in (None, "lstm"):
        cell = "lstm-projected"
    name = cell or ("peephole" if gates == 4 and "weight_ph_l0" in arrays else _BY_GATES[gates])
    expected = len(CELLS[name].recurrent_gates)
    if expected != gates:
        raise WeightsError(f"{where}: {name} has {expected} gates, weight_hh_l0 has {gates}")
    return name


def _check(arrays: Mapping[str, Array], name: str, sizes: Sizes, bias: bool, where: str) -> None:
    """Check all names and shapes before anything is allocated."""
    expected = stack_shapes(CELLS[name], *sizes[:4], bias, projected=sizes.projected or None)
    for key, shape in expected.items():
        if key not in arrays:
            raise WeightsError(f"{where}: {key} is missing")
        if arrays[key].shape != shape:
            raise WeightsError(f"{where}: {key}: expected shape {shape}, got {arrays[key].shape}")
    unknown = sorted(arrays.keys() - expected.keys())
    if unknown:
        raise WeightsError(f"{where}: {unknown[0]}: {name} has no such parameter")
