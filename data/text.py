"""A text file, by characters or by words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.data.corpus import EOS, UNK, Corpus, by_frequency, decode_text, frozen
from lstm_numba.data.file_io import fault, read_content

LEVELS = ("char", "word")

#: Shares of the text for training, validation and test.
FRACTIONS = (0.9, 0.05, 0.05)


def load(
    path: str | os.PathLike[str],
    level: str = "char",
    fractions: Sequence[float] = FRACTIONS,
    *,
    min_count: int = 2,
) -> Corpus:
    """Read a text file and split it into three contiguous parts for training, validation and test.

    Level "char": the vocabulary is every character of the whole file, ordered by code point, so that a
    character that occurs only in the last part is unlikely but not an error.

    Level "word": words are separated by white space, and ``<eos>`` ends every line with words. The vocabulary
    is the words that occur at least `min_count` times in the first part, the most frequent first. All other
    words become ``<unk>`` in all parts, so that the model is trained on ``<unk>`` too.

    Parameters
    ----------
    path : path
        UTF-8 text, gzipped or not. Line ends of all systems are converted to newlines.
    level : {"char", "word"}
        What a token is.
    fractions : sequence of 3 floats
        Shares of the three parts; their sum is 1.
    min_count : int
        How often a word must occur in the first part to be in the vocabulary.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        Unknown level, or shares that are no three positive numbers of sum 1.
    DataError
        The file is missing, empty, no UTF-8 text, or too short for three parts; the text names the fault.
    """
    if level not in LEVELS:
        raise ValueError(f"level: expected 'char' or 'word', got {level!r}")
    min_count = integer("min_count", min_count)
    shares = [float(share) for share in fractions]
    if len(shares) != 3 or not all(0.0 < share < 1.0 for share in shares) or abs(sum(shares) - 1.0) > 1e-6:
        raise ValueError(f"fractions: expected three positive numbers of sum 1, got {tuple(fractions)}")
    text = decode_text(path, read_content(path))
    if level == "char":
        return _characters(path, text, shares)
    return _words(path, text, shares, min_count)


def _cuts(path: str | os.PathLike[str], total: int, shares: list[float], kind: str) -> tuple[int, int]:
    """Return where the second and the third part begin."""
    valid, test = int(total * shares[1]), int(total * shares[2])
    train = total - valid - test
    if min(train, valid, test) < 2:
        raise fault(
            path,
            f"too short: {total} {kind} give parts of {train}, {valid} and {test} to train, validate and "
            f"test; each needs at least 2",
        )
    return train, train + valid


def _characters(path: str | os.PathLike[str], text: str, shares: list[float]) -> Corpus:
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    first, second = _cuts(path, len(codes), shares, "characters")
    distinct, numbers = np.unique(codes, return_inverse=True)
    if len(distinct) < 2:
        raise fault(path, f"nothing to predict: all its characters are {chr(distinct[0])!r}")
    ids = frozen(numbers.reshape(-1).astype(np.int32))
    splits = {"train": ids[:first], "valid": ids[first:second], "test": ids[second:]}
    return Corpus("text", "char", tuple(map(chr, distinct)), splits, None, os.fspath(path))


def _words(path: str | os.PathLike[str], text: str, shares: list[float], min_count: int) -> Corpus:
    words: list[str] = []
    for line in text.split("\n"):
        found = line.split()
        if found:
            words += found
            words.append(EOS)
    first, second = _cuts(path, len(words), shares, f"words (with {EOS})")
    counts = Counter(words[:first])
    kept = {word for word, count in counts.items() if count >= min_count} | {EOS, UNK}
    if len(kept) < 3:
        raise fault(path, f"too short: no word comes {min_count} times in its first {first} words")
    vocabulary = by_frequency([word if word in kept else UNK for word in words[:first]])
    # They may be missing in the first part of a text without rare words or with a single line.
    vocabulary += tuple(word for word in (EOS, UNK) if word not in vocabulary)
    index = {word: number for number, word in enumerate(vocabulary)}
    unknown = index[UNK]
    ids = frozen(np.array([index.get(word, unknown) for word in words], dtype=np.int32))
    splits = {"train": ids[:first], "valid": ids[first:second], "test": ids[second:]}
    return Corpus("text", "word", vocabulary, splits, None, os.fspath(path))
