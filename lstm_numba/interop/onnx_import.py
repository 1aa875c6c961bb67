"""Layers out of ONNX models made of LSTM, GRU or RNN nodes.

Other activations than the usual, clipping and coupled gates make the cell a variant
(`lstm_numba.cells.onnx_variants`). What no layer here computes (a backward direction alone, activations that
differ between the directions) is refused by name, as is everything in a model that a layer would leave out: a
layer is returned only if it computes what the model does.

Operators: github.com/onnx/onnx, docs/Operators.md. Reading needs the package ``onnx`` (extra ``onnx``), which
only parses: nothing in the file is executed.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.onnx_variants import ACTIVATIONS, VARIED, Activation, Variant
from lstm_numba.data.file_io import read_file
from lstm_numba.errors import WeightsError
from lstm_numba.interop.onnx_export import NODES
from lstm_numba.interop.onnx_ops import MARK, Array, Marks, attributes_of, carry_out, constant
from lstm_numba.interop.state_dict import build, check_finite
from lstm_numba.interop.weights_file import LARGEST
from lstm_numba.nn.recurrent import Recurrent

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Attributes of the operators, and their types.
_KNOWN = {
    **dict.fromkeys(("activation_alpha", "activation_beta", "activations"), list),
    **dict.fromkeys(("hidden_size", "input_forget", "layout", "linear_before_reset"), int),
    "clip": float,
    "direction": str,
}
#: Where dimensions are free: two sizes that no transposition can confuse; and two others, because what a
#: model computes of sizes may be right at one of them only.
_FREE, _OTHERS = (3, 2), (7, 5)


class _Layer(NamedTuple):
    """A recurrent node: parameters under our names, and where its numbers came from and went."""

    cell: str
    directions: int
    params: list[dict[str, Array]]
    states: tuple[Array | None, ...]  # (D, B, H) each
    lengths: Array | None
    y: Array  # (T, B, D*H)
    finals: tuple[Array, ...]  # (D, B, H)


def load_onnx(path: str | os.PathLike[str], **options: Any) -> Recurrent:
    """Make a layer of an ONNX model that is made of LSTM, GRU or RNN nodes.

    Nodes may be stacked, bidirectional, with peepholes, with `clip`, `input_forget` and any of the
    operators' activations, of either `layout`, with initial states and lengths that are inputs of the
    model; between them may stand what only moves numbers (Transpose, Reshape, Squeeze, Split, Concat, ...).
    States and lengths are then arguments of the layer's call.

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
        The file is missing or damaged, or does what no layer here computes; one line that names both. Or
        the package ``onnx`` is not installed.
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
        layers, batch_first = _Reader(graph, _FREE).read()
        params = _collect(layers)
        others, turned = _Reader(graph, _OTHERS).read()
        _check_same(params, _collect(others))
        if turned != batch_first:
            raise WeightsError("takes its input the other way round at other sizes")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (TypeError, AttributeError):  # a name that is no UTF-8 comes as bytes
        raise WeightsError(f"{path}: damaged: a name in it is no text") from None
    return build(params, str(path), layers[0].cell, batch_first=batch_first, **options)


def _check_same(params: dict[str, Array], others: dict[str, Array]) -> None:
    """Refuse weights that depend on the input's sizes."""
    for name, array in params.items():
        if name not in others or not np.array_equal(array, others[name]):
            raise WeightsError(f"{name}: differs between inputs of different sizes")


def _collect(layers: list[_Layer]) -> dict[str, Array]:
    """The parameters of all layers; a bias that only some have is zero in the others."""
    first = layers[0]
    bias = any("bias_ih" in params for layer in layers for params in layer.params)
    collected = {}
    for number, layer in enumerate(layers):
        if (layer.cell, layer.directions) != (first.cell, first.directions):
            raise WeightsError(f"layers of different kinds: {first.cell} and {layer.cell}, or of directions")
        for direction, params in enumerate(layer.params):
            end = f"_l{number}" + "_reverse" * direction
            rows = np.zeros(len(params["weight_hh"]), params["weight_hh"].dtype)
            if bias:
                params = {"bias_ih": rows, "bias_hh": rows, **params}
            collected.update({key + end: value for key, value in params.items()})
    return collected


