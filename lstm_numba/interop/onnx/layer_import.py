"""Layers from ONNX models: of a whole model of LSTM, GRU or RNN nodes, or of one node of any model.

A whole model is read only if the layer computes the same as the model, initial states and order of outputs
included. Otherwise single nodes are (`lstm_numba.interop.onnx.nodes`).

Operators: github.com/onnx/onnx, docs/Operators.md. Needs the package ``onnx`` (extra ``onnx``) to parse the
file; nothing in it is executed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_numba.errors import WeightsError, WeightsWarning, warn
from lstm_numba.interop.onnx.graph import Model, naming, open_model, own_functions
from lstm_numba.interop.onnx.model_export import LAYERS
from lstm_numba.interop.onnx.model_import import read_onnx_model
from lstm_numba.interop.onnx.nodes import Choice, NodeReader, checked_choice
from lstm_numba.interop.onnx.operators import MARKER, Array, Markers, constant, evaluate
from lstm_numba.interop.onnx.parameters import Parameters, is_recurrent, parameters_of, stack_nodes
from lstm_numba.interop.options import Options
from lstm_numba.interop.state_dict import build
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.interop.options import LayerOptions

#: Two choices of T and B for dynamic dimensions, each with T != B so that a transposition shows. Two, because
#: what a model computes from sizes may be right for one of them only.
_SIZES, _OTHER_SIZES = (3, 2), (7, 5)

_LAYERS_ONLY = (
    "only the recurrent layers of the model are read; "
    "load_weights(..., head='output') reads the linear layer too"
)


class _Layer(NamedTuple):
    """A recurrent node, and its inputs and outputs as arrays of markers."""

    node: Parameters
    states: tuple[Array | None, ...]  # (D, B, H) each
    lengths: Array | None
    y: Array  # (T, B, D*H)
    finals: tuple[Array, ...]  # (D, B, H)


@explicit(Options)
def load_onnx(
    path: str | os.PathLike[str],
    *,
    node: Choice | Sequence[Choice] | None = None,
    allow_nonfinite: bool = False,
    **options: Unpack[LayerOptions],
) -> Recurrent:
    """Make a layer from an ONNX model of LSTM, GRU or RNN nodes, or from one such node of any model.

    In a whole model, nodes may be stacked or bidirectional, have peepholes, `clip`, `input_forget`, any of
    the operators' activations, either `layout`, and initial states and lengths that are inputs of the model,
    which become arguments of the layer's call. Other nodes may only move data (Transpose, Reshape, ...).

    A model that computes more gives its only recurrent node, or the one that is asked for. The layer computes
    what the node does. What the node reads, its initial states (even if the model has constants for them),
    its lengths and what follows it are the caller's business. Its weights may be constants of the graphs
    around it, also sliced, joined or transposed by other nodes.

    Parameters
    ----------
    path : path
    node : int, str or sequence of them, optional
        A node by its number (from 0, as `lstm_numba.interop.onnx.nodes.list_nodes` has them, also in branches
        of `If`, bodies of loops and functions), its name, or the name of one of its outputs. Several make one
        stack of layers, from the input's side; that nothing between them computes is not checked.
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.
    **options
        ``device``, ``seed`` and what a layer drops in training, see `lstm_numba.Recurrent`; of a node also
        ``batch_first``, as what transposes its input may stand anywhere before it.

    Returns
    -------
    Recurrent
        With `batch_first` if the model's input is (B, T, I); of a node, if its `layout` is 1.

    Raises
    ------
    WeightsError
        The file is missing or damaged, no layer computes the same as the model or node, there are several
        nodes and none is chosen, or the package ``onnx`` is not installed; the message says which.

    Warns
    -----
    WeightsWarning
        The model computes more than the layer, and no node was asked for.
    """
    rnn, notes = read_onnx(path, node=node, allow_nonfinite=allow_nonfinite, **options)
    for note in notes:
        warn(f"{path}: {note}", WeightsWarning)
    return rnn


class OnnxLayer(NamedTuple):
    """Result of `read_onnx`."""

    network: Recurrent
    notes: tuple[str, ...]


def read_onnx(
    path: str | os.PathLike[str],
    *,
    node: Choice | Sequence[Choice] | None = None,
    allow_nonfinite: bool = False,
    **options: Any,
) -> OnnxLayer:
    """As `load_onnx`, with what it warns of."""
    choices = checked_choice(node)
    model = open_model(path)
    notes: tuple[str, ...] = ()
    with naming(path):
        own = read_onnx_model(model.proto) if choices is None else None
        if own is not None:
            layers = [name for name in own.tensors if name.startswith(LAYERS)]
            params = {name.removeprefix(LAYERS): own.tensors[name] for name in layers}
            cell, layout = own.cells[""], False
            notes = (_LAYERS_ONLY,)
        else:
            if choices is None:
                nodes, layout, notes = _read_model(model, allow_nonfinite)
            else:
                nodes = NodeReader(model, allow_nonfinite).choose(choices)
                layout = _layout(nodes)
            params, cell = stack_nodes(nodes), nodes[0].cell
    if choices is not None or notes:  # what transposes the input may be anywhere before the node
        layout = options.pop("batch_first", layout)
    return OnnxLayer(
        build(params, str(path), cell, batch_first=layout, allow_nonfinite=allow_nonfinite, **options), notes
    )


def _read_model(model: Model, allow_nonfinite: bool) -> tuple[list[Parameters], bool, tuple[str, ...]]:
    """The layers of a whole model, or its only recurrent node; whether batch first; what to tell."""
    try:
        return (*_read_whole(model, allow_nonfinite), ())
    except WeightsError as error:
        reason = str(error)
    reader = NodeReader(model, allow_nonfinite)
    if len(reader.candidates) > 1:
        reader.check_any()
        how = "load its recurrent nodes one by one, or stacked ones together by a list of them"
        raise WeightsError(f"computes more than stacked layers ({reason}); {how}; {reader.listing()}")
    nodes = reader.choose(None)
    note = f"only the model's recurrent node is read, and it computes more ({reason})"
    return nodes, nodes[0].batch_first, (note,)


def _read_whole(model: Model, allow_nonfinite: bool) -> tuple[list[Parameters], bool]:
    """The layers of a model that a layer computes as a whole."""
    own_functions(model)  # calls of which are refused, as other operators are
    layers, batch_first = _Reader(model, _SIZES, allow_nonfinite).read()
    others, other_batch_first = _Reader(model, _OTHER_SIZES, allow_nonfinite).read()
    nodes = [layer.node for layer in layers]
    _check_same(stack_nodes(nodes), stack_nodes([layer.node for layer in others]))
    if other_batch_first != batch_first:
        raise WeightsError("takes its input the other way round at other sizes")
    return nodes, batch_first


def _layout(nodes: Sequence[Parameters]) -> bool:
    """Whether chosen nodes are batch first; they must agree."""
    if len({node.batch_first for node in nodes}) > 1:
        raise WeightsError("node: of different layouts, which are not a stack")
    return nodes[0].batch_first


def _check_same(params: dict[str, Array], others: dict[str, Array]) -> None:
    """Refuse weights that depend on the sizes of the inputs."""
    for name, array in params.items():
        if name not in others or not np.array_equal(array, others[name], equal_nan=True):
            raise WeightsError(f"{name}: differs between inputs of different sizes")


class _Reader:
    """Evaluates a graph on markers, from its inputs to its outputs."""

    def __init__(self, model: Model, sizes: tuple[int, int], allow_nonfinite: bool) -> None:
        self.graph = model.proto.graph
        self.sizes = sizes
        self.allow_nonfinite = allow_nonfinite
        self.markers = Markers(model.size)
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
        recurrent = [n for n in nodes if is_recurrent(n)]
        if not recurrent:
            raise WeightsError("its main graph holds no LSTM, GRU or RNN")
        self._make_inputs(recurrent[0])
        for node in nodes:
            inputs = [self._value(node, name) for name in node.input]
            if is_recurrent(node):
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
        kind = node.op_type
        what = f"{kind} {node.name or len(self.layers)}"[:80]
        x, w, r, b, lengths, h, *more = [*inputs, *[None] * 8][:8]
        c, p = (more[0], more[1]) if kind == "LSTM" else (None, None)
        found = parameters_of(node, (w, r, b, p), what, self.allow_nonfinite)
        directions, hidden, layout = found.directions, found.hidden, found.batch_first
        steps, batch = self._follow(x, found.inputs, layout, what)
        shape = (directions, batch, hidden)
        y = self.markers.draw(steps, batch, directions * hidden)
        states = ("h", "c")[: 2 if kind == "LSTM" else 1]
        finals = tuple(self.markers.draw(*shape) for _ in states)
        initial = tuple(
            _state(state, shape, layout, f"{what}: initial_{s}")
            for s, state in zip(states, (h, c), strict=False)
        )
        if lengths is not None and not any(lengths is value for value in self.inputs.values()):
            raise WeightsError(f"{what}: sequence_lens is not an input of the model")
        self.layers.append(_Layer(found, initial, lengths, y, finals))
        parts = y.reshape(steps, batch, directions, hidden)
        if layout:
            return [parts.swapaxes(0, 1), *(final.swapaxes(0, 1) for final in finals)]
        return [parts.transpose(0, 2, 1, 3), *finals]

    def _follow(self, x: Array | None, width: int, layout: bool, what: str) -> tuple[int, int]:
        """Check that a node reads the model's input or all of the layer below; returns T and B."""
        if x is None or x.dtype != MARKER or x.ndim != 3:
            raise WeightsError(
                f"{what}: X is neither an input of the model nor the output of the layer below"
            )
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
        directions = last.node.directions
        parts = last.y.reshape(steps, batch, directions, width // directions)
        # In the layouts of the operators, or of our layer.
        allowed = [parts.transpose(0, 2, 1, 3), parts.swapaxes(0, 1)]
        allowed.append(last.y.swapaxes(0, 1) if self.batch_first else last.y)
        for k in range(len(last.finals)):
            finals = [layer.finals[k] for layer in self.layers]
            for final in (*finals, np.concatenate(finals)):
                allowed += [final, final.swapaxes(0, 1)]
        if not any(np.array_equal(value, form) for form in allowed):
            raise WeightsError(f"output {name[:80]!r} is not the last layer's output, nor final states")


def _state(value: Array | None, shape: tuple[int, ...], layout: bool, what: str) -> Array | None:
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
