"""ONNX models that compute more than recurrent layers: their nodes, wherever they stand, and their constants.

Nodes stand in the graph, in graphs that are attributes (branches of `If`, bodies of `Loop` and `Scan`) and in
the model's own functions, which are followed from each call. A name is looked up in its graph and then in
those around it; a function sees only what its call gives it. Values are computed backwards from what is
asked for, so that the rest of a model may be anything.

Names and scopes: github.com/onnx/onnx, docs/IR.md. Needs the package ``onnx`` (extra ``onnx``) to parse the
file; nothing in it is executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lstm_numba.data.file_io import read_file
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST
from lstm_numba.interop.onnx.operators import (
    STANDARD,
    Array,
    Markers,
    constant,
    evaluate,
    is_evaluated,
    operator_name,
)

#: Nodes of functions that are followed, once for each call, and graphs and calls inside each other.
_MOST_CALLED, _DEEPEST = 1 << 17, 100
#: Kinds of attributes that hold graphs.
_GRAPH, _GRAPHS = 5, 10


class Model(NamedTuple):
    """A parsed model."""

    proto: Any  # onnx.ModelProto
    size: int  # of the file, in bytes


def open_model(path: str | os.PathLike[str]) -> Model:
    """Parse an ONNX model.

    Raises
    ------
    WeightsError
        The file is missing or damaged, or the package ``onnx`` is not installed.
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
        return Model(onnx.load_model_from_string(content), len(content))
    except (DecodeError, ValueError, RecursionError):
        raise WeightsError(f"{path}: damaged, or not an ONNX model") from None


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file's name before the message of what is refused inside."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (TypeError, AttributeError, UnicodeError):  # a name that is not UTF-8 is bytes
        raise WeightsError(f"{path}: damaged: a name in it is not text") from None


class _Fault(NamedTuple):
    """In the place of a name that has no value here: why."""

    text: str


class _Elsewhere(NamedTuple):
    """In the place of a name inside a function, or of a call's output: what it stands for."""

    scope: Scope
    name: str


