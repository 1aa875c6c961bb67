"""Keras weights: lists of arrays as returned by ``layer.get_weights()``.

Each layer and direction has the arrays of `lstm_numba.interop.files.keras.layout`. ``Bidirectional`` lists
the forward layer, then the backward one: keras/src/layers/rnn/bidirectional.py.

Where Keras has one bias, it is read as ``bias_ih`` with ``bias_hh`` zero, and written as the sum of the two.
Weights from Keras therefore survive a round trip exactly, others up to the rounding of that sum.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba.cells.parameters import suffix
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.gates import reorder_gates
from lstm_numba.interop.files.keras.layout import ORDER, PARTS, find_cell, renamed
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.options import Options
from lstm_numba.interop.selection import known_cell
from lstm_numba.interop.state_dict import build, cell_name
from lstm_numba.interop.weights_file import write_arrays
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.interop.options import LayerOptions

_FILE_NAME = re.compile(r"l(0|[1-9]\d{0,4})\.(backward\.)?(kernel|recurrent_kernel|bias)")


def to_keras(rnn: Recurrent) -> list[list[Array]]:
    """Convert a layer's weights to Keras weight lists.

    Parameters
    ----------
    rnn : Recurrent

    Returns
    -------
    list of list of ndarray
        For every layer the argument of ``set_weights`` of Keras' ``LSTM``, ``GRU(reset_after=...)`` or
        ``SimpleRNN``, or of a ``Bidirectional`` around it.

    Raises
    ------
    WeightsError
        Keras has no such cell (peepholes).
    """
    name = cell_name(rnn)
    if name not in ORDER:
        raise WeightsError(f"rnn: Keras has no layer for the cell {name}")
    order, state = ORDER[name], rnn.state_dict()
    layers = []
    for layer in range(rnn.num_layers):
        weights = []
        for end in (suffix(layer, direction) for direction in range(rnn.directions)):
            weights += [reorder_gates(state[key + end], order).T.copy() for key in ("weight_ih", "weight_hh")]
            if rnn.bias:
                b_ih, b_hh = (reorder_gates(state[key + end], order) for key in ("bias_ih", "bias_hh"))
                # Adding 0 would turn -0 into 0.
                weights.append(
                    np.stack([b_ih, b_hh]) if name == "gru" else np.where(b_hh == 0, b_ih, b_ih + b_hh)
                )
        layers.append(weights)
    return layers


@explicit(Options)
def from_keras(
    weights: Sequence[Any],
    *,
    cell: str | None = None,
    bidirectional: bool | None = None,
    **options: Unpack[LayerOptions],
) -> Recurrent:
    """Make a layer from Keras weight lists.

    Parameters
    ----------
    weights : sequence of ndarray, or sequence of such sequences
        Result of ``get_weights``: two or three arrays for a layer, twice as many for a bidirectional one; or
        such a list for every stacked layer.
    cell : str, optional
        "lstm", "gru" (``reset_after=True``, Keras' default), "gru-reset-before", "rnn" (tanh) or "rnn-relu";
        by default the one that the numbers of gates and biases mean in Keras.
    bidirectional : bool, optional
        Whether each layer has two directions; by default inferred from the number of arrays.
    **options
        ``batch_first``, ``device``, ``seed`` and what a layer drops in training (``dropout``,
        ``weight_drop``, ``zoneout``, ``recurrent_dropout``, ``recurrent_dropout_kind``), see
        `lstm_numba.Recurrent`.

    Returns
    -------
    Recurrent

    Raises
    ------
    WeightsError
        The arrays are not weights of such layers.
    """
    return _from_layers(weights, "weights", cell, bidirectional, {**options})


def _from_layers(
    weights: Sequence[Any],
    where: str,
    cell: str | None,
    bidirectional: bool | None,
    options: dict[str, Any],
) -> Recurrent:
    if len(weights) and not isinstance(weights[0], (list, tuple)):
        weights = [weights]
    if cell is not None and cell not in ORDER:
        raise WeightsError(f"cell: expected one of {', '.join(ORDER)}, got {cell!r}")
    params: dict[str, Array] = {}
    for number, layer in enumerate(weights):
        count = len(layer)
        if count not in (2, 3, 4, 6):
            raise WeightsError(f"{where}: layer {number}: expected 2, 3, 4 or 6 arrays, got {count}")
        both = count > 3 if bidirectional is None else bidirectional
        if both != (count > 3):
            raise WeightsError(
                f"{where}: layer {number}: {count} arrays are not of {1 + both} direction{'s' * both}"
            )
        size = count // 2 if both else count
        for direction in range(1 + both):
            label = f"layer {number}{' backward' * direction} "
            arrays = [
                as_float(label + part, value, where)
                for part, value in zip(PARTS, layer[direction * size :][:size], strict=False)
            ]
            cell = find_cell(arrays, cell, label, where)
            end = suffix(number, direction)
            params.update({key + end: value for key, value in renamed(arrays, cell, label, where).items()})
    return build(params, where, cell, **options)


def save_keras(rnn: Recurrent, path: str | os.PathLike[str]) -> None:
    """Write a layer's Keras weights to a file, as ``l0.kernel``, ``l0.backward.bias`` and so on.

    Parameters
    ----------
    rnn : Recurrent
    path : path
        Ending in ``.npz`` or ``.safetensors``.

    Raises
    ------
    WeightsError
        Keras has no such cell, or the file has another suffix.
    OSError
        The file cannot be written.
    """
    arrays = {}
    size = 3 if rnn.bias else 2
    for layer, weights in enumerate(to_keras(rnn)):
        for n, array in enumerate(weights):
            arrays[f"l{layer}." + "backward." * (n // size) + PARTS[n % size]] = array
    write_arrays(Path(path), arrays, cell_name(rnn))


@explicit(Options)
def load_keras(
    path: str | os.PathLike[str], *, cell: str | None = None, **options: Unpack[LayerOptions]
) -> Recurrent:
    """Make a layer from a file of `save_keras`.

    Parameters
    ----------
    path : path
    cell : str, optional
        See `from_keras`; by default the one that the file names.
    **options
        ``batch_first``, ``device``, ``seed`` and what a layer drops in training (``dropout``,
        ``weight_drop``, ``zoneout``, ``recurrent_dropout``, ``recurrent_dropout_kind``), see
        `lstm_numba.Recurrent`.

    Returns
    -------
    Recurrent

    Raises
    ------
    WeightsError
        The file is missing, damaged or holds something else; the message names it.
    """
    contents = read_contents(path)
    cell = cell or known_cell(path, contents.cells.get(""))
    return layer_from_lists(contents.tensors, str(path), cell, **options)


def has_keras_names(names: Iterable[str]) -> bool:
    """Whether any of the names is one of `save_keras`."""
    return any(_FILE_NAME.fullmatch(name) for name in names)


def layer_from_lists(tensors: Mapping[str, Array], where: str, cell: str | None, **options: Any) -> Recurrent:
    """Make a layer from the arrays in a file of `save_keras`; see `load_keras`."""
    found: dict[tuple[int, bool], dict[str, Array]] = {}
    for name, array in tensors.items():
        match = _FILE_NAME.fullmatch(name)
        if match is None:
            raise WeightsError(f"{where}: {name[:80]}: unknown name")
        found.setdefault((int(match[1]), match[2] is not None), {})[match[3]] = array
    layers: list[list[Array]] = []
    for (layer, backward), parts in sorted(found.items()):
        label = f"l{layer}.{'backward.' * backward}"
        for part in PARTS[:2]:
            if part not in parts:
                raise WeightsError(f"{where}: {label}{part} is missing")
        if layer != len(layers) - backward:
            raise WeightsError(f"{where}: a layer or its forward direction is missing before {label}kernel")
        if not backward:
            layers.append([])
        layers[-1] += [parts[part] for part in PARTS if part in parts]
    if not layers:
        raise WeightsError(f"{where}: holds no layer")
    return _from_layers(layers, where, cell, None, options)
