"""ONNX models: editing them, and what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


def in_runtime(path: Path, x: Any, states: list[Any], lengths: Any = None) -> list[Any]:
    """What ONNX Runtime computes."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"x": x, **{f"{s}0": state for s, state in zip("hc", states, strict=False)}}
    if lengths is not None:
        feed["lengths"] = np.array(lengths, np.int32)
    names = {given.name for given in session.get_inputs()}
    return list(session.run(None, {name: value for name, value in feed.items() if name in names}))


def change(path: Path, how: Callable[[Any], None]) -> None:
    """Edit a model."""
    model = onnx.load_model_from_string(path.read_bytes())
    how(model.graph)
    path.write_bytes(model.SerializeToString())


def set_attribute(graph: Any, name: str, value: Any) -> None:
    """Set an attribute of every recurrent node."""
    for node in graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def dynamic(graph: Any, tile: bool = False) -> None:
    """As PyTorch's exporter writes free sizes: each Reshape's shape a product, zero states of the batch."""
    make, fixed = onnx.helper.make_node, [0, 1, 2, 3, 4, -1, 5]
    for n in fixed:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([n], np.int64), f"int{n}"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    own = list(graph.node)
    del graph.node[:], graph.input[1:]
    axis = int(any(node.op_type == "Transpose" and node.input[0] == "x" for node in own))
    batch = [
        make("Shape", ["x"], ["x_shape"]),
        make("Slice", ["x_shape", f"int{1 - axis}", f"int{2 - axis}"], ["batch"]),
    ]
    if tile:  # the older exporter's way to expand
        batch += [
            make("Concat", ["int4", "batch", "int5"], ["sizes"], axis=0),
            make("Shape", ["sizes"], ["rank"]),
            make("ConstantOfShape", ["rank"], ["ones"], value=onnx.helper.make_tensor("v", 7, [1], [1])),
            make("Mul", ["ones", "int-1"], ["minus"]),
            make("Equal", ["sizes", "minus"], ["same"]),
            make("Where", ["same", "ones", "sizes"], ["wanted"]),
            make("Cast", ["wanted"], ["cast"], to=7),
            make("ConstantOfShape", ["cast"], ["states"]),
        ]
    else:
        batch += [
            make("Concat", ["int4", "batch", "int5"], ["sizes"], axis=0),
            make("Expand", ["zero", "sizes"], ["states"]),
        ]
    graph.node.extend(batch)
    for number, node in enumerate(own):
        if node.op_type == "Split":
            continue
        if node.op_type in ("LSTM", "GRU", "RNN"):
            layer_number = sum(n.op_type == node.op_type for n in own[:number])
            part = f"state{layer_number}"
            ends = (f"int{2 * layer_number}", f"int{2 * layer_number + 2}")
            graph.node.append(make("Slice", ["states", *ends, "int0"], [part]))
            node.input[5:] = [part] * len(node.input[5:7]) + list(node.input[7:])
        if node.op_type == "Reshape":
            s = [f"s{k}_{number}" for k in range(4)]
            graph.node.append(make("Shape", [node.input[0]], [f"shape{number}"]))
            for k in range(4):
                graph.node.append(make("Slice", [f"shape{number}", f"int{k}", f"int{k + 1}"], [s[k]]))
            graph.node.append(make("Mul", s[2:], [f"product{number}"]))
            graph.node.append(make("Reshape", [f"product{number}", "int-1"], [f"flat{number}"]))
            graph.node.append(make("Concat", [*s[:2], f"flat{number}"], [f"to{number}"], axis=0))
            node.input[1] = f"to{number}"
        graph.node.append(node)
