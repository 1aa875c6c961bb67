"""A recurrent node of an ONNX model as a cell and its parameters.

Non-default activations, clipping and coupled gates give a variant cell (`lstm_numba.cells.onnx_variants`).
What no layer computes is refused by name, such as a reverse direction alone or activations that differ
between the directions.

Operators: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.onnx_variants import ACTIVATIONS, VARIED, Activation, Variant
from lstm_numba.cells.parameters import suffix
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.numbers import check_finite
from lstm_numba.interop.onnx.layer_export import NODES, unpacked
from lstm_numba.interop.onnx.operators import MARKER, STANDARD, Array, attributes_of

#: Operator -> its gates.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Attributes of the operators, and their types.
_KNOWN = {
    **dict.fromkeys(("activation_alpha", "activation_beta", "activations"), list),
    **dict.fromkeys(("hidden_size", "input_forget", "layout", "linear_before_reset"), int),
    "clip": float,
    "direction": str,
}


class Parameters(NamedTuple):
    """What a node computes with; `params` has a mapping for each direction, under our names."""

    cell: str
    params: list[dict[str, Array]]
    batch_first: bool  # the node's inputs and outputs are (B, T, ...), its `layout` 1

    @property
    def directions(self) -> int:
        """1, or 2 if the node runs both ways."""
        return len(self.params)

    @property
    def inputs(self) -> int:
        """Features I of its input."""
        return int(self.params[0]["weight_ih"].shape[1])

    @property
    def hidden(self) -> int:
        """Hidden units H."""
        return int(self.params[0]["weight_hh"].shape[1])


def is_recurrent(node: Any) -> bool:
    """Whether a node is one of ONNX' own LSTM, GRU and RNN."""
    return node.domain in STANDARD and node.op_type in GATES


def parameters_of(
    node: Any, weights: Sequence[Array | None], what: str, allow_nonfinite: bool = False
) -> Parameters:
    """A node's cell and parameters.

    Parameters
    ----------
    node : onnx.NodeProto
        An LSTM, GRU or RNN.
    weights : sequence of ndarray or None
        W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H).
    what : str
        The node, for messages.
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.

    Raises
    ------
    WeightsError
        No layer computes the same, or shapes or attributes do not fit each other.
    """
    kind, attributes = node.op_type, attributes_of(node)
    _check_attributes(attributes, what)
    directions = _directions(attributes, what)
    cell = _cell(kind, attributes, weights[3] is not None, directions, what)
    if not allow_nonfinite:
        for letter, array in zip("WRBP", weights, strict=True):
            if array is not None:
                check_finite(letter, array, what)
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        raise WeightsError(f"{what}: layout: expected 0 or 1, got {layout}")
    found = Parameters(cell, _params(kind, cell, weights, directions, what), layout == 1)
    hidden = attributes.get("hidden_size", found.hidden)
    if hidden != found.hidden:
        raise WeightsError(f"{what}: hidden_size is {hidden}, R is of {found.hidden}")
    return found


def stack_nodes(layers: Sequence[Parameters]) -> dict[str, Array]:
    """The parameters of nodes as layers of one stack; if only some have biases, the others get zeros.

    Raises
    ------
    WeightsError
        They differ in their cells or directions.
    """
    first = layers[0]
    bias = any("bias_ih" in params for layer in layers for params in layer.params)
    collected = {}
    for number, layer in enumerate(layers):
        if (layer.cell, layer.directions) != (first.cell, first.directions):
            raise WeightsError(f"layers of different kinds: {first.cell} and {layer.cell}, or of directions")
        for direction, params in enumerate(layer.params):
            end = suffix(number, direction)
            rows = np.zeros(len(params["weight_hh"]), params["weight_hh"].dtype)
            if bias:
                params = {"bias_ih": rows, "bias_hh": rows, **params}
            collected.update({key + end: value for key, value in params.items()})
    return collected


def _check_attributes(attributes: dict[str, Any], what: str) -> None:
    """Refuse unknown attributes and wrong types."""
    for name, value in attributes.items():
        if name not in _KNOWN:
            raise WeightsError(f"{what}: unknown attribute {name[:40]}")
        words = [str(word) for word in value] if name == "activations" and isinstance(value, list) else value
        if not isinstance(value, _KNOWN[name]) or words != value:
            raise WeightsError(f"{what}: {name}: expected {_KNOWN[name].__name__}, got {str(value)[:40]}")


