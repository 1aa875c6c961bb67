"""Layers from ONNX models made of LSTM, GRU or RNN nodes.

Non-default activations, clipping and coupled gates give a variant cell (`lstm_numba.cells.onnx_variants`).
Anything that a layer cannot compute is refused by name, such as a reverse direction alone or activations that
differ between the directions: a layer is returned only if it computes the same as the model.

Operators: github.com/onnx/onnx, docs/Operators.md. Needs the package ``onnx`` (extra ``onnx``) to parse the
file; nothing in it is executed.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.onnx_variants import ACTIVATIONS, VARIED, Activation, Variant
from lstm_numba.cells.parameters import suffix
from lstm_numba.data.file_io import read_file
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST
from lstm_numba.interop.files.numbers import check_finite
from lstm_numba.interop.onnx_export import NODES
from lstm_numba.interop.onnx_ops import MARKER, Array, Markers, attributes_of, constant, evaluate
from lstm_numba.interop.state_dict import build, reorder_gates
from lstm_numba.nn.recurrent import Recurrent

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Attributes of the operators, and their types.
_KNOWN = {
    **dict.fromkeys(("activation_alpha", "activation_beta", "activations"), list),
    **dict.fromkeys(("hidden_size", "input_forget", "layout", "linear_before_reset"), int),
    "clip": float,
    "direction": str,
}
#: Two choices of T and B for dynamic dimensions, each with T != B so that a transposition shows. Two, because
#: what a model computes from sizes may be right for one of them only.
_SIZES, _OTHER_SIZES = (3, 2), (7, 5)


class _Layer(NamedTuple):
    """A recurrent node: its parameters under our names, and its inputs and outputs as arrays of markers."""

    cell: str
    directions: int
    params: list[dict[str, Array]]
    states: tuple[Array | None, ...]  # (D, B, H) each
    lengths: Array | None
    y: Array  # (T, B, D*H)
    finals: tuple[Array, ...]  # (D, B, H)


def load_onnx(path: str | os.PathLike[str], **options: Any) -> Recurrent:
    """Make a layer from an ONNX model of LSTM, GRU or RNN nodes.

    Nodes may be stacked or bidirectional, have peepholes, `clip`, `input_forget`, any of the operators'
    activations, either `layout`, and initial states and lengths that are inputs of the model, which become
    arguments of the layer's call. Other nodes may only move data (Transpose, Reshape, Split, ...).

    Parameters
    ----------
    path : path
    **options
        ``dropout``, ``device``, ``seed`` of the layer.

    Returns
    -------
    Recurrent
        With `batch_first` if the model's input is (B, T, I).

    Raises
    ------
    WeightsError
        The file is missing or damaged, or no layer computes the same as the model, or the package ``onnx``
        is not installed; the message says which.
    """
    content = read_file(path, LARGEST, WeightsError)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise WeightsError(
            "reading ONNX files needs the package onnx: pip install 'lstm_numba[onnx]'"
        ) from None
    try:
        # From bytes: from a path, onnx would also read files that the model names.
        graph = onnx.load_model_from_string(content).graph
    except (DecodeError, ValueError, RecursionError):
        raise WeightsError(f"{path}: damaged, or not an ONNX model") from None
    try:
        layers, batch_first = _Reader(graph, _SIZES).read()
        params = _collect(layers)
        other_layers, other_batch_first = _Reader(graph, _OTHER_SIZES).read()
        _check_same(params, _collect(other_layers))
        if other_batch_first != batch_first:
            raise WeightsError("takes its input the other way round at other sizes")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (TypeError, AttributeError):  # a name that is not UTF-8 is bytes
        raise WeightsError(f"{path}: damaged: a name in it is no text") from None
    return build(params, str(path), layers[0].cell, batch_first=batch_first, **options)


def _check_same(params: dict[str, Array], others: dict[str, Array]) -> None:
    """Refuse weights that depend on the sizes of the inputs."""
    for name, array in params.items():
        if name not in others or not np.array_equal(array, others[name]):
            raise WeightsError(f"{name}: differs between inputs of different sizes")


def _collect(layers: list[_Layer]) -> dict[str, Array]:
    """The parameters of all layers; if only some have biases, the others get zeros."""
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


class _Reader:
    """Evaluates a graph on markers, from its inputs to its outputs."""

    def __init__(self, graph: Any, sizes: tuple[int, int]) -> None:
        self.graph = graph
        self.sizes = sizes
        self.markers = Markers()
        self.values: dict[str, Array] = {}
        self.inputs: dict[str, Array] = {}
        self.layers: list[_Layer] = []
        self.batch_first = False

    def read(self) -> tuple[list[_Layer], bool]:
        """Evaluate the graph; returns its layers and whether its input is (B, T, I)."""
        if len(self.graph.sparse_initializer):
            raise WeightsError("sparse constants are not read")
        for tensor in self.graph.initializer:
            self.values[tensor.name] = constant(tensor, tensor.name)
        nodes = list(self.graph.node)
        recurrent = [n for n in nodes if n.op_type in _GATES]
        if not recurrent:
            raise WeightsError("holds no LSTM, GRU or RNN node")
        self._make_inputs(recurrent[0])
        for node in nodes:
            inputs = [self._value(node, name) for name in node.input]
            if node.op_type in _GATES and node.domain in ("", "ai.onnx"):
                outputs = self._recurrent(node, inputs)
            else:
                outputs = evaluate(node, inputs, self.markers)
            for name, value in zip(node.output, outputs, strict=False):
                self.values[name] = value
        self._check_states()
        for output in self.graph.output:
            self._check_output(output.name)
        return self.layers, self.batch_first

    def _value(self, node: Any, name: str) -> Array | None:
        if name and name not in self.values:
            raise WeightsError(f"{node.op_type} reads {name[:80]!r}, which nothing before it gives")
        return self.values[name] if name else None

    def _make_inputs(self, first: Any) -> None:
        """Fill the model's inputs with markers; dynamic dimensions of the same name are equal."""
        named: dict[str, int] = {}
        weights = self.values.get("".join(first.input[1:2]))
        width = weights.shape[-1] if weights is not None and weights.ndim else 1
        for value in self.graph.input:
            if value.name in self.values:  # an initializer may be listed as an input
                continue
            shape = []
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                chosen = width if axis == 2 else self.sizes[1 if self.inputs else min(axis, 1)]
                if dimension.dim_value:
                    shape.append(dimension.dim_value)
                    if dimension.dim_value < 0:
                        raise WeightsError(f"input {value.name}: a size of {dimension.dim_value}")
                elif dimension.dim_param:
                    shape.append(named.setdefault(dimension.dim_param, chosen))
                else:
                    shape.append(chosen)
            if len(shape) > 3:
                raise WeightsError(f"input {value.name}: expected at most 3 dimensions, got {len(shape)}")
            self.inputs[value.name] = self.values[value.name] = self.markers.draw(*shape)

    def _recurrent(self, node: Any, inputs: list[Array | None]) -> list[Array]:
        """Append the layer of a recurrent node; returns its outputs in the operator's layout."""
        kind, attributes = node.op_type, attributes_of(node)
        what = f"{kind} {node.name or len(self.layers)}"[:80]
        x, w, r, b, lengths, h, *more = [*inputs, *[None] * 8][:8]
        c, p = (more[0], more[1]) if kind == "LSTM" else (None, None)
        _check_attributes(attributes, what)
        directions = _directions(attributes, what)
        name = _cell(kind, attributes, p is not None, directions, what)
        params = _params(kind, name, (w, r, b, p), directions, what)
        hidden = params[0]["weight_hh"].shape[1]
        if attributes.get("hidden_size", hidden) != hidden:
            raise WeightsError(f"{what}: hidden_size is {attributes['hidden_size']}, R is of {hidden}")
        layout = attributes.get("layout", 0)
        steps, batch = self._follow(x, params[0]["weight_ih"].shape[1], layout, what)
        shape = (directions, batch, hidden)
        y = self.markers.draw(steps, batch, directions * hidden)
        states = ("h", "c")[: 2 if kind == "LSTM" else 1]
        finals = tuple(self.markers.draw(*shape) for _ in states)
        initial = tuple(
            _state(state, shape, layout, f"{what}: initial_{s}")
            for s, state in zip(states, (h, c), strict=False)
        )
        if lengths is not None and not any(lengths is value for value in self.inputs.values()):
            raise WeightsError(f"{what}: sequence_lens is no input of the model")
        self.layers.append(_Layer(name, directions, params, initial, lengths, y, finals))
        parts = y.reshape(steps, batch, directions, hidden)
        if layout:
            return [parts.swapaxes(0, 1), *(final.swapaxes(0, 1) for final in finals)]
        return [parts.transpose(0, 2, 1, 3), *finals]

    def _follow(self, x: Array | None, width: int, layout: int, what: str) -> tuple[int, int]:
        """Check that a node reads the model's input or all of the layer below; returns T and B."""
        if x is None or x.dtype != MARKER or x.ndim != 3:
            raise WeightsError(f"{what}: X is no input of the model and no output of the layer below")
        time_first = x.swapaxes(0, 1) if layout else x
        if self.layers:
            if not np.array_equal(time_first, self.layers[-1].y):
                raise WeightsError(f"{what}: X is not just the output of the layer below")
        else:
            self.batch_first = not self._is_input(time_first)
            if self.batch_first and not self._is_input(time_first.swapaxes(0, 1)):
                raise WeightsError(f"{what}: X is not just an input of the model")
        if x.shape[2] != width:
            raise WeightsError(f"{what}: W is of {width} features, X of {x.shape[2]}")
        return time_first.shape[0], time_first.shape[1]

    def _is_input(self, value: Array) -> bool:
        return any(np.array_equal(value, own) for own in self.inputs.values())

    def _check_states(self) -> None:
        """Initial states must exist for all layers or none, each an input or the layer's part of one."""
        if any(layer.lengths is not self.layers[0].lengths for layer in self.layers):
            raise WeightsError("sequence_lens differ from layer to layer")
        used: set[tuple[str, int]] = set()
        for name, states in zip(
            "hc", zip(*(layer.states for layer in self.layers), strict=True), strict=False
        ):
            for number, state in enumerate(states):
                if (state is None) != (states[0] is None):
                    raise WeightsError(f"initial_{name}: some layers have one, others have none")
                if state is None:
                    continue
                source = self._source(state, number)
                if source is None or source in used:
                    raise WeightsError(f"initial_{name} of layer {number} is not just an input of the model")
                used.add(source)

    def _source(self, state: Array, number: int) -> tuple[str, int] | None:
        """The input that a state (D, B, H) is, or is this layer's part of (L*D, B, H), and its first row."""
        size, count = len(state), len(self.layers)
        for name, value in self.inputs.items():
            for stacked in (value, value.swapaxes(0, 1)) if value.ndim == 3 else ():
                start = number * size if len(stacked) == count * size else 0
                if np.array_equal(state, stacked[start : start + size]):
                    return name, start
        return None

    def _check_output(self, name: str) -> None:
        """An output must be the whole output of the last layer, or final states in our order."""
        value = self.values.get(name)
        if value is None:
            raise WeightsError(f"output {name[:80]!r}: nothing gives it")
        last = self.layers[-1]
        steps, batch, width = last.y.shape
        parts = last.y.reshape(steps, batch, last.directions, width // last.directions)
        # In the layouts of the operators, or of our layer.
        allowed = [parts.transpose(0, 2, 1, 3), parts.swapaxes(0, 1)]
        allowed.append(last.y.swapaxes(0, 1) if self.batch_first else last.y)
        for k in range(len(last.finals)):
            finals = [layer.finals[k] for layer in self.layers]
            for final in (*finals, np.concatenate(finals)):
                allowed += [final, final.swapaxes(0, 1)]
        if not any(np.array_equal(value, form) for form in allowed):
            raise WeightsError(f"output {name[:80]!r} is not the last layer's output, nor final states")


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
    kind: str, name: str, inputs: tuple[Array | None, ...], directions: int, what: str
) -> list[dict[str, Array]]:
    """W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H) under our names, gates in our order."""
    for letter, array in zip("WRBP", inputs, strict=True):
        if array is None and letter in "WR":
            raise WeightsError(f"{what}: {letter} is missing")
        if array is not None and (array.dtype == MARKER or array.dtype.kind != "f"):
            raise WeightsError(f"{what}: {letter} is no constant of float32 or float64")
        if array is not None:
            check_finite(letter, array, what)
    w, r, b, p = inputs
    assert w is not None
    assert r is not None
    rows = r.shape[1] if r.ndim == 3 else 0
    hidden, features = rows // _GATES[kind], w.shape[-1] if w.ndim else 0
    expected = {
        "R": (r, (directions, _GATES[kind] * max(hidden, 1), max(hidden, 1))),
        "W": (w, (directions, rows, max(features, 1))),
        "B": (b, (directions, 2 * rows)),
        "P": (p, (directions, 3 * hidden)),
    }
    for letter, (array, shape) in expected.items():
        if array is not None and array.shape != shape:
            raise WeightsError(f"{what}: {letter}: expected shape {shape}, got {array.shape}")
    node = NODES[name.split(",")[0]]
    gates, peepholes = np.argsort(node.gates), np.argsort(node.peepholes)  # the inverse orders
    found = []
    for d in range(directions):
        params = {"weight_ih": reorder_gates(w[d], gates), "weight_hh": reorder_gates(r[d], gates)}
        if b is not None:
            params["bias_ih"], params["bias_hh"] = (reorder_gates(half, gates) for half in np.split(b[d], 2))
        if p is not None:
            params["weight_ph"] = reorder_gates(p[d], peepholes)
        found.append(params)
    return found


def _state(value: Array | None, shape: tuple[int, ...], layout: int, what: str) -> Array | None:
    """An initial state as (D, B, H); None if it is zero."""
    if value is None:
        return None
    if value.dtype != MARKER:
        if np.any(value):
            raise WeightsError(f"{what} is a constant; here it is an argument of the layer's call")
        return None
    state = value.swapaxes(0, 1) if layout and value.ndim == 3 else value
    if state.shape != shape:
        raise WeightsError(f"{what}: expected shape {shape}, got {state.shape}")
    return state
