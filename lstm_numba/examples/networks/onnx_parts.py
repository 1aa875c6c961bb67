"""Parts of ONNX models for ONNX Runtime: what computes some values from others.

Independent of `lstm_numba.interop`: weights reach ONNX Runtime through the model's own nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.errors import UserError
from lstm_numba.examples.networks.comparison import peer

Array = np.ndarray[Any, Any]
_RECURRENT = ("LSTM", "GRU", "RNN")


class Model:
    """An ONNX model, its nodes and constants under the names of what they give, those in branches too.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: Path) -> None:
        self.onnx = peer("onnx")
        self.proto = self.onnx.load(str(path))
        self.nodes = list(_all_nodes(self.proto.graph))
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in _all_constants(self.proto.graph)}

    @property
    def recurrent(self) -> list[Any]:
        """The LSTM, GRU and RNN nodes, in order."""
        return [node for node in self.nodes if node.op_type in _RECURRENT]

    def constant(self, name: str) -> Array:
        """The numbers of a constant."""
        return np.array(self.onnx.numpy_helper.to_array(self._constants[name]))

    def with_outputs(self, names: Sequence[str]) -> bytes:
        """The whole model, which gives some values in the middle too, after its own outputs."""
        model = self.onnx.ModelProto()
        model.CopyFrom(self.proto)
        model.graph.output.extend(self._declare(names))
        return bytes(model.SerializeToString())

    def part(self, outputs: Sequence[str], inputs: Sequence[str] = ()) -> bytes:
        """The nodes between some values; from the model's inputs on where they read no other.

        Parameters
        ----------
        outputs : sequence of str
            What is computed.
        inputs : sequence of str
            Values of float32 that are given instead of computed.
        """
        nodes, constants, own = self._needed(outputs, set(inputs))
        declared = [value for value in self.proto.graph.input if value.name in own]
        graph = self.onnx.helper.make_graph(
            nodes, "part", [*declared, *self._declare(inputs)], self._declare(outputs), constants
        )
        proto = self.proto
        model = self.onnx.helper.make_model(
            graph, opset_imports=proto.opset_import, ir_version=proto.ir_version
        )
        return bytes(model.SerializeToString())

    def _needed(self, outputs: Sequence[str], given: set[str]) -> tuple[list[Any], list[Any], set[str]]:
        """Nodes in an order in which they can run, constants, and inputs of the model."""
        nodes, constants, own, seen = [], [], set(), set(given)
        pending = [(name, False) for name in outputs]
        while pending:
            name, ready = pending.pop()
            if ready:  # all that the node reads is there
                if self._makers[name] not in nodes:
                    nodes.append(self._makers[name])
            elif name not in seen:
                seen.add(name)
                if name in self._constants:
                    constants.append(self._constants[name])
                elif name in self._makers:
                    pending.append((name, True))
                    pending += [(read, False) for read in _reads(self._makers[name])]
                else:
                    own.add(name)
        return nodes, constants, own

    def _declare(self, names: Sequence[str]) -> list[Any]:
        kind = self.onnx.TensorProto.FLOAT
        return [self.onnx.helper.make_tensor_value_info(name, kind, None) for name in names]


def session(model: bytes, threads: int) -> Any:
    """A session of ONNX Runtime on the CPU, with default options but for the number of threads."""
    runtime = peer("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise UserError(f"ONNX Runtime refuses the model: {str(error)[:200]}") from None


def _graphs(node: Any) -> Iterator[Any]:
    """The branches of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for branch in _graphs(node):
            yield from _all_nodes(branch)


def _all_constants(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for branch in _graphs(node):
            yield from _all_constants(branch)


def _reads(node: Any) -> list[str]:
    """What a node reads, its branches included, where they do not make it themselves."""
    names = [name for name in node.input if name]
    for branch in _graphs(node):
        inner = list(_all_nodes(branch))
        made = {name for child in inner for name in child.output}
        made |= {tensor.name for tensor in _all_constants(branch)}
        outer = [name for child in inner for name in child.input] + [value.name for value in branch.output]
        names += [name for name in outer if name and name not in made]
    return names