def _directions(attributes: dict[str, Any], what: str) -> int:
    direction = attributes.get("direction", "forward")
    if direction == "reverse":
        raise WeightsError(
            f"{what}: direction=reverse: no layer here runs backwards alone; make it forward in the file, "
            "and turn round the steps of the layer's input and output"
        )
    if direction not in ("forward", "bidirectional"):
        raise WeightsError(f"{what}: direction={direction[:40]}: expected forward or bidirectional")
    return 2 if direction == "bidirectional" else 1


def _cell(kind: str, attributes: dict[str, Any], peephole: bool, directions: int, what: str) -> str:
    """The name of the cell or variant that computes a node."""
    base = {"LSTM": "peephole" if peephole else "lstm", "RNN": "rnn"}.get(kind, "gru-reset-before")
    if kind == "GRU" and attributes.get("linear_before_reset"):
        base = "gru"
    clip = attributes.get("clip")
    if clip is not None and not 0 < clip < math.inf:
        raise WeightsError(f"{what}: clip: expected a number above 0, got {clip}")
    functions = _functions(attributes, VARIED[base], directions, what)
    coupled = kind == "LSTM" and bool(attributes.get("input_forget"))
    return Variant(base, functions, None if clip is None else _shortest(clip), coupled).name


def _functions(
    attributes: dict[str, Any], default: dict[str, str], directions: int, what: str
) -> tuple[tuple[str, Activation], ...]:
    """The activations f, g and h with their parameters.

    `activation_alpha` and `activation_beta` list values for those functions that take one, in their order.
    """
    words = attributes.get("activations") or [*default.values()] * directions
    if len(words) != len(default) * directions:
        raise WeightsError(
            f"{what}: activations: expected {len(default) * directions}, got {', '.join(words)[:80]}"
        )
    names = {name.lower(): name for name in ACTIVATIONS}
    listed = {key: list(attributes.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    found = []
    for word in words:
        if word.lower() not in names:
            raise WeightsError(f"{what}: activations: no function here is {word[:40]}")
        name, numbers = names[word.lower()], []
        for key, standard in zip(("alpha", "beta"), ACTIVATIONS[names[word.lower()]], strict=False):
            number = _shortest(listed[key].pop(0)) if listed[key] else standard
            if number is None:
                raise WeightsError(f"{what}: activations: {name} needs activation_{key}")
            numbers.append(number)
        found.append(Activation(name, tuple(numbers)))
    for key, rest in listed.items():
        if any(rest):  # exporters write zeros for functions that take none
            raise WeightsError(f"{what}: activation_{key}: {len(rest)} more than the activations take")
    first = found[: len(default)]
    if first * directions != found:
        raise WeightsError(f"{what}: activations differ between the directions: {', '.join(words)[:80]}")
    return tuple(zip(default, first, strict=True))


def _shortest(number: float) -> float:
    """A float32 with the fewest digits that identify it, for a readable name."""
    return float(str(np.float32(number)))


def _params(
    kind: str, name: str, inputs: Sequence[Array | None], directions: int, what: str
) -> list[dict[str, Array]]:
    """W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H) under our names, gates in our order."""
    for letter, array in zip("WRBP", inputs, strict=True):
        if array is None and letter in "WR":
            raise WeightsError(f"{what}: {letter} is missing")
        if array is not None and (array.dtype == MARKER or array.dtype.kind != "f"):
            raise WeightsError(f"{what}: {letter} is not a constant of float32 or float64")
    w, r, b, p = inputs
    assert w is not None
    assert r is not None
    rows = r.shape[1] if r.ndim == 3 else 0
    hidden, features = rows // GATES[kind], w.shape[-1] if w.ndim else 0
    expected = {
        "R": (r, (directions, GATES[kind] * max(hidden, 1), max(hidden, 1))),
        "W": (w, (directions, rows, max(features, 1))),
        "B": (b, (directions, 2 * rows)),
        "P": (p, (directions, 3 * hidden)),
    }
    for letter, (array, shape) in expected.items():
        if array is not None and array.shape != shape:
            raise WeightsError(f"{what}: {letter}: expected shape {shape}, got {array.shape}")
    arrays = {letter: array for letter, (array, _) in expected.items() if array is not None}
    return unpacked(NODES[name.split(",")[0]], arrays)
