"""Texts of three sentences: the smallest grammar whose words do not follow from the last word alone.

    Dog scares Cat.   Cat scares Mouse.   Mouse scares Dog.

The sentences follow each other at random, each with a third of the probability. This toy is often told of
when recurrent networks are explained: after "scares" comes any of the three nouns, and after a noun "scares"
or the full stop, for whoever knows the last word only. Whoever remembers the sentence knows everything but
its first word.

The text is a chain of Markov in the pair (sentence, place), so what a model can reach is exact, in nats a
token: with all memory ``ln 3`` for each sentence of four tokens; with one step of memory the conditional
entropy of the next token given the last one.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer
from lstm_numba.data._random import CounterStream
from lstm_numba.data.corpus import Ids, frozen

#: The tokens; a token's number is its index.
VOCABULARY = ("Dog", "Cat", "Mouse", "scares", ".")
#: The token that ends a sentence.
STOP = VOCABULARY.index(".")
#: The sentences, as numbers of tokens.
SENTENCES = ((0, 3, 1, STOP), (1, 3, 2, STOP), (2, 3, 0, STOP))


def load(seed: int = 0, sentences: int = 1000, *, split: str = "train") -> Ids:
    """Draw a text.

    Parameters
    ----------
    seed : int
        Each seed gives another text.
    sentences : int
        A shorter text is the beginning of a longer one.
    split : str
        Texts of different names share no random numbers.

    Returns
    -------
    ndarray (4*sentences,), int32
        Numbers of tokens, read-only. The same on every machine.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer or too small.
    """
    seed, sentences = integer("seed", seed, 0), integer("sentences", sentences)
    drawn = CounterStream("toy-grammar", seed, split).uniform(np.arange(sentences), 0, 1)[:, 0]
    chosen = np.floor(len(SENTENCES) * drawn).astype(np.int64)
    return frozen(np.array(SENTENCES, np.int32)[chosen].reshape(-1))


def text(ids: npt.ArrayLike) -> str:
    """Words with spaces between, and none before a full stop."""
    return " ".join(VOCABULARY[int(number)] for number in np.asarray(ids).reshape(-1)).replace(" .", ".")


def pair_probabilities() -> npt.NDArray[np.float64]:
    """Probability of each token and its successor at a place in the text that is chosen uniformly.

    Returns
    -------
    ndarray (V, V)
        The last token, then the next one; the sum is 1.
    """
    counts: Counter[tuple[int, int]] = Counter()
    for sentence in SENTENCES:
        for following in SENTENCES:
            counts.update(zip(sentence, (*sentence[1:], following[0]), strict=True))
    table = np.zeros((len(VOCABULARY), len(VOCABULARY)))
    for pair, count in counts.items():
        table[pair] = count
    return table / table.sum()


def entropy_rate() -> float:
    """Nats a token: the lowest mean loss that any model can reach."""
    return math.log(len(SENTENCES)) / len(SENTENCES[0])


def one_step_entropy() -> float:
    """Nats a token: the lowest mean loss of a model that knows the last token only."""
    pairs = pair_probabilities()
    last = pairs.sum(axis=1, keepdims=True)
    seen = pairs > 0
    return float(-np.sum(pairs[seen] * np.log((pairs / last)[seen])))
