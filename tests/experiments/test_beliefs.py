"""Probabilities of sentences against an enumeration of all strings, for models that are tables."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_numba.experiments.beliefs import expected_loss, likely_sentences, sentence_probability

Array = npt.NDArray[Any]
STOP = 2


def following(texts: Array) -> Array:
    """A model of three tokens that remembers how often each was there, and the last one."""
    counts = np.stack([(texts == token).sum(axis=0) for token in range(3)], axis=1)
    scores = np.sin(1.0 + counts @ np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.3], [0.4, 0.6, 0.7]]))
    scores[np.arange(len(scores)), texts[-1]] += 0.7
    weights = np.exp(2 * scores)
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found


TEXTS = np.array([[0, 1, 1, 0], [1, 0, 1, 2], [2, 2, 2, 2]], np.int32)


def brute_force(sentence: tuple[int, ...]) -> float:
    """Token by token, text by text."""
    total = 0.0
    for column in TEXTS.T:
        read, probability = column.tolist(), 1.0
        for token in sentence:
            probability *= float(following(np.array(read)[:, None])[0, token])
            read.append(token)
        total += probability
    return total / TEXTS.shape[1]


def every_sentence(length: int) -> list[tuple[int, ...]]:
    """All strings of tokens that end with the only stop."""
    return [(*words, STOP) for n in range(length) for words in itertools.product((0, 1), repeat=n)]


@pytest.mark.smoke
def test_a_sentence() -> None:
    for sentence in every_sentence(4):
        found = sentence_probability(following, TEXTS, sentence)
        assert found == pytest.approx(brute_force(sentence), rel=1e-12)


@pytest.mark.parametrize("threshold", [0.3, 0.05, 0.01, 0.001])
def test_likely_sentences_are_all_that_there_are(threshold: float) -> None:
    expected = {s: brute_force(s) for s in every_sentence(7)}
    expected = {sentence: p for sentence, p in expected.items() if p >= threshold}
    found = likely_sentences(following, TEXTS, STOP, threshold, 7)
    assert found == pytest.approx(expected, rel=1e-12)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_longer_sentences_are_left_out() -> None:
    found = likely_sentences(following, TEXTS, STOP, 1e-9, 3)
    assert set(found) == set(every_sentence(3))


def test_the_expected_loss() -> None:
    sentences = [(0, 1, STOP), (1, 1, STOP)]
    losses = []
    for column, sentence in itertools.product(TEXTS.T, sentences):
        read = column.tolist()
        for token in sentence:
            losses.append(-np.log(following(np.array(read)[:, None])[0, token]))
            read.append(token)
    assert expected_loss(following, TEXTS, sentences) == pytest.approx(np.mean(losses), rel=1e-12)
