"""The text of three sentences, and what can be reached on it, by counting instead of by formula."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from lstm_numba.data import toy_grammar


def words(text: str) -> list[str]:
    return text.replace(".", " .").split()


@pytest.mark.smoke
def test_the_sentences() -> None:
    text = toy_grammar.text(toy_grammar.load(1, 300))
    sentences = Counter(sentence.strip() + "." for sentence in text.split(".")[:-1])
    assert set(sentences) == {"Dog scares Cat.", "Cat scares Mouse.", "Mouse scares Dog."}
    assert sum(sentences.values()) == 300
    assert min(sentences.values()) > 70  # each 100 in the mean, with a standard deviation of 8.2


def test_the_order_is_random() -> None:
    ids = toy_grammar.load(2, 9000).reshape(-1, 4)[:, 0]
    pairs = Counter(itertools.pairwise(ids.tolist()))
    assert len(pairs) == 9
    assert all(abs(count - 1000) < 5 * math.sqrt(1000 * 8 / 9) for count in pairs.values())


def test_texts_of_other_seeds_and_names() -> None:
    text = toy_grammar.load(3, 50)
    assert np.array_equal(toy_grammar.load(3, 20), text[:80])
    assert not np.array_equal(toy_grammar.load(4, 50), text)
    assert not np.array_equal(toy_grammar.load(3, 50, split="fresh"), text)
    assert not text.flags.writeable


def test_what_can_be_reached() -> None:
    """Entropies of a text with each pair of sentences once, counted word by word."""
    sentences = ["Dog scares Cat.", "Cat scares Mouse.", "Mouse scares Dog."]
    pairs: Counter[tuple[str, str]] = Counter()
    whole: Counter[tuple[str, ...]] = Counter()  # the sentence's words so far, and the next one
    for first, second in itertools.product(sentences, repeat=2):
        text = words(first) + words(second)
        for place in range(4, 8):
            pairs[text[place - 1], text[place]] += 1
            whole[(*text[4:place], "|", text[place])] += 1

    def entropy(counts: Counter[tuple[str, ...]]) -> float:
        known: Counter[tuple[str, ...]] = Counter()
        for key, count in counts.items():
            known[key[:-1]] += count
        total = sum(counts.values())
        return sum(-n / total * math.log(n / known[key[:-1]]) for key, n in counts.items())

    assert toy_grammar.one_step_entropy() == pytest.approx(entropy(pairs), rel=1e-14)
    assert toy_grammar.entropy_rate() == pytest.approx(entropy(whole), rel=1e-14)
    assert toy_grammar.one_step_entropy() == pytest.approx(math.log(6) / 2, rel=1e-14)
    assert toy_grammar.pair_probabilities().sum() == pytest.approx(1.0, rel=1e-14)


def test_what_can_be_reached_by_counting_a_long_text() -> None:
    ids = toy_grammar.load(5, 100_000)
    counts = np.zeros((5, 5))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    entropy = -np.sum(counts * np.log(np.where(counts > 0, share, 1))) / counts.sum()
    assert entropy == pytest.approx(toy_grammar.one_step_entropy(), abs=1e-4)


@pytest.mark.parametrize(("seed", "sentences"), [(-1, 10), (0, 0), (0, 1.5)])
def test_arguments(seed: int, sentences: int) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^(seed|sentences): "):
        toy_grammar.load(seed, sentences)