class Scope:
    """A graph, or a function as one call has it: what gives each name in it.

    Parameters
    ----------
    body : onnx.GraphProto or onnx.FunctionProto
    where : str
        The way to it, such as ``If_0/then_branch``; empty for the model's graph.
    outer : Scope, optional
        The graph around a graph.
    depth : int
        How many graphs and calls are around it.
    attributes : mapping of str to onnx.AttributeProto
        What a function's nodes may refer to; None outside of functions.
    """

    def __init__(
        self,
        body: Any,
        where: str = "",
        outer: Scope | None = None,
        depth: int = 0,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        if depth > _DEEPEST:
            raise WeightsError(f"graphs and functions more than {_DEEPEST} deep inside each other")
        self.where, self.outer, self.depth, self.attributes = where, outer, depth, attributes
        self.nodes = list(body.node)
        self._sources: dict[str, Any] = {}
        for given in getattr(body, "sparse_initializer", ()):
            self._give(given.values.name, _Fault("is sparse, which is not read"))
        for given in getattr(body, "initializer", ()):
            self._give(given.name, given)
        for given in body.input:
            name = given if isinstance(given, str) else given.name
            # An initializer may be listed as an input: its default, which the file gives.
            self._sources.setdefault(name, _Fault("is an input, which has no value in the file"))
        for node in self.nodes:
            for name in filter(None, node.output):
                self._give(name, node)

    def _give(self, name: str, source: Any) -> None:
        """A name has one source; of two, neither is right."""
        self._sources[name] = _Fault("is given twice") if name in self._sources else source

    def stands_for(self, names: Mapping[str, tuple[Scope, str]]) -> None:
        """Let names mean what others mean elsewhere: a call's inputs in the function, its outputs outside."""
        for name, (scope, other) in names.items():
            if name and self._sources.get(name) != _Fault("is given twice"):
                self._sources[name] = _Elsewhere(scope, other)

    def locate(self, name: str) -> tuple[Scope, str] | None:
        """Where a name's value comes from: the scope that gives it, and its name there.

        None if it is the empty name, which stands for an omitted input.

        Raises
        ------
        WeightsError
            Nothing gives it.
        """
        scope, seen = self, set()
        while name:
            inner: Scope | None = scope
            while inner is not None and name not in inner._sources:
                inner = inner.outer
            if inner is None or (inner, name) in seen:
                raise WeightsError(f"{name[:80]!r}: nothing gives it")
            source = inner._sources[name]
            if not isinstance(source, _Elsewhere):
                return inner, name
            seen.add((inner, name))
            scope, name = source
        return None

    def source(self, name: str) -> Any:
        """What gives a name that was located here: a tensor or a node.

        Raises
        ------
        WeightsError
            It has no value here, such as an input.
        """
        source = self._sources[name]
        if isinstance(source, _Fault):
            raise WeightsError(f"{name[:80]!r} {source.text}")
        return source

    def bound(self, node: Any) -> Any:
        """A node of this scope with the attributes that refer to the function's replaced by those."""
        if self.attributes is None or not any(a.ref_attr_name for a in node.attribute):
            return node
        copy = type(node)()
        copy.CopyFrom(node)
        del copy.attribute[:]
        for attribute in node.attribute:
            name = attribute.ref_attr_name
            given = self.attributes.get(name) if name else attribute
            if given is not None:  # else the call leaves it out, and so does the node
                new = copy.attribute.add()
                new.CopyFrom(given)
                new.name = attribute.name
        return copy


def own_functions(model: Model) -> dict[tuple[str, str, str], Any]:
    """A model's own functions by what calls them: domain, name and overload.

    Raises
    ------
    WeightsError
        One would be called as a standard operator is, and which is meant is not defined.
    """
    functions = {}
    for function in model.proto.functions:
        if function.domain in STANDARD:
            raise WeightsError(f"{function.name}: a function of the model by a standard operator's name")
        functions[function.domain, function.name, function.overload] = function
    return functions


def walk(model: Model) -> Iterator[tuple[Scope, Any]]:
    """All nodes of a model and their scopes, in the order of the file; what is inside a node follows it.

    Calls of the model's own functions are not among them, but the functions' nodes, once for each call.

    Raises
    ------
    WeightsError
        Functions have too many, they are too deep inside each other, or see `own_functions`.
    """
    functions = own_functions(model)
    root = Scope(model.proto.graph)
    stack, count = [(root, iter(enumerate(root.nodes)))], 0
    while stack:
        scope, nodes = stack[-1]
        for index, written in nodes:
            count += scope.attributes is not None
            if count > _MOST_CALLED:
                raise WeightsError(f"more than {_MOST_CALLED} nodes of functions, counted at each call")
            node = scope.bound(written)
            function = functions.get((node.domain, node.op_type, node.overload))
            if function is None:
                yield scope, node
            inside = _inside(scope, node, function, index)
            if inside:
                stack.extend((inner, iter(enumerate(inner.nodes))) for inner in reversed(inside))
                break  # and on with the next node after what is inside this one
        else:
            stack.pop()


def _inside(scope: Scope, node: Any, function: Any, index: int) -> list[Scope]:
    """The scopes of a node's graphs, or of the function that it calls."""
    label = f"{scope.where}/" if scope.where else ""
    label += (node.name or f"{node.op_type}_{index}")[:80]
    if function is not None:
        given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        inner = Scope(function, label, None, scope.depth + 1, given)
        inputs = [*node.input, *[""] * len(function.input)]
        inner.stands_for({name: (scope, inputs[k]) for k, name in enumerate(function.input)})
        scope.stands_for({a: (inner, b) for a, b in zip(node.output, function.output, strict=False)})
        return [inner]
    graphs = []
    for attribute in node.attribute:
        held = [attribute.g] if attribute.type == _GRAPH else attribute.graphs
        if attribute.type in (_GRAPH, _GRAPHS):
            graphs += [(attribute.name[:80], graph) for graph in held]
    return [
        Scope(graph, f"{label}/{name}", scope, scope.depth + 1, scope.attributes) for name, graph in graphs
    ]


class Constants:
    """Values that a file determines, computed when they are asked for, each once.

    Parameters
    ----------
    markers : Markers
        Limits the numbers of all of them together.
    """

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._values: dict[tuple[Scope, str], Array | None] = {}

    def value(self, scope: Scope, name: str) -> Array | None:
        """The value of a name; None for an omitted input.

        Raises
        ------
        WeightsError
            It depends on an input, or comes from a node that does more than move numbers.
        """
        goal = scope.locate(name)
        stack, begun = [goal] if goal else [], set()
        while stack:
            place = stack[-1]
            if place in self._values:
                stack.pop()
                continue
            where, own_name = place
            source = where.source(own_name)
            if not hasattr(source, "op_type"):
                self._markers.spend(tuple(source.dims))
                self._values[place] = constant(source, own_name[:80])
                continue
            node = where.bound(source)
            needed = self._inputs(where, node)
            missing = [at for at in needed if at is not None and at not in self._values]
            if not missing:
                self._compute(where, node, needed)
            elif place in begun:
                raise WeightsError(f"{own_name[:80]!r} depends on itself")
            else:
                begun.add(place)
                stack += missing
        return self._values[goal] if goal else None

    def _inputs(self, scope: Scope, node: Any) -> list[tuple[Scope, str] | None]:
        """Where a node's inputs come from; that it can be computed is looked at before they are."""
        if not is_evaluated(node):
            quantized = "; quantized weights are not read" if "quantize" in node.op_type.lower() else ""
            which = f"{operator_name(node)} {node.name[:80]!r}"
            raise WeightsError(f"comes from {which}, which does more than move numbers{quantized}")
        return [scope.locate(name) for name in node.input]

    def _compute(self, scope: Scope, node: Any, needed: list[tuple[Scope, str] | None]) -> None:
        outputs = evaluate(node, [None if at is None else self._values[at] for at in needed], self._markers)
        for name, value in zip(node.output, outputs, strict=False):
            self._values[scope, name] = value
