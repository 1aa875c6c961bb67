"""PyTorch as a second opinion: forward and every gradient, from the same parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recurrent_problems import unpack
from tolerances import assert_close

from lstm_numba.engines.dropout_masks import draw_mask
from lstm_numba.nn.layers import make_layer

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

MAKERS = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "rnn": torch.nn.RNN,
    "lstm-projected": lambda *sizes, **options: torch.nn.LSTM(*sizes, proj_size=7, **options),
    "rnn-relu": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options),
}


@pytest.mark.parametrize("lengths", [None, [6, 1, 4, 3]], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_forward_and_every_gradient(name: str, dtype: str, lengths: Any) -> None:
    rng = np.random.default_rng(0)
    steps, batch, inputs, hidden, layers = 6, 4, 5, 18, 2
    peer = MAKERS[name](inputs, hidden, layers, bidirectional=True, dtype=getattr(torch, dtype))
    projection = {"proj_size": 7} if name == "lstm-projected" else {}
    ours = make_layer(name, inputs, hidden, layers, bidirectional=True, dtype=dtype, **projection)
    ours.load_state_dict(peer.state_dict())

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    x, dy = draw(steps, batch, inputs), draw(steps, batch, 2 * ours.output_size)
    shapes = [state.shape for state in unpack(ours.zero_state(batch))]
    states, dstates = ([draw(*shape) for shape in shapes] for _ in range(2))

    def ours_form(arrays: list[Any]) -> Any:
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    tx = torch.tensor(x, requires_grad=True)
    tstates = [torch.tensor(s, requires_grad=True) for s in states]
    given = tx
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(tx, lengths, enforce_sorted=False)
    ty, tfinal = peer(given, ours_form(tstates))
    if lengths is not None:
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, total_length=steps)
    tfinals = list(tfinal) if isinstance(tfinal, tuple) else [tfinal]
    total = (ty * torch.tensor(dy)).sum()
    for final, d in zip(tfinals, dstates, strict=True):
        total = total + (final * torch.tensor(d)).sum()
    total.backward()

    y, final, tape = ours.forward(x, ours_form(states), lengths)
    dx, dinitial, grads = ours.backward(tape, dy, ours_form(dstates))
    finals = list(final) if isinstance(final, tuple) else [final]
    initials = list(dinitial) if isinstance(dinitial, tuple) else [dinitial]
    assert_close(y, ty.detach().numpy(), "forward", "y")
    assert_close(dx, tx.grad.numpy(), "backward", "dx")
    for n in range(len(states)):
        assert_close(finals[n], tfinals[n].detach().numpy(), "forward", f"state {n}")
        assert_close(initials[n], tstates[n].grad.numpy(), "backward", f"dstate {n}")
    for key, parameter in peer.named_parameters():
        assert_close(grads[key], parameter.grad.numpy(), "backward", f"d{key}")


def test_dropped_weights() -> None:
    """Masks on a torch.nn.LSTM's recurrent weights, by hand."""
    rng, sizes = np.random.default_rng(0), (5, 18, 2)
    peer = torch.nn.LSTM(*sizes, bidirectional=True, dtype=torch.float64)
    ours = make_layer("lstm", *sizes, bidirectional=True, dtype="float64", weight_drop=0.4)
    ours.load_state_dict(peer.state_dict())
    x, dy = rng.standard_normal((6, 4, 5)), rng.standard_normal((6, 4, 36))
    ours.rng = np.random.Generator(np.random.Philox(1))
    y, _, tape = ours.forward(x)
    _, _, grads = ours.backward(tape, dy)

    rng = np.random.Generator(np.random.Philox(1))
    masks = {
        key: torch.tensor(draw_mask(rng, tuple(value.shape), 0.4, np.float64))
        for key, value in peer.named_parameters()
        if key.startswith("weight_hh")
    }
    with torch.no_grad():
        for key, mask in masks.items():
            getattr(peer, key).mul_(mask)
    ty, _ = peer(torch.tensor(x))
    (ty * torch.tensor(dy)).sum().backward()
    assert_close(y, ty.detach().numpy(), "forward", "y")
    for key, parameter in peer.named_parameters():
        expected = parameter.grad * masks.get(key, 1.0)
        assert_close(grads[key], expected.numpy(), "backward", f"d{key}")
