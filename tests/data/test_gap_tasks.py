"""Tasks with a gap: every answer is found again from what is read, and the gap tells nothing about it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from reber_strings import EMBEDDED
from scipy import stats

from lstm_numba.data import gap_tasks, reber
from lstm_numba.data.gap_tasks import TASKS, sequences

GAPS = (5, 10, 100)


def texts(symbols: Any, letters: str) -> list[str]:
    return ["".join(letters[symbol] for symbol in column) for column in symbols.T]


@pytest.mark.smoke
@pytest.mark.parametrize("gap", GAPS)
def test_adding(gap: int) -> None:
    inputs, answers = sequences("adding", gap, 300, seed=1)
    numbers, marks = inputs[:, :, 0], inputs[:, :, 1]
    assert inputs.shape == (10 + gap, 300, 2)
    assert answers.shape == (1, 300)
    assert set(np.unique(marks)) == {0.0, 1.0}
    assert (marks.sum(axis=0) == 2).all()
    assert (marks[-gap:] == 0).all()
    np.testing.assert_allclose(answers[0], 0.5 + np.einsum("tn,tn->n", numbers, marks) / 4, atol=1e-6)
    assert stats.kstest(numbers.ravel(), "uniform", (-1, 2)).pvalue > 0.01
    assert stats.kstest(numbers[marks == 1], "uniform", (-1, 2)).pvalue > 0.01
    assert stats.chisquare(marks[:10].sum(axis=1)).pvalue > 0.01


@pytest.mark.smoke
@pytest.mark.parametrize("gap", GAPS)
def test_order(gap: int) -> None:
    inputs, answers = sequences("order", gap, 400, seed=1)
    found = texts(inputs, "abcdXYEB")
    assert inputs.shape == (10 + gap, 400)
    for text, answer in zip(found, answers[0], strict=True):
        assert text[0] == "E"
        assert text[-1] == "B"
        assert set(text[10:-1]) <= set("abcd")
        assert ("XX", "XY", "YX", "YY")[answer] == "".join(c for c in text if c in "XY")
    assert stats.chisquare(np.bincount(answers[0], minlength=4)).pvalue > 0.01
    letters = "".join(found)
    assert stats.chisquare([letters.count(c) for c in "abcd"]).pvalue > 0.01
    places = [n for text in found for n, c in enumerate(text) if c in "XY"]
    assert stats.chisquare(np.bincount(places, minlength=10)[1:]).pvalue > 0.01


@pytest.mark.smoke
@pytest.mark.parametrize("gap", GAPS)
def test_reber(gap: int) -> None:
    inputs, answers = sequences("reber", gap, 100, seed=1)
    assert inputs.shape == (gap + 2, 100)
    for text, answer in zip(texts(inputs, reber.SYMBOLS), texts(answers, reber.SYMBOLS), strict=True):
        assert EMBEDDED.fullmatch(f"{text}{answer}E")


@pytest.mark.smoke
@pytest.mark.parametrize("gap", GAPS)
def test_copy(gap: int) -> None:
    inputs, answers = sequences("copy", gap, 400, seed=1)
    for text, answer in zip(texts(inputs, "01.!"), texts(answers, "01"), strict=True):
        assert text == answer + "." * (gap - 1) + "!" + ".."
    # What is due at the last steps is what was read first, the first of it after the gap.
    assert len(inputs) - len(answers) == 3 + gap - 1
    patterns = np.bincount(answers.T @ [4, 2, 1], minlength=8)
    assert stats.chisquare(patterns).pvalue > 0.01


@pytest.mark.smoke
@pytest.mark.parametrize("task", TASKS)
def test_a_sequence_depends_on_gap_seed_and_number_alone(task: str) -> None:
    many, few = sequences(task, 20, 40, seed=2), sequences(task, 20, 30, seed=2, first=10)
    for a, b in zip(many, few, strict=True):
        np.testing.assert_array_equal(a[:, 10:], b)
    other = sequences(task, 20, 40, seed=3)
    assert not np.array_equal(many.answers, other.answers)
    assert not np.array_equal(many.answers, sequences(task, 21, 40, seed=2).answers)


@pytest.mark.smoke
def test_the_same_for_ever() -> None:
    digest = hashlib.sha256()
    for task in TASKS:
        for part in sequences(task, 17, 20, seed=9):
            # The last digits of numbers in single precision are those of NumPy's rounding.
            digest.update(np.rint(part.astype(np.float64) * 10_000).astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "b4700ac52bdbfea2"


def test_the_largest_gap() -> None:
    for task in TASKS:
        inputs, _ = sequences(task, gap_tasks.MOST, 2)
        assert len(inputs) >= gap_tasks.MOST


@pytest.mark.smoke
def test_features_and_classes_hold_what_there_is() -> None:
    for task, one in TASKS.items():
        inputs, answers = sequences(task, 12, 500)
        if task == "adding":
            assert inputs.shape[-1] == one.features
        else:
            assert inputs.max() == one.features - 1
            assert answers.max() < one.classes
    np.testing.assert_array_equal(
        gap_tasks.one_hot(np.array([[2], [0]], np.uint8), 3), [[[0, 0, 1]], [[1, 0, 0]]]
    )


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("sorting", 10, 1), ValueError, "task: expected one of adding, order, reber, copy, got 'sorting'"),
        (("adding", 4, 1), ValueError, "gap: expected an integer >= 5, got 4"),
        (("adding", 4079, 1), ValueError, "gap: expected an integer <= 4078, got 4079"),
        (("adding", 10, 0), ValueError, "count: expected an integer >= 1, got 0"),
        (("adding", 10, 1, "a"), TypeError, "seed: expected an integer, got str"),
        (("adding", 10, 1, 0, -1), ValueError, "first: expected an integer >= 0, got -1"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        sequences(*arguments)
