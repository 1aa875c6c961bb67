"""Sequences whose first symbol is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.data import first_symbol


def test_the_answer_is_the_first_symbol_and_nowhere_else() -> None:
    x, labels = first_symbol.draw(0, 9, 4000)
    assert x.shape == (9, 4000, 8)
    assert np.array_equal(x.sum(axis=2), np.ones((9, 4000)))
    assert np.array_equal(x[0].argmax(axis=1), labels)
    assert x[1:, :, :4].sum() == 0
    # Neither answers nor noise lean to a kind, and the noise does not tell the answer.
    for answer in range(4):
        chosen = x[1:, labels == answer, 4:]
        assert abs(chosen.shape[1] - 1000) < 5 * np.sqrt(1000 * 3 / 4)
        assert np.abs(chosen.mean(axis=1) - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / chosen.shape[1])


def test_a_sequence_depends_on_its_seed_and_number_alone() -> None:
    x, labels = first_symbol.draw(3, 12, 20)
    later = first_symbol.draw(3, 7, 5, first=10)
    assert np.array_equal(later.x, x[:7, 10:15])
    assert np.array_equal(later.labels, labels[10:15])
    assert not np.array_equal(first_symbol.draw(4, 12, 20).x, x)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="steps: expected at most 4096, got 5000"):
        first_symbol.draw(0, 5000, 1)
    with pytest.raises(ValueError, match="seed"):
        first_symbol.draw(-1, 5, 1)
