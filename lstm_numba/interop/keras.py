"""Keras' weights: lists of arrays as ``layer.get_weights()`` gives and ``layer.set_weights()`` takes them.

A layer and direction has kernel (I, G*H), recurrent_kernel (H, G*H) and, if any, bias; gates in the order
i f c o (LSTM) or z r h (GRU). There is one bias (G*H,), but for a GRU with ``reset_after=True``, which has
(2, 3*H): of the input and of the recurrent product. ``Bidirectional`` lists the forward layer, then the
backward one. Source of layouts and equations: keras/src/layers/rnn/{lstm,gru,simple_rnn,bidirectional}.py.

Where Keras has one bias for our two, theirs becomes ``bias_ih`` beside a ``bias_hh`` of zeros, and ours
become their sum: Keras' weights survive the way in and out to the bit, ours but for the rounding of that sum.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.state_dict import Array, as_float, build, cell_name
from lstm_numba.interop.weights_file import known_cell, read_arrays, write_arrays
from lstm_numba.nn.recurrent import Recurrent

#: Cell -> for each of Keras' gates the place of ours: z r h of r z n; i f c o are i f g o.
_ORDER: dict[str, tuple[int, ...]] = {
    "lstm": (0, 1, 2, 3),
    "gru": (1, 0, 2),
    "gru-reset-before": (1, 0, 2),
    "rnn": (0,),
    "rnn-relu": (0,),
}
_PARTS = ("kernel", "recurrent_kernel", "bias")
_FILE_NAME = re.compile(r"l(0|[1-9]\d{0,4})\.(backward\.)?(kernel|recurrent_kernel|bias)")


def _reordered(array: Array, order: Sequence[int]) -> Array:
    """Gates along the first axis in another order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[place] for place in order])


def to_keras(rnn: Recurrent) -> list[list[Array]]:
    """A layer's weights as Keras' layers take them.

    Parameters
    ----------
    rnn : Recurrent

    Returns
    -------
    list of list of ndarray
        For every layer what ``set_weights`` of Keras' ``LSTM``, ``GRU(reset_after=...)`` or ``SimpleRNN``
        takes, or of a ``Bidirectional`` around one.

    Raises
    ------
    WeightsError
        Keras has no such cell (peepholes).
    """
    name = cell_name(rnn)
    if name not in _ORDER:
        raise WeightsError(f"rnn: Keras has no layer for the cell {name}")
    order, state = _ORDER[name], rnn.state_dict()
    layers = []
    for layer in range(rnn.num_layers):
        weights = []
        for end in (f"_l{layer}", f"_l{layer}_reverse")[: rnn.directions]:
            weights += [_reordered(state[key + end], order).T.copy() for key in ("weight_ih", "weight_hh")]
            if rnn.bias:
                ours, theirs = (_reordered(state[key + end], order) for key in ("bias_ih", "bias_hh"))
                # A sum with 0 would make -0 to 0.
                weights.append(
                    np.stack([ours, theirs]) if name == "gru" else np.where(theirs == 0, ours, ours + theirs)
                )
        layers.append(weights)
    return layers


def from_keras(
    weights: Sequence[Any], *, cell: str | None = None, bidirectional: bool | None = None, **options: Any
) -> Recurrent:
    """Make a layer of Keras' weights.

    Parameters
    ----------
    weights : sequence of ndarray, or sequence of such sequences
        What ``get_weights`` gives: two or three arrays of a layer, twice as many of a bidirectional one; or
        such a list for every layer of a stack.
    cell : str, optional
        "lstm", "gru" (``reset_after=True``, Keras' default), "gru-reset-before", "rnn" (tanh) or "rnn-relu";
        by default what gates and bias tell, with Keras' defaults.
    bidirectional : bool, optional
        Whether each layer has two directions; by default what the number of arrays tells.
    **options
        ``batch_first``, ``dropout``, ``device``, ``seed`` of the layer.

    Returns
    -------
    Recurrent

    Raises
    ------
    WeightsError
        The arrays are not those of such layers.
    """
    return _from_layers(weights, "weights", cell, bidirectional, options)


def _from_layers(
    weights: Sequence[Any],
    where: str,
    cell: str | None,
    bidirectional: bool | None,
    options: dict[str, Any],
) -> Recurrent:
    if len(weights) and not isinstance(weights[0], (list, tuple)):
        weights = [weights]
    if cell is not None and cell not in _ORDER:
        raise WeightsError(f"cell: expected one of {', '.join(_ORDER)}, got {cell!r}")
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
            own = f"layer {number}{' backward' * direction} "
            arrays = [
                as_float(own + part, value, where)
                for part, value in zip(_PARTS, layer[direction * size :][:size], strict=False)
            ]
            cell = _cell_of(arrays, cell, own, where)
            end = f"_l{number}" + "_reverse" * direction
            params.update({key + end: value for key, value in _ours(arrays, cell, own, where).items()})
    return build(params, where, cell, **options)


