"""Strings of the embedded Reber grammar: accepted by a regular expression, each as often as it should be."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest
from reber_strings import EMBEDDED, STRING
from scipy import stats

from lstm_numba.data import reber


def words(length: int, count: int, **options: int) -> list[str]:
    symbols = reber.embedded(length, count, **options)
    assert symbols.shape == (length + 4, count)
    return ["".join(reber.SYMBOLS[symbol] for symbol in column) for column in symbols.T]


@pytest.mark.smoke
@pytest.mark.parametrize("length", [5, 6, 11, 100, 1000])
def test_the_automaton_accepts_every_string(length: int) -> None:
    found = words(length, 200)
    assert all(EMBEDDED.fullmatch(word) for word in found)
    assert {word[1] for word in found} == {"T", "P"}


@pytest.mark.parametrize("length", [5, 8, 10])
def test_strings_of_a_length_are_equally_likely(length: int) -> None:
    """All but the first and the last symbol are one of two: strings of one length are equally likely."""
    inner = ("".join(letters) for letters in itertools.product("TPSXV", repeat=length - 2))
    possible = [f"B{word}E" for word in inner if STRING.fullmatch(f"B{word}E")]
    drawn = [word[2:-2] for word in words(length, 4000, seed=3)]
    counts = [drawn.count(word) for word in possible]
    assert sum(counts) == len(drawn)
    assert stats.chisquare(counts).pvalue > 0.01


def test_what_is_to_be_predicted_is_a_fair_coin_that_the_inside_does_not_show() -> None:
    found = words(9, 4000, seed=1)
    which = np.array([word[1] == "T" for word in found])
    inside = np.array([word[3] == "T" for word in found])
    assert stats.binomtest(int(which.sum()), len(which)).pvalue > 0.01
    table = [[np.sum((which == a) & (inside == b)) for a in (False, True)] for b in (False, True)]
    assert stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.smoke
def test_a_string_depends_on_its_number_alone() -> None:
    assert words(30, 8, seed=2)[3:7] == words(30, 4, seed=2, first=3)
    assert words(30, 8, seed=2) != words(30, 8, seed=4)
    assert words(30, 8)[0][2:12] != words(31, 8)[0][2:12]


@pytest.mark.smoke
def test_the_same_for_ever() -> None:
    digest = hashlib.sha256("\n".join(words(40, 50, seed=5)).encode())
    assert digest.hexdigest()[:16] == "38c2d7388b845249"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"length": 4, "count": 1}, ValueError, "length: expected an integer >= 5, got 4"),
        ({"length": 5, "count": 0}, ValueError, "count: expected an integer >= 1, got 0"),
        ({"length": 5, "count": 1, "seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"length": 5, "count": 1, "first": 0.5}, TypeError, "first: expected an integer, got float"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        reber.embedded(**arguments)
