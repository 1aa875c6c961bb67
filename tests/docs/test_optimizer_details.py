"""Details 25 to 28 of lstm_numba/cells/README.md: the optimizers' updates beside PyTorch's and Keras'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detail_tools import close, numbers

import lstm_numba as ln


def updated(optimizer: Any, start: np.ndarray, rates: tuple[float, ...] = (0.1, 0.1, 0.1)) -> np.ndarray:
    """A parameter after steps with the gradients of `gradient`, by an optimizer of this library."""
    params = {"w": start.copy()}
    made = optimizer(params)
    for n, rate in enumerate(rates):
        made.lr = rate
        made.step({"w": gradient(n)})
    return params["w"]


def gradient(n: int) -> np.ndarray:
    """That of step n: small, so that an epsilon shows."""
    return numbers(8, seed=n) * np.float32(1e-6)


def by_torch(torch: Any, optimizer: Any, start: np.ndarray) -> np.ndarray:
    """The same by one of PyTorch's."""
    tensor = torch.tensor(start, requires_grad=True)
    made = optimizer([tensor])
    for n in range(3):
        tensor.grad = torch.tensor(gradient(n))
        made.step()
    return tensor.detach().numpy()


def by_keras(
    keras: Any, optimizer: Any, start: np.ndarray, rates: tuple[float, ...] = (0.1,) * 3
) -> np.ndarray:
    """The same by one of Keras'."""
    variable = keras.Variable(start)
    optimizer.build([variable])
    for n, rate in enumerate(rates):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(gradient(n))])
    return variable.numpy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {}),
        ("Adam", {"weight_decay": 0.1}),
        ("AdamW", {}),
        ("RMSprop", {}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_25_to_28_updates_are_pytorchs(torch: Any, name: str, options: dict[str, Any]) -> None:
    start = numbers(8, seed=9)
    found = updated(lambda params: getattr(ln, name)(params, 0.1, **options), start)
    close(found, by_torch(torch, lambda p: getattr(torch.optim, name)(p, 0.1, **options), start))


def test_25_kerass_epsilon_of_adam_is_added_before_the_correction(keras: Any) -> None:
    start = numbers(8, seed=9)
    theirs = by_keras(keras, keras.optimizers.Adam(0.1), start, (0.1,))
    at_first = 1e-7 / np.sqrt(1 - 0.999)
    assert at_first == pytest.approx(3.2e-6, rel=0.02)
    close(updated(lambda params: ln.Adam(params, eps=at_first), start, (0.1,)), theirs)
    assert np.abs(updated(lambda params: ln.Adam(params, eps=1e-7), start, (0.1,)) - theirs).max() > 0.01


def test_26_weight_decay_of_adamw_in_keras(keras: Any) -> None:
    assert keras.optimizers.AdamW().weight_decay == 0.004
    assert ln.AdamW({"w": np.ones(1, np.float32)}).weight_decay == 0.01


def test_27_kerass_epsilon_of_rmsprop_is_under_the_root(keras: Any) -> None:
    start, g = numbers(8, seed=9), gradient(0)
    optimizer = keras.optimizers.RMSprop(0.1)
    assert (optimizer.rho, optimizer.epsilon) == (0.9, 1e-7)
    close(by_keras(keras, optimizer, start, (0.1,)), start - 0.1 * g / np.sqrt(0.1 * g * g + 1e-7))
    close(updated(lambda p: ln.RMSprop(p), start, (0.1,)), start - 0.1 * g / (np.sqrt(0.01 * g * g) + 1e-8))


def test_28_kerass_momentum_keeps_the_rate(keras: Any) -> None:
    def both(rates: tuple[float, ...]) -> float:
        ours = updated(lambda p: ln.SGD(p, 0.1, momentum=0.9), np.zeros(8, np.float32), rates)
        theirs = by_keras(keras, keras.optimizers.SGD(0.1, momentum=0.9), np.zeros(8, np.float32), rates)
        return float(np.abs(ours - theirs).max())

    assert both((0.1, 0.1, 0.1)) < 1e-12
    assert both((0.1, 0.1, 0.001)) > 1e-8