class _Reader:
    """Follows a graph from its inputs to its outputs."""

    def __init__(self, graph: Any, free: tuple[int, int]) -> None:
        self.graph = graph
        self.free = free
        self.marks = Marks()
        self.values: dict[str, Array] = {}
        self.inputs: dict[str, Array] = {}
        self.layers: list[_Layer] = []
        self.batch_first = False

    def read(self) -> tuple[list[_Layer], bool]:
        """Carry out the graph; returns its layers and whether its input is (B, T, I)."""
        if len(self.graph.sparse_initializer):
            raise WeightsError("sparse constants are not read")
        for tensor in self.graph.initializer:
            self.values[tensor.name] = constant(tensor, tensor.name)
        nodes = list(self.graph.node)
        recurrent = [n for n in nodes if n.op_type in _GATES]
        if not recurrent:
            raise WeightsError("holds no LSTM, GRU or RNN node")
        self._give_inputs(recurrent[0])
        for node in nodes:
            inputs = [self._value(node, name) for name in node.input]
            if node.op_type in _GATES and node.domain in ("", "ai.onnx"):
                outputs = self._recurrent(node, inputs)
            else:
                outputs = carry_out(node, inputs, self.marks)
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

    def _give_inputs(self, first: Any) -> None:
        """Fill the model's inputs; free sizes of one name are equal."""
        named: dict[str, int] = {}
        weights = self.values.get("".join(first.input[1:2]))
        width = weights.shape[-1] if weights is not None and weights.ndim else 1
        for value in self.graph.input:
            if value.name in self.values:  # an initializer may stand among the inputs
                continue
            sizes = []
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                free = width if axis == 2 else self.free[min(axis, 1)] if not self.inputs else self.free[1]
                if dimension.dim_value:
                    sizes.append(dimension.dim_value)
                    if dimension.dim_value < 0:
                        raise WeightsError(f"input {value.name}: a size of {dimension.dim_value}")
                elif dimension.dim_param:
                    sizes.append(named.setdefault(dimension.dim_param, free))
                else:
                    sizes.append(free)
            if len(sizes) > 3:
                raise WeightsError(f"input {value.name}: expected at most 3 dimensions, got {len(sizes)}")
            self.inputs[value.name] = self.values[value.name] = self.marks.draw(*sizes)

    def _recurrent(self, node: Any, inputs: list[Array | None]) -> list[Array]:
        """Read a recurrent node and give its outputs as the operator lays them out."""
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
        y = self.marks.draw(steps, batch, directions * hidden)
        states = ("h", "c")[: 2 if kind == "LSTM" else 1]
        finals = tuple(self.marks.draw(*shape) for _ in states)
        given = tuple(
            _state(state, shape, layout, f"{what}: initial_{s}")
            for s, state in zip(states, (h, c), strict=False)
        )
        if lengths is not None and not any(lengths is own for own in self.inputs.values()):
            raise WeightsError(f"{what}: sequence_lens is no input of the model")
        self.layers.append(_Layer(name, directions, params, given, lengths, y, finals))
        parts = y.reshape(steps, batch, directions, hidden)
        if layout:
            return [parts.swapaxes(0, 1), *(final.swapaxes(0, 1) for final in finals)]
        return [parts.transpose(0, 2, 1, 3), *finals]

    def _follow(self, x: Array | None, width: int, layout: int, what: str) -> tuple[int, int]:
        """Check that a node reads the model's input, or all that the layer below gives; returns T and B."""
        if x is None or x.dtype != MARK or x.ndim != 3:
            raise WeightsError(f"{what}: X is no input of the model and no output of the layer below")
        time_first = x.swapaxes(0, 1) if layout else x
        if self.layers:
            if not np.array_equal(time_first, self.layers[-1].y):
                raise WeightsError(f"{what}: X is not just the output of the layer below")
        else:
            straight = any(np.array_equal(time_first, own) for own in self.inputs.values())
            self.batch_first = not straight
            turned = time_first.swapaxes(0, 1)
            if not straight and not any(np.array_equal(turned, own) for own in self.inputs.values()):
                raise WeightsError(f"{what}: X is not just an input of the model")
        if x.shape[2] != width:
            raise WeightsError(f"{what}: W is of {width} features, X of {x.shape[2]}")
        return time_first.shape[0], time_first.shape[1]

    def _check_states(self) -> None:
        """Initial states are of all layers or none, each an input of its own or this layer's part of one."""
        if any(layer.lengths is not self.layers[0].lengths for layer in self.layers):
            raise WeightsError("sequence_lens differ from layer to layer")
        taken: set[tuple[str, int]] = set()
        for name, states in zip(
            "hc", zip(*(layer.states for layer in self.layers), strict=True), strict=False
        ):
            for number, state in enumerate(states):
                if (state is None) != (states[0] is None):
                    raise WeightsError(f"initial_{name}: some layers have one, others have none")
                if state is None:
                    continue
                place = self._place(state, number)
                if place is None or place in taken:
                    raise WeightsError(f"initial_{name} of layer {number} is not just an input of the model")
                taken.add(place)

    def _place(self, state: Array, number: int) -> tuple[str, int] | None:
        """Which input a state (D, B, H) is, or this layer's part of a (L*D, B, H), and where it begins."""
        size, count = len(state), len(self.layers)
        for name, whole in self.inputs.items():
            for form in (whole, whole.swapaxes(0, 1)) if whole.ndim == 3 else ():
                start = number * size if len(form) == count * size else 0
                if np.array_equal(state, form[start : start + size]):
                    return name, start
        return None

    def _check_output(self, name: str) -> None:
        """An output must be all that the last layer gives, or final states in our order."""
        value = self.values.get(name)
        if value is None:
            raise WeightsError(f"output {name[:80]!r}: nothing gives it")
        last = self.layers[-1]
        steps, batch, width = last.y.shape
        parts = last.y.reshape(steps, batch, last.directions, width // last.directions)
        # As the nodes lay it out, or as our layer does.
        forms = [parts.transpose(0, 2, 1, 3), parts.swapaxes(0, 1)]
        forms.append(last.y.swapaxes(0, 1) if self.batch_first else last.y)
        for k in range(len(last.finals)):
            finals = [layer.finals[k] for layer in self.layers]
            for final in (*finals, np.concatenate(finals)):
                forms += [final, final.swapaxes(0, 1)]
        if not any(np.array_equal(value, form) for form in forms):
            raise WeightsError(f"output {name[:80]!r} is not the last layer's output, nor final states")


def _check_attributes(attributes: dict[str, Any], what: str) -> None:
    """Refuse attributes that the operators have not, or not of this type."""
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
    """The name of the cell, or variant, that computes a node."""
    base = {"LSTM": "peephole" if peephole else "lstm", "RNN": "rnn"}.get(kind, "gru-reset-before")
    if kind == "GRU" and attributes.get("linear_before_reset"):
        base = "gru"
    clip = attributes.get("clip")
    if clip is not None and not 0 < clip < math.inf:
        raise WeightsError(f"{what}: clip: expected a number above 0, got {clip}")
    functions = _functions(attributes, VARIED[base], directions, what)
    coupled = kind == "LSTM" and bool(attributes.get("input_forget"))
    return Variant(base, functions, None if clip is None else _short(clip), coupled).name


def _functions(
    attributes: dict[str, Any], usual: dict[str, str], directions: int, what: str
) -> tuple[tuple[str, Activation], ...]:
    """The activations f, g and h, with the numbers that belong to them.

    `activation_alpha` and `activation_beta` list numbers for those functions that take one, in their order.
    """
    words = attributes.get("activations") or [*usual.values()] * directions
    if len(words) != len(usual) * directions:
        raise WeightsError(
            f"{what}: activations: expected {len(usual) * directions}, got {', '.join(words)[:80]}"
        )
    names = {name.lower(): name for name in ACTIVATIONS}
    given = {key: list(attributes.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    found = []
    for word in words:
        if word.lower() not in names:
            raise WeightsError(f"{what}: activations: no function here is {word[:40]}")
        name, numbers = names[word.lower()], []
        for key, standard in zip(("alpha", "beta"), ACTIVATIONS[names[word.lower()]], strict=False):
            number = _short(given[key].pop(0)) if given[key] else standard
            if number is None:
                raise WeightsError(f"{what}: activations: {name} needs activation_{key}")
            numbers.append(number)
        found.append(Activation(name, tuple(numbers)))
    for key, rest in given.items():
        if any(rest):  # zeros stand for functions that take none
            raise WeightsError(f"{what}: activation_{key}: {len(rest)} more than the activations take")
    first = found[: len(usual)]
    if first * directions != found:
        raise WeightsError(f"{what}: activations differ between the directions: {', '.join(words)[:80]}")
    return tuple(zip(usual, first, strict=True))


def _short(number: float) -> float:
    """A float32 as the number with the fewest digits that is it: a name is read by people, too."""
    return float(str(np.float32(number)))


def _params(
    kind: str, name: str, given: tuple[Array | None, ...], directions: int, what: str
) -> list[dict[str, Array]]:
    """W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H) under our names, gates in our order."""
    for letter, array in zip("WRBP", given, strict=True):
        if array is None and letter in "WR":
            raise WeightsError(f"{what}: {letter} is missing")
        if array is not None and (array.dtype == MARK or array.dtype.kind != "f"):
            raise WeightsError(f"{what}: {letter} is no constant of float32 or float64")
        if array is not None:
            check_finite(letter, array, what)
    w, r, b, p = given
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
    found = []
    for d in range(directions):
        own = {"weight_ih": _ours(w[d], node.gates), "weight_hh": _ours(r[d], node.gates)}
        if b is not None:
            own["bias_ih"], own["bias_hh"] = (_ours(half, node.gates) for half in np.split(b[d], 2))
        if p is not None:
            own["weight_ph"] = _ours(p[d], node.peepholes)
        found.append(own)
    return found


def _ours(array: Array, places: tuple[int, ...]) -> Array:
    """Undo an order of gates along the first axis."""
    parts = np.split(array, len(places))
    return np.concatenate([parts[places.index(k)] for k in range(len(places))])


def _state(value: Array | None, shape: tuple[int, ...], layout: int, what: str) -> Array | None:
    """An initial state as (D, B, H); None where it is zero."""
    if value is None:
        return None
    if value.dtype != MARK:
        if np.any(value):
            raise WeightsError(f"{what} is a constant; here it is an argument of the layer's call")
        return None
    state = value.swapaxes(0, 1) if layout and value.ndim == 3 else value
    if state.shape != shape:
        raise WeightsError(f"{what}: expected shape {shape}, got {state.shape}")
    return state
