"""The Clockwork RNN on the device beside the CPU, which is tested beside the paper's loop."""

from __future__ import annotations

import numpy as np
import pytest
from recurrent_problems import host
from tolerances import assert_close

from lstm_numba.nn.clockwork import ClockworkRNN


@pytest.mark.parametrize("lengths", [None, (5, 0, 7)])
def test_outputs_and_every_gradient_beside_the_cpu(lengths: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((7, 3, 2)), rng.standard_normal((7, 3, 12))
    state, dstate = rng.standard_normal((2, 4, 3, 6))
    if lengths:
        for b, end in enumerate(lengths):
            x[end:, b] = dy[end:, b] = np.nan
    layer = ClockworkRNN(
        2,
        6,
        2,
        periods=(1, 3, 5),
        bidirectional=True,
        dropout=0.3,
        dtype=np.float64,
        seed=np.random.Philox(1),
    )
    results = []
    for device in ("cpu", "cuda"):
        layer.to(device)
        layer.rng = np.random.Generator(np.random.Philox(2))
        y, final, tape = layer.forward(x, state, lengths)
        kept = layer.state_dict()
        for value in layer.params.values():  # the tape has copies
            layer.engine.assign(value, None)
        dx, dinitial, grads = layer.backward(tape, dy, dstate)
        layer.load_state_dict(kept)
        arrays = {"y": y, "state": final, "dx": dx, "dstate": dinitial, "call": layer(x, state, lengths)[0]}
        results.append(arrays | {name: host(layer, grad) for name, grad in grads.items()})
    for name, expected in results[0].items():
        assert_close(results[1][name], expected, "backward", name)
