"""Dropout of recurrent weights: the layer is one whose weight_hh is multiplied by the masks by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recurrent_problems import Case, Problem, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.engines.dropout_masks import draw_mask
from lstm_numba.nn.layers import CELL_NAMES

P = 0.4
CASE = Case(5, 3, 4, 9, 2, True, (5, 0, 3))


def by_hand(problem: Problem, seed: int) -> tuple[Problem, dict[str, np.ndarray]]:
    """The same layer without the option, with masked weights; and the masks."""
    dtype = problem.x.dtype
    plain = Problem(problem.name, problem.case, dtype)
    rng = np.random.Generator(np.random.Philox(seed))
    names = [name for name in problem.layer.params if name.startswith("weight_hh")]
    masks = {name: draw_mask(rng, problem.layer.params[name].shape, P, dtype) for name in names}
    for name, value in problem.layer.params.items():
        plain.layer.params[name][...] = value * masks[name] if name in masks else value
    return plain, masks


def seeded(problem: Problem, seed: int) -> Problem:
    problem.layer.rng = np.random.Generator(np.random.Philox(seed))
    return problem


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CELL_NAMES)
def test_forward_and_every_gradient_with_the_masks_by_hand(name: str, dtype: Any) -> None:
    problem = Problem(name, CASE, dtype, weight_drop=P)
    plain, masks = by_hand(problem, 7)
    seeded(problem, 7)
    y, state, _ = problem.layer.forward(problem.x, problem.pack(problem.states), CASE.lengths)
    expected_y, expected_states = plain.run()
    assert_close(y, expected_y, "forward", "y")
    for n, (final, expected) in enumerate(zip(unpack(state), expected_states, strict=True)):
        assert_close(final, expected, "forward", f"state {n}")
    gradients, expected = seeded(problem, 7).gradients(), plain.gradients()
    assert gradients.keys() == expected.keys()
    for key, value in gradients.items():
        mask = masks.get(key, 1)
        assert_close(value, expected[key] * mask, "backward", f"d{key}")
        if key in masks:  # and what the masks change is there to be seen
            assert np.any(expected[key][mask == 0] != 0), key


def test_a_mask_for_each_layer_direction_and_call() -> None:
    layer = ln.LSTM(3, 50, 2, bidirectional=True, weight_drop=0.3, seed=0)
    x = np.ones((6, 4, 3), np.float32)
    first, second = (layer.forward(x)[2].weight_masks for _ in range(2))
    masks = [*first, *second]
    assert len(masks) == 8
    for n, mask in enumerate(masks):
        assert mask.shape == (200, 50)
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.7)}
        # Five standard deviations of the part that is dropped.
        assert abs(np.mean(mask == 0) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / mask.size)
        assert not any(np.array_equal(mask, other) for other in masks[:n])


def test_in_training_only_and_no_weights_are_remembered() -> None:
    """Inference before, between and after dropped weights, in the packed form that it keeps."""
    layer, plain = (ln.GRU(3, 20, weight_drop=p, seed=0) for p in (0.5, 0.0))
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    expected, _ = plain(x)
    before = layer.rng.bit_generator.state
    for training in (False, True, False):
        np.testing.assert_array_equal(layer(x)[0], expected)
        np.testing.assert_array_equal(layer.forward(x, training=False)[0], expected)
        assert layer.rng.bit_generator.state == before
        if training:
            weights = layer.state_dict()
            dropped, _, tape = layer.forward(x, copy=False)
            assert not np.allclose(dropped, expected, atol=1e-3)
            layer.backward(tape, dropped)
            for name, value in weights.items():
                np.testing.assert_array_equal(layer.params[name], value)
            before = layer.rng.bit_generator.state


def test_the_seed_gives_the_masks_and_both_kinds_of_dropout_take_turns() -> None:
    problem = Problem("lstm", CASE, np.float64, weight_drop=P, dropout=0.3)
    first, again = (seeded(problem, 3).gradients() for _ in range(2))
    other = seeded(problem, 4).gradients()
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
        assert not np.array_equal(value, other[key]), key
    # Nothing else draws differently because of the option: the masks between layers come first in each layer.
    rng = np.random.Generator(np.random.Philox(3))
    tape = seeded(problem, 3).layer.forward(problem.x)[2]
    shape = problem.layer.params["weight_hh_l0"].shape
    for layer in range(2):
        if layer:
            np.testing.assert_array_equal(
                tape.masks[layer], draw_mask(rng, tape.masks[layer].shape, 0.3, np.float64)
            )
        for direction in range(2):
            mask = tape.weight_masks[2 * layer + direction]
            np.testing.assert_array_equal(mask, draw_mask(rng, shape, P, np.float64))


def test_bad_arguments_are_named() -> None:
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="weight_drop: expected a probability in"):
            ln.LSTM(1, 2, weight_drop=wrong)
    layer = ln.LSTM(3, 5, weight_drop=0.5)
    layer.params["weight_hh_l0"] = layer.params["weight_hh_l0"].astype(np.float64)
    with pytest.raises(TypeError, match="weight_hh_l0: expected dtype float32, got float64"):
        layer.forward(np.zeros((4, 2, 3), np.float32))
    assert "weight_drop=0.5" in repr(layer)
