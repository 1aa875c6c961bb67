"""What experiments read from networks on the device: the same numbers as on the processor."""

from __future__ import annotations

import numpy as np
from tolerances import assert_close

from lstm_numba.data import first_symbol
from lstm_numba.experiments import gradient_flow, toy_grammar


def test_gradients_between_steps_and_beliefs() -> None:
    x, labels = first_symbol.draw(1, 3, 2)
    texts = np.array([[0, 1], [3, 3], [1, 2]], np.int32)
    found = []
    for device in ("cpu", "cuda"):
        part = gradient_flow.Part("lstm", 2.0, (7,), 4, 32, 1, device)
        gradients, accuracy = gradient_flow.loss_gradients(gradient_flow._network(part, 7), x, labels)
        network = toy_grammar.Network(toy_grammar.Part("lstm", 3, 4, 1, 0.01, 8, device))
        found.append((gradients["h"], gradients["c"], network.following(texts), np.array(accuracy)))
    for expected, actual in zip(*found, strict=True):
        assert_close(actual, expected, "backward")