def _cell_of(arrays: Sequence[Array], cell: str | None, own: str, where: str) -> str:
    """The cell by gates and bias; refuses a shape that is no gates at all."""
    for part, array in zip(_PARTS, arrays[:2], strict=False):
        if array.ndim != 2 or 0 in array.shape:
            raise WeightsError(f"{where}: {own}{part}: expected a matrix, got shape {array.shape}")
    hidden, columns = arrays[1].shape
    gates, rest = divmod(columns, hidden)
    two = len(arrays) == 3 and arrays[2].ndim == 2
    means = {
        1: "rnn",
        3: "gru" if two or len(arrays) == 2 else "gru-reset-before",
        4: "lstm",
    }
    if rest or gates not in means or (cell is not None and len(_ORDER[cell]) != gates):
        wanted = "1, 3 or 4 gates" if cell is None else f"{len(_ORDER[cell])} gates ({cell})"
        raise WeightsError(f"{where}: {own}recurrent_kernel: expected {wanted}, got shape {arrays[1].shape}")
    return cell or means[gates]


def _ours(arrays: Sequence[Array], cell: str, own: str, where: str) -> dict[str, Array]:
    """One layer and direction under our names, without suffix."""
    # Each order is its own inverse.
    order, columns = _ORDER[cell], arrays[1].shape[1]
    if arrays[0].shape[1] != columns:
        raise WeightsError(f"{where}: {own}kernel: expected {columns} columns, got shape {arrays[0].shape}")
    found = {
        key: _reordered(array.T, order)
        for key, array in zip(("weight_ih", "weight_hh"), arrays[:2], strict=True)
    }
    if len(arrays) == 3:
        bias, shape = arrays[2], (2, columns) if cell == "gru" else (columns,)
        if bias.shape != shape:
            raise WeightsError(f"{where}: {own}bias: expected shape {shape} ({cell}), got {bias.shape}")
        pair = bias if cell == "gru" else (bias, np.zeros_like(bias))
        found["bias_ih"], found["bias_hh"] = (_reordered(b, order) for b in pair)
    return found


def save_keras(rnn: Recurrent, path: str | os.PathLike[str]) -> None:
    """Write Keras' weights of a layer to an ``.npz`` file: ``l0.kernel``, ``l0.backward.bias`` and so on.

    Parameters
    ----------
    rnn : Recurrent
    path : path
        Ending in ``.npz`` or ``.safetensors``.

    Raises
    ------
    WeightsError
        Keras has no such cell, or the name has another ending.
    OSError
        The file system refuses.
    """
    arrays = {}
    size = 3 if rnn.bias else 2
    for layer, weights in enumerate(to_keras(rnn)):
        for place, array in enumerate(weights):
            arrays[f"l{layer}." + "backward." * (place // size) + _PARTS[place % size]] = array
    write_arrays(Path(path), arrays, cell_name(rnn))


def load_keras(path: str | os.PathLike[str], *, cell: str | None = None, **options: Any) -> Recurrent:
    """Make a layer of a file of `save_keras`.

    Parameters
    ----------
    path : path
    cell : str, optional
        See `from_keras`; by default what the file says.
    **options
        ``batch_first``, ``dropout``, ``device``, ``seed`` of the layer.

    Returns
    -------
    Recurrent

    Raises
    ------
    WeightsError
        The file is missing, damaged or holds something else; one line that names it.
    """
    tensors, said = read_arrays(Path(path))
    return layer_of_lists(tensors, str(path), cell or known_cell(path, said), **options)


def has_keras_names(names: Iterable[str]) -> bool:
    """Whether the names are those of `save_keras`, at least one of them."""
    return any(_FILE_NAME.fullmatch(name) for name in names)


def layer_of_lists(tensors: Mapping[str, Array], where: str, cell: str | None, **options: Any) -> Recurrent:
    """Make a layer of what `read_arrays` found in a file of `save_keras`; see `load_keras`."""
    found: dict[tuple[int, bool], dict[str, Array]] = {}
    for name, array in tensors.items():
        match = _FILE_NAME.fullmatch(name)
        if match is None:
            raise WeightsError(f"{where}: {name[:80]}: unknown name")
        found.setdefault((int(match[1]), match[2] is not None), {})[match[3]] = array
    layers: list[list[Array]] = []
    for (layer, backward), parts in sorted(found.items()):
        own = f"l{layer}.{'backward.' * backward}"
        for part in _PARTS[:2]:
            if part not in parts:
                raise WeightsError(f"{where}: {own}{part} is missing")
        if layer != len(layers) - backward:
            raise WeightsError(f"{where}: a layer or its forward direction is missing before {own}kernel")
        if not backward:
            layers.append([])
        layers[-1] += [parts[part] for part in _PARTS if part in parts]
    if not layers:
        raise WeightsError(f"{where}: holds no layer")
    return _from_layers(layers, where, cell, None, options)
