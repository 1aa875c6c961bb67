"""JSON files of weights: of GuitarML, of RTNeural, or names with lists of numbers.

GuitarML's (Proteus, NeuralPi, SmartGuitarAmp) are written by ``SimpleRNN.save_model`` of
github.com/Alec-Wright/Automated-GuitarAmpModelling, CoreAudioML/networks.py::

    {"model_data": {"unit_type": "LSTM", "hidden_size": 20, "skip": 1, ...},
     "state_dict": {"rec.weight_ih_l0": [[...]], ..., "lin.bias": [...]}}

The network is y = lin(rec(x)), and with ``skip`` y = lin(rec(x)) + x of the first `skip` features.

RTNeural's are written by github.com/jatinchowdhury18/RTNeural, python/model_utils.py, in Keras' layout; a gru
resets after its product::

    {"in_shape": [null, null, 1],
     "layers": [{"type": "lstm", "activation": "tanh", "shape": [null, null, 8], "weights": [...]}, ...]}

Layers come out under their types, ``lstm``, ``gru``, ``dense``, numbered from the second on (``dense_1``);
those that follow each other and fit are one stack.

Numbers that a float32 gives, written exactly or as the shortest text that is read as it, are read as float32,
others as float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array, Contents
from lstm_numba.interop.files.keras.layout import PARTS, find_cell, renamed
from lstm_numba.interop.files.stacks import Single, stack
from lstm_numba.interop.files.strict_json import parse_json

#: GuitarML's unit types and RTNeural's layers -> cells.
_UNITS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
_LAYERS = {"lstm": "lstm", "gru": "gru"}
_DENSE = ("dense", "time-distributed-dense")
#: Axes of a tensor at most.
_AXES = 8


def read_json_file(content: bytes) -> Contents:
    """Read a ``.json`` file.

    Raises
    ------
    WeightsError
        It is invalid JSON, or holds something else than weights; the message names the tensor.
    """
    whole = parse_json(content)
    if not isinstance(whole, dict):
        raise WeightsError(f"expected an object of names and numbers, got a {type(whole).__name__}")
    if isinstance(whole.get("model_data"), dict) and isinstance(whole.get("state_dict"), dict):
        found = _guitarml(whole["model_data"], whole["state_dict"])
    elif isinstance(whole.get("layers"), list):
        found = _rtneural(whole["layers"], whole.get("in_shape"))
    else:
        found = Contents("json", dict(_tensors(whole, "")))
    if not found.tensors:
        raise WeightsError("holds no weights")
    return found


def _guitarml(model: Mapping[str, Any], state: Mapping[str, Any]) -> Contents:
    tensors = dict(_tensors(state, ""))
    unit, skip = model.get("unit_type"), model.get("skip", 0)
    if unit is not None and unit not in tuple(_UNITS):
        raise WeightsError(f"unit_type: expected one of {', '.join(_UNITS)}, got {one_line(repr(unit), 60)}")
    if type(skip) is not int or skip < 0:
        raise WeightsError(f"skip: expected a number of features, got {one_line(repr(skip), 60)}")
    prefixes = {name.partition("weight_hh_l")[0] for name in tensors if "weight_hh_l" in name}
    cells = {} if unit is None else dict.fromkeys(sorted(prefixes), _UNITS[unit])
    for prefix in sorted(prefixes):
        _check_sizes(model, tensors, prefix)
    features = "its input" if skip == 1 else f"the first {skip} features of its input"
    added = f"the network adds {features} to its output (skip={skip})"
    notes = (f"{added}: save_json(..., skip={skip}) writes it back",) if skip else ()
    return Contents("json", tensors, cells, notes)


def _check_sizes(model: Mapping[str, Any], tensors: Mapping[str, Array], prefix: str) -> None:
    """Refuse sizes that are not those of the arrays."""
    layers = sum(name.startswith(f"{prefix}weight_hh_l") for name in tensors)
    places = (
        ("input_size", f"{prefix}weight_ih_l0", 1),
        ("hidden_size", f"{prefix}weight_hh_l0", 1),
        ("output_size", "lin.weight", 0),
    )
    for key, name, axis in places:
        if name in tensors and tensors[name].ndim == 2:
            _check_size(key, model.get(key), tensors[name].shape[axis], name)
    _check_size("num_layers", model.get("num_layers"), layers, prefix)


def _check_size(key: str, stated: Any, size: int, where: str) -> None:
    if stated is not None and stated != size:
        found = f"the arrays of {one_line(where, 120)} have {size}"
        raise WeightsError(f"{key}: the file says {one_line(repr(stated), 60)}, {found}")


def _rtneural(layers: list[Any], in_shape: Any) -> Contents:
    singles: list[Single] = []
    tensors: dict[str, Array] = {}
    around: dict[str, str] = {}
    notes, seen, before, inputs = [], Counter[str](), "", _size(in_shape)
    for layer in layers:
        kind = layer.get("type")
        if not isinstance(kind, str):
            raise WeightsError(f"type: expected the type of a layer, got {one_line(repr(kind), 60)}")
        base = "dense" if kind in _DENSE else kind
        name = f"{base}_{seen[base]}" if seen[base] else base
        seen[base] += 1
        activation, weights = layer.get("activation", ""), layer.get("weights", [])
        arrays = [_tensor(f"{name}: weights[{number}]", value) for number, value in enumerate(weights)]
        if kind in _LAYERS:
            singles.append(_recurrent(name, _LAYERS[kind], arrays, activation, before))
        elif base == "dense":
            tensors.update(_dense(name, arrays))
            around[name] = base
            if activation not in ("", "linear"):
                notes.append(f"{name}: {one_line(activation, 60)} follows it")
        else:
            tensors.update({f"{name}.{number}": array for number, array in enumerate(arrays)})
            notes.append(f"{name}: RTNeural's {one_line(kind, 60)} is not computed here")
        before, stated = name if kind in _LAYERS else "", _size(layer.get("shape"))
        if kind in _LAYERS or base == "dense":
            _check_size(f"inputs of {name}", inputs, arrays[0].shape[0], name)
            units = arrays[1].shape[0] if kind in _LAYERS else arrays[0].shape[1]
            _check_size(f"{name}: shape", stated, units, name)
        inputs = stated
    stacks = stack(singles)
    return Contents("json", {**stacks.tensors, **tensors}, stacks.cells, (*stacks.notes, *notes), around)


def _size(shape: Any) -> Any:
    """The features of a shape, or None where it does not say them."""
    return shape[-1] if isinstance(shape, list) and shape else None


def _recurrent(name: str, cell: str, arrays: list[Array], activation: Any, after: str) -> Single:
    """A recurrent layer of RTNeural, which has one activation for each type."""
    if activation not in ("", "tanh"):
        raise WeightsError(f"{name}: activation: expected tanh, got {one_line(repr(activation), 60)}")
    if len(arrays) not in (2, 3):
        raise WeightsError(f"{name}: weights: expected {', '.join(PARTS)}, got {len(arrays)} arrays")
    find_cell(arrays, cell, "", name)
    return Single(name, cell, [renamed(arrays, cell, "", name)], after)


def _dense(name: str, arrays: list[Array]) -> dict[str, Array]:
    if len(arrays) not in (1, 2) or arrays[0].ndim != 2:
        shapes = ", ".join(str(array.shape) for array in arrays[:3])
        raise WeightsError(
            f"{name}: weights: expected a matrix and a bias, got shapes {shapes or 'of nothing'}"
        )
    params = (arrays[0].T, *arrays[1:])
    return {f"{name}.{key}": array for key, array in zip(("weight", "bias"), params, strict=False)}


def _tensors(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Array]]:
    """Tensors in a mapping, and in those that it holds; texts and other facts are ignored."""
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, _tensor(prefix + key, value)


def _tensor(name: str, value: Any) -> Array:
    """An array from nested lists of numbers.

    Raises
    ------
    WeightsError
        Lists of different lengths, or something else than numbers; the message names the tensor.
    """
    name, flat = one_line(name, 120), [value]
    shape: list[int] = []
    while flat and all(type(part) is list for part in flat):
        sizes = {len(part) for part in flat}
        if len(sizes) > 1 or len(shape) == _AXES:
            raise WeightsError(f"{name}: lists of {sorted(sizes)[:2]} elements side by side, or too deep")
        shape += sizes
        flat = [inner for part in flat for inner in part]
    for number in flat:
        if type(number) not in (int, float):
            raise WeightsError(f"{name}: expected numbers, got {one_line(repr(number), 60)}")
    try:
        wide = np.array(flat, np.float64).reshape(shape)
    except OverflowError:
        raise WeightsError(f"{name}: holds a number beyond float64's range") from None
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if _is_float32(narrow, wide) else wide


def _is_float32(narrow: Array, wide: Array) -> bool:
    """Whether the numbers are those of float32, exactly or as the shortest texts that are read as them."""
    rounded = ~((narrow == wide) | np.isnan(wide))
    return bool((narrow[rounded].astype(str).astype(np.float64) == wide[rounded]).all())
