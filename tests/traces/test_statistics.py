"""Shares, time constants, surprises: against numbers computed by hand, and against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.traces.statistics import (
    likeliest,
    longest_first,
    shares,
    surprises,
    time_constants,
)
from lstm_numba.traces.views import layer_views


def test_shares_by_hand() -> None:
    # Unit 0: below 0.1 at 2 of 4 steps, above 0.9 at 1. Unit 1: exactly at the bounds, which do not count.
    gate = np.array([[[0.05, 0.1]], [[0.0, 0.9]], [[0.95, 0.1]], [[0.5, 0.9]]])
    found = shares(gate)
    np.testing.assert_array_equal(found.left, [0.5, 0.0])
    np.testing.assert_array_equal(found.right, [0.25, 0.0])


def test_steps_beyond_the_end_do_not_count() -> None:
    gate = np.zeros((4, 2, 1))  # zero beyond the ends: closed, if it counted
    gate[:3, 0], gate[:1, 1] = 0.95, 0.5
    found = shares(gate, np.array([3, 1]))
    assert found.left == [0.0]
    assert found.right == [0.75]
    mean = (3 * 0.95 + 0.5) / 4
    np.testing.assert_allclose(time_constants(gate, np.array([3, 1])), [-1 / math.log(mean)])


def test_no_steps_is_not_a_number() -> None:
    for found in (*shares(np.zeros((3, 2, 2)), np.array([0, 0])), time_constants(np.zeros((0, 1, 2)))):
        assert np.isnan(found).all()
        assert found.shape == (2,)


def test_time_constants_by_hand() -> None:
    kept = np.array([[[0.5, 0.0, 1.0, 0.8]], [[0.7, 0.0, 1.0, 1.0]]])
    found = time_constants(kept)
    np.testing.assert_allclose(found, [-1 / math.log(0.6), 0.0, math.inf, -1 / math.log(0.9)])
    # After so many steps a fraction 1/e is left.
    np.testing.assert_allclose(0.6 ** found[0], 1 / math.e)
    np.testing.assert_array_equal(longest_first(found), [2, 3, 0, 1])
    assert not np.signbit(found).any()


def test_inverted_gates_and_zoneout() -> None:
    gate = np.array([[[0.25]], [[0.35]]])
    np.testing.assert_allclose(time_constants(gate, inverted=True), [-1 / math.log(0.7)])
    # A unit that stays as it is with probability 0.5 keeps 0.5 + 0.5 * 0.3.
    np.testing.assert_allclose(time_constants(gate, zoneout=0.5), [-1 / math.log(0.65)])


def test_units_of_equal_memory_keep_their_order() -> None:
    np.testing.assert_array_equal(longest_first(np.array([1.0, 2.0, 1.0, np.nan, 2.0])), [1, 4, 0, 2, 3])


def test_surprise_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [1.0, 1.0, 2.0]]))
    np.testing.assert_allclose(surprises(logits, np.array([0, 1])), [1.0, 2.0])
    # As large as float32 can be: no overflow, and certainty is no surprise.
    np.testing.assert_array_equal(surprises(np.array([[3e38, 0.0]], np.float32), np.array([0])), [0.0])


def test_likeliest_in_order() -> None:
    found = likeliest(np.log(np.array([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])), 3)
    np.testing.assert_array_equal(found.tokens, [[1, 3, 2], [0, 1, 2]])
    np.testing.assert_allclose(found.probabilities, [[0.4, 0.3, 0.2], [0.25] * 3])
    assert likeliest(np.zeros((2, 3)), 5).tokens.shape == (2, 3)


@pytest.mark.parametrize("batch_first", [False, True])
def test_statistics_of_a_layer_against_the_reference(batch_first: bool) -> None:
    """Weights so large that gates saturate; lengths differ; both directions, two layers."""
    rng, lengths = np.random.default_rng(0), [6, 2, 4]
    layer = ln.LSTM(3, 5, 2, bidirectional=True, batch_first=batch_first, dtype=np.float64, seed=1)
    for array in layer.params.values():
        array *= 6.0
    x = rng.standard_normal((6, 3, 3))
    truth: dict[str, np.ndarray] = {}
    zero = np.zeros((4, 3, 5))
    reference.run(
        "lstm", layer.params, x, (zero, zero), num_layers=2, bidirectional=True, lengths=lengths, trace=truth
    )
    given = x.swapaxes(0, 1).copy() if batch_first else x
    views = layer_views(layer.trace(given, lengths=lengths))
    assert [view.key for view in views] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    inside = np.arange(6)[:, None] < np.array(lengths)
    for view in views:
        f = truth[f"f_{view.key}"][inside]
        assert 0.02 < (f < 0.1).mean() < 0.98
        np.testing.assert_allclose(view.shares["f"].left, (f < 0.1).mean(axis=0))
        np.testing.assert_allclose(view.shares["f"].right, (f > 0.9).mean(axis=0))
        assert view.constants is not None
        np.testing.assert_allclose(view.constants, -1 / np.log(f.mean(axis=0)))
        np.testing.assert_allclose(view.values["c"], truth[f"c_{view.key}"][:6, 0])
        assert view.roles == {
            "i": "gate",
            "f": "gate",
            "g": "candidate",
            "o": "gate",
            "h": "state",
            "c": "state",
        }
