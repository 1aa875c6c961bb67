"""What the networks of `lstm_numba.experiments.odyssey` learn: three tasks, each a model, batches, a measure.

Of each measure less is better. Data depend on the experiment's seed alone; what a training sees of them, and
in which order, on the seed and the number of the training, not on the cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_numba.data import digits, grammar, reber
from lstm_numba.data._random import CounterStream
from lstm_numba.models.base import Model, SequenceBatch, TokenBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.training.array_data import SequenceData, Shuffled, TokenStreams, in_order

Array = npt.NDArray[Any]

#: Images for training, validation and test.
IMAGES = {"train": 1_500, "valid": 500, "test": 1_000}
#: Tokens of the grammar's text for training; validation and test have a tenth each.
TOKENS = 80_000
#: Strings of the Reber stream, and shortest and longest length of the string inside.
STRINGS = {"train": 10_000, "valid": 1_000, "test": 2_000}
INSIDE = (5, 12)
#: Items of a batch, of texts parallel streams, and steps of a window of text.
BATCH, WINDOW = 32, 16
#: Numbers that stand for a token of the grammar's text.
EMBEDDING = 16


class Task(Protocol):
    """A data set, the model that learns it, and what is measured of it.

    Attributes
    ----------
    measure : str
        With its unit.
    carries_state : bool
        Whether the final state of a batch is the initial state of the next.
    floor : float or None
        The least measure on "test" that is possible, where it is known and not 0.
    """

    measure: str
    carries_state: bool
    floor: float | None

    def model(self, cell: str, hidden: int, seed: int, device: str) -> Model:
        """A network of one recurrent layer."""

    def batches(self, seed: int) -> Iterator[tuple[Any, bool]]:
        """Batches without end, and whether each is the first of a pass."""

    def score(self, model: Model, split: str) -> float:
        """The measure on "valid" or "test"."""


class Digits:
    """Which digit is this? Read by rows, 28 steps of 28 pixels."""

    measure, carries_state, floor = "errors, %", False, None

    def __init__(self, seed: int) -> None:
        train = IMAGES["train"]
        own = digits.load("train", seed, train + IMAGES["valid"])
        parts = {"train": own.take(slice(train)), "valid": own.take(slice(train, None))}
        parts["test"] = digits.load("test", seed, IMAGES["test"])
        self.data = {
            split: SequenceData(part.images.astype(np.float32) / 255, part.labels.astype(np.int64))
            for split, part in parts.items()
        }

    def model(self, cell: str, hidden: int, seed: int, device: str) -> Model:
        """See `Task`."""
        return SequenceClassifier(28, hidden, 10, cell=cell, seed=seed, device=device)

    def batches(self, seed: int) -> Iterator[tuple[SequenceBatch, bool]]:
        """See `Task`."""
        batches, epoch = Shuffled(self.data["train"], BATCH, seed, np.float32), 0
        while True:
            yield from ((batches.batch(epoch, k), k == 0) for k in range(len(batches)))
            epoch += 1

    def score(self, model: Model, split: str) -> float:
        """Share of images, in percent, that are taken for another digit."""
        data = self.data[split]
        right = sum(model.evaluate(batch).correct for batch in in_order(data, 500, np.float32))
        return 100 * (1 - right / len(data))


class Text:
    """Which token comes next? Of parallel streams of a text, the state being carried from window to window.

    Parameters
    ----------
    splits : dict of ndarray of int, 1-D
        "train", "valid", "test".
    vocabulary, embedding : int
    """

    measure = ""
    carries_state = True
    floor: float | None = None

    def __init__(self, splits: dict[str, Array], vocabulary: int, embedding: int) -> None:
        self.splits, self.vocabulary, self.embedding = splits, vocabulary, embedding

    def model(self, cell: str, hidden: int, seed: int, device: str) -> Model:
        """See `Task`."""
        return LanguageModel(
            self.vocabulary, hidden, embedding=self.embedding, cell=cell, seed=seed, device=device
        )

    def batches(self, seed: int) -> Iterator[tuple[TokenBatch, bool]]:
        """See `Task`. Each seed cuts the text, taken as a ring, at another place."""
        tokens = self.splits["train"]
        cut = int(np.random.default_rng(seed).integers(len(tokens)))
        windows = TokenStreams(np.roll(tokens, -cut), BATCH, WINDOW)
        while True:
            yield from ((windows.batch(0, k), k == 0) for k in range(len(windows)))


class Grammar(Text):
    """The next word of a text of random sentences whose entropy is known."""

    measure = "perplexity"

    def __init__(self, seed: int) -> None:
        corpus = grammar.load(seed, TOKENS)
        super().__init__(dict(corpus.splits), len(corpus.vocabulary), EMBEDDING)
        assert corpus.split_entropy is not None
        self.floor = math.exp(corpus.split_entropy["test"])

    def score(self, model: Model, split: str) -> float:
        """Perplexity; of a model that gives no numbers, that of one that guesses."""
        result = model.evaluate(_as_one(self.splits[split]))
        loss = result.loss_sum / result.count
        return math.exp(min(loss, 700.0)) if math.isfinite(loss) else float(self.vocabulary)


class Reber(Text):
    """The next symbol of embedded Reber strings, one after the other without a sign where one begins.

    This is the continual form of Gers et al. (2000); see `lstm_numba.data.reber`. What is measured is the
    symbol that follows from the second of its string.
    """

    measure = "errors, %"

    def __init__(self, seed: int) -> None:
        streams, first = {}, 0
        for split, count in STRINGS.items():
            streams[split] = reber_stream(count, seed, first)
            first += count
        super().__init__({name: symbols for name, (symbols, _) in streams.items()}, len(reber.SYMBOLS), 7)
        self._decisive = {name: decisive for name, (_, decisive) in streams.items()}

    def score(self, model: Model, split: str) -> float:
        """Share of strings, in percent, whose last symbol but one is not the one thought most likely."""
        decisive = _as_one(self._decisive[split]).targets
        result = model.evaluate(_as_one(self.splits[split])._replace(weights=decisive.astype(np.float32)))
        return 100 * (1 - result.correct / int(decisive.sum()))


def reber_stream(count: int, seed: int, first: int = 0) -> tuple[Array, Array]:
    """Embedded Reber strings one after the other, the strings inside of all lengths in `INSIDE` alike.

    Parameters
    ----------
    count : int
        Strings.
    seed : int
    first : int
        Number of the first one. String i depends on the seed and i alone.

    Returns
    -------
    symbols : ndarray (N,), int32
        Indices into `lstm_numba.data.reber.SYMBOLS`.
    decisive : ndarray (N,), int32
        1 at each string's last symbol but one, else 0.
    """
    items = np.arange(first, first + count)
    shortest, longest = INSIDE
    chance = CounterStream("reber lengths", seed).uniform(items, 0, 1)[:, 0]
    lengths = shortest + (chance * (longest - shortest + 1)).astype(np.int64)
    ends = np.cumsum(lengths + 4)
    symbols, decisive = np.empty(ends[-1], np.int32), np.zeros(ends[-1], np.int32)
    for length in range(shortest, longest + 1):
        mine = np.flatnonzero(lengths == length)
        if len(mine):
            drawn = reber.embedded(length, count, seed, first)
            places = ends[mine] - (length + 4) + np.arange(length + 4)[:, None]
            symbols[places] = drawn[:, mine]
    decisive[ends - 2] = 1
    return symbols, decisive


def _as_one(tokens: Array) -> TokenBatch:
    """A text as one batch of parallel streams; their remainder is left out."""
    return TokenStreams(tokens, BATCH, len(tokens) // BATCH - 1).batch(0, 0)


#: The tasks by name.
TASKS: dict[str, Any] = {"digits": Digits, "grammar": Grammar, "reber": Reber}


@cache
def task(name: str, seed: int) -> Task:
    """A task with its data, made once in each process."""
    made: Task = TASKS[name](seed)
    return made
