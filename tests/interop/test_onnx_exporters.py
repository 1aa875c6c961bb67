"""Networks that PyTorch's two exporters write: the recurrent nodes give the modules' numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from interop_tools import assert_same
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.interop.onnx.nodes import list_nodes

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


class Exported(NamedTuple):
    """A module, and how it is exported."""

    kind: str
    layers: int
    both: bool
    batch_first: bool
    dynamo: bool
    free: bool  # batch and steps are of any size


class Network(torch.nn.Module):
    """A convolution, recurrent layers, and a linear layer; (B, 2, T) -> (T, B, 2), or (B, T, 2)."""

    def __init__(self, how: Exported) -> None:
        super().__init__()
        self.order = (0, 2, 1) if how.batch_first else (2, 0, 1)
        self.conv = torch.nn.Conv1d(2, 3, 3, padding=1)
        kind = getattr(torch.nn, how.kind)
        self.rnn = kind(3, 5, how.layers, bidirectional=how.both, batch_first=how.batch_first)
        self.out = torch.nn.Linear(5 * (1 + how.both), 2)

    def seen(self, x: Any) -> Any:
        """What the recurrent layers read."""
        return torch.relu(self.conv(x)).permute(self.order)

    def forward(self, x: Any) -> Any:
        """All of it."""
        return self.out(self.rnn(self.seen(x))[0])


def export(module: Any, how: Exported, x: Any, axes: tuple[int, ...], path: Path) -> None:
    """Write a module as an ONNX model."""
    if not how.dynamo:
        free = {"x": {axis: f"size{axis}" for axis in axes}} if how.free else None
        torch.onnx.export(module, (x,), path, input_names=["x"], dynamic_axes=free, dynamo=False)
        return
    shapes = ({axis: f"size{axis}" for axis in axes},) if how.free else None
    torch.onnx.export(module, (x,), dynamic_shapes=shapes, dynamo=True, verbose=False).save(path)


def check(rnn: Any, module: Any, z: Any) -> None:
    """A layer that is time first has the module's weights, and gives its numbers."""
    assert_same(rnn, ln.from_torch(module))
    with torch.no_grad():
        expected = module(z)[0].numpy()
    x = z.numpy()
    turned = module.batch_first and not rnn.batch_first
    y, _ = rnn(np.ascontiguousarray(x.swapaxes(0, 1)) if turned else x)
    assert_close(y.swapaxes(0, 1) if turned else y, expected, "forward", "y")


NETWORKS = [
    Exported("LSTM", 1, False, False, dynamo=False, free=True),
    Exported("LSTM", 2, True, True, dynamo=False, free=True),
    Exported("GRU", 2, True, False, dynamo=False, free=False),
    Exported("GRU", 1, True, True, dynamo=True, free=False),
    Exported("LSTM", 2, False, True, dynamo=True, free=True),
]


@pytest.mark.parametrize("how", NETWORKS, ids=str)
def test_recurrent_layers_of_a_network(how: Exported, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = Network(how).eval(), tmp_path / "m.onnx"
    x = torch.randn(4, 2, 6)
    export(network, how, x, (0,) if how.dynamo else (0, 2), path)
    with torch.no_grad():
        z = network.seen(x)
    nodes = list_nodes(path)
    ways = 1 + how.both
    assert [(r.operator, r.where, r.inputs, r.hidden, r.directions, r.error) for r in nodes] == [
        (how.kind, "", 5 * ways if n else 3, 5, ways, None) for n in range(how.layers)
    ]
    check(ln.load_onnx(path, node=[r.number for r in nodes]), network.rnn, z)
    check(ln.load_onnx(path, node=[r.outputs[0] for r in nodes]), network.rnn, z)
    if how.layers == 1:
        check(ln.load_onnx(path), network.rnn, z)
        return
    with pytest.raises(ValueError, match=rf"Conv: only .* of 2: 0: .*, {how.kind} I=3 H=5"):
        ln.load_onnx(path)


@pytest.mark.parametrize(
    "how",
    [
        Exported("GRU", 1, True, True, dynamo=False, free=True),
        Exported("GRU", 2, False, False, dynamo=True, free=False),
    ],
    ids=str,
)
def test_recurrent_layers_alone(how: Exported, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Network(how).rnn.eval()
    x, path = torch.randn(6, 4, 3), tmp_path / "m.onnx"
    export(module, how, x, (0, 1), path)
    rnn = ln.load_onnx(path)
    assert rnn.batch_first == how.batch_first
    check(rnn, module, x)
    check(ln.load_onnx(path, node=list(range(how.layers))), module, x)


def test_a_scripted_branch(tmp_path: Path) -> None:
    """The exporter of traces keeps the `if` of a scripted module, with a layer in each branch."""
    how = Exported("LSTM", 1, False, False, dynamo=False, free=True)

    class Either(torch.nn.Module):
        """One of two layers, as the input's length has it."""

        def __init__(self) -> None:
            super().__init__()
            self.short, self.long = torch.nn.LSTM(3, 5), torch.nn.GRU(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Either's output."""
            if x.shape[0] < 4:
                y, _ = self.short(x)
            else:
                y, _ = self.long(x)
            return torch.relu(y)

    torch.manual_seed(2)
    network, path = Either().eval(), tmp_path / "m.onnx"
    x = torch.randn(6, 2, 3)
    export(torch.jit.script(network), how, x, (0, 1), path)
    nodes = {r.operator: r for r in list_nodes(path)}
    assert {r.where.rpartition("/")[2] for r in nodes.values()} == {"then_branch", "else_branch"}
    for kind, module in (("LSTM", network.short), ("GRU", network.long)):
        rnn = ln.load_onnx(path, node=nodes[kind].number)
        with torch.no_grad():
            expected = module(x)[0].numpy()
        assert_close(rnn(x.numpy())[0], expected, "forward", kind)
