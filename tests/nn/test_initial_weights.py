"""Initial weights: bounds, variances, orthogonality, identity; the default's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.cells import CELLS
from lstm_numba.models import LanguageModel, SequenceClassifier
from lstm_numba.models.base import random_streams
from lstm_numba.nn import initial_weights
from lstm_numba.nn.layers import CELL_NAMES, make_layer
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.training import settings

INPUTS, H = 48, 64


def layers(name: str, init: str, **options: Any) -> Recurrent:
    return make_layer(name, INPUTS, H, 2, bidirectional=True, dtype=np.float64, seed=1, init=init, **options)


def blocks(array: np.ndarray) -> list[np.ndarray]:
    """A gate's part of a matrix each."""
    return np.split(array, len(array) // H)


def assert_uniform(array: np.ndarray, bound: float, name: str) -> None:
    """Within the bound, close to it, centred, of the variance of a uniform distribution."""
    assert np.abs(array).max() <= bound, name
    # A uniform sample of n numbers reaches within 20 / n of the ends but once in e**10 times.
    assert array.max() > bound * (1 - 40 / array.size), name
    assert array.min() < -bound * (1 - 40 / array.size), name
    variance = bound**2 / 3
    # Five standard deviations: that of the square of a uniform number is 2 / sqrt(5) times its mean.
    assert abs(array.mean()) < 5 * np.sqrt(variance / array.size), name
    assert abs(np.mean(array**2) / variance - 1) < 5 * 2 / np.sqrt(5 * array.size), name


def check_common(layer: Recurrent) -> None:
    """What xavier and orthogonal have in common."""
    for name, array in layer.params.items():
        if name.startswith("bias"):
            np.testing.assert_array_equal(array, 0)
        elif name.startswith("weight_ph"):
            assert_uniform(array, 1 / np.sqrt(H), name)
        elif name.startswith("weight_ih"):
            inputs = INPUTS if "_l0" in name else 2 * H
            assert array.shape[1] == inputs
            for block in blocks(array):
                assert_uniform(block, np.sqrt(6 / (inputs + H)), name)


@pytest.mark.parametrize("name", CELL_NAMES)
def test_xavier(name: str) -> None:
    layer = layers(name, "xavier")
    check_common(layer)
    for key, array in layer.params.items():
        if key.startswith("weight_hh"):
            for block in blocks(array):
                assert_uniform(block, np.sqrt(3 / H), key)


@pytest.mark.parametrize("name", CELL_NAMES)
def test_orthogonal(name: str) -> None:
    layer = layers(name, "orthogonal")
    check_common(layer)
    found = [b for key, a in layer.params.items() if key.startswith("weight_hh") for b in blocks(a)]
    assert len(found) == 4 * len(layer.cell.recurrent_gates)
    for n, block in enumerate(found):
        np.testing.assert_allclose(block @ block.T, np.eye(H), rtol=0, atol=1e-14)
        assert not any(np.allclose(block, other) for other in found[:n])


def test_orthogonal_matrices_are_of_all_kinds() -> None:
    """A rotation or a reflection, each about as often, and no sign of an element is preferred."""
    rng = np.random.default_rng(0)
    drawn = [next(_hidden_weights(3, rng)) for _ in range(400)]
    reflections = sum(np.linalg.det(one) < 0 for one in drawn)
    assert abs(reflections - 200) < 5 * 10  # five standard deviations
    positive = np.sum([one > 0 for one in drawn], axis=0)
    assert np.abs(positive - 200).max() < 5 * 10


def _hidden_weights(hidden: int, rng: np.random.Generator) -> Any:
    shapes = {"weight_hh_l0": (hidden, hidden)}
    drawn = initial_weights.initial_weights("orthogonal", CELLS["rnn"], shapes, hidden, rng)
    return (array for _, array in drawn)


def test_identity() -> None:
    layer = layers("rnn-relu", "identity")
    for name, array in layer.params.items():
        if name.startswith("weight_hh"):
            np.testing.assert_array_equal(array, np.eye(H))
        elif name.startswith("bias"):
            np.testing.assert_array_equal(array, 0)
        else:
            assert abs(array.mean()) < 5 * 0.001 / np.sqrt(array.size)
            assert abs(array.std() / 0.001 - 1) < 5 / np.sqrt(2 * array.size)
            assert np.abs(array).max() > 0.003  # of thousands of normal numbers
    assert np.array_equal(
        ln.RNN(3, 4, nonlinearity="relu", init="identity").params["weight_hh_l0"], np.eye(4)
    )


def test_what_does_not_go_together_is_refused() -> None:
    for name in set(CELL_NAMES) - {"rnn-relu"}:
        with pytest.raises(ValueError, match=r"^init: identity is for the cell rnn-relu, got [A-Z].*$"):
            make_layer(name, 3, 4, init="identity")
    with pytest.raises(
        ValueError, match=r"^init: expected one of uniform, xavier, orthogonal, identity, got 'he'$"
    ):
        ln.LSTM(3, 4, init="he")
    with pytest.raises(ValueError, match=r"init_range: expected None beside init xavier, got 0\.1"):
        LanguageModel(9, 4, init="xavier", init_range=0.1)


def test_settings_name_the_same() -> None:
    assert settings.INITS == initial_weights.INITS


@pytest.mark.parametrize("init", initial_weights.INITS)
def test_both_precisions_and_equal_seeds_begin_at_the_same_place(init: str) -> None:
    def weights(dtype: Any, seed: int = 1) -> dict[str, np.ndarray]:
        return make_layer("rnn-relu", 5, 6, 2, dtype=dtype, init=init, seed=seed, bias=False).params

    single, double, again, other = (
        weights(np.float32),
        weights(np.float64),
        weights(np.float32),
        weights(np.float32, 2),
    )
    for name, array in single.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, double[name].astype(np.float32))
        np.testing.assert_array_equal(array, again[name])
        assert np.array_equal(array, other[name]) == (init == "identity" and "hh" in name)


def test_the_default_is_pytorchs_in_its_order_of_draws() -> None:
    layer = ln.PeepholeLSTM(3, 5, 2, bidirectional=True, seed=7)
    rng = np.random.default_rng(7)
    for array in layer.params.values():
        drawn = rng.uniform(-1 / np.sqrt(5), 1 / np.sqrt(5), array.shape)
        np.testing.assert_array_equal(array, drawn.astype(np.float32))


@pytest.mark.parametrize("init", ["uniform", "xavier", "orthogonal"])
def test_the_forget_bias_is_added_to_any(init: str) -> None:
    plain, raised = (SequenceClassifier(3, 4, 2, init=init, forget_bias=b, seed=5) for b in (0.0, 1.5))
    for name, array in raised.params.items():
        expected = plain.params[name].copy()
        if name.startswith("rnn.bias_ih"):
            expected[4:8] += np.float32(1.5)
        np.testing.assert_array_equal(array, expected)
    layer = ln.LSTM(3, 4, init=init, seed=random_streams(5).weights)
    for name, array in layer.params.items():
        np.testing.assert_array_equal(array, plain.params[f"rnn.{name}"])
