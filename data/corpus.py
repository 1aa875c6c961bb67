"""Texts as numbered tokens."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import fault, one_line
from lstm_numba.errors import UserError

#: The token that ends a line of words.
EOS = "<eos>"
#: The token that stands for words outside the vocabulary.
UNK = "<unk>"

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text, cut into tokens and into splits.

    Attributes
    ----------
    name : str
        Data set.
    level : {"word", "char"}
        What a token is.
    vocabulary : tuple of str
        The tokens; a token's number is its place.
    splits : dict of ndarray, int32, 1-D
        Token numbers of "train", "valid" and "test", in the order of the text.
    entropy_rate : float or None
        Nats per token, known for a text drawn from a grammar only: the limit, for long texts, of the lowest
        mean loss that any model can reach on contiguous text, however long its memory.
    source : str
        Where the text comes from.
    split_entropy : dict of float, optional
        Nats per token of each split under the very distribution that it was drawn from. It differs from
        `entropy_rate` by the luck of the draw: the loss that the perfect model has on this split.
    """

    name: str
    level: str
    vocabulary: tuple[str, ...]
    splits: Mapping[str, Ids]
    entropy_rate: float | None = None
    source: str = ""
    split_entropy: Mapping[str, float] | None = field(default=None)

    @cached_property
    def index(self) -> dict[str, int]:
        """Number of each token."""
        return {token: number for number, token in enumerate(self.vocabulary)}

    def encode(self, text: str) -> Ids:
        """Return the token numbers of `text`.

        Words are what white space separates; each newline becomes ``<eos>``, and no other is added.

        Raises
        ------
        UserError
            A word or character is not in the vocabulary; the text names it.
        """
        if self.level == "char":
            tokens: Iterable[str] = text.replace("\r\n", "\n")
        else:
            tokens = text.replace("\n", f" {EOS} ").split()
        try:
            return np.array([self.index[token] for token in tokens], dtype=np.int32)
        except KeyError as error:
            kind = "character" if self.level == "char" else "word"
            raise UserError(
                f"{kind} {one_line(repr(error.args[0]), 60)} is not among the {len(self.vocabulary)} "
                f"{kind}s of the vocabulary of {self.name}"
            ) from None

    def decode(self, ids: Iterable[Any]) -> str:
        """Return the text of token numbers: words with spaces between, ``<eos>`` as a newline.

        Raises
        ------
        ValueError
            A number outside the vocabulary.
        """
        lines: list[list[str]] = [[]]
        for number in ids:
            if not 0 <= int(number) < len(self.vocabulary):
                raise ValueError(
                    f"ids: expected numbers from 0 to {len(self.vocabulary) - 1}, got {int(number)}"
                )
            token = self.vocabulary[int(number)]
            if token == EOS and self.level == "word":
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(("" if self.level == "char" else " ").join(line) for line in lines)


def decode_text(path: str | os.PathLike[str], content: bytes) -> str:
    """Return the text in a file's content; every kind of line end becomes a newline.

    Raises
    ------
    DataError
        The content holds NUL bytes, is not UTF-8, or is nothing but white space; the text names the file and
        the line.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise fault(path, "not UTF-8 text: it begins like UTF-16")
    nul = content.find(b"\0")
    if nul >= 0:
        raise fault(path, f"not a text file: NUL byte in line {_line_of(content, nul)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_of(content, error.start)
        raise fault(path, f"not UTF-8 text: byte 0x{content[error.start]:02x} in line {line}") from None
    if not text.strip():
        raise fault(path, "holds no text, only white space")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_of(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1


def words_of(text: str) -> list[str]:
    """Return the words of a text with ``<eos>`` after each line, the last too if it has words."""
    words = text.replace("\n", f" {EOS} ").split()
    if text.rpartition("\n")[2].strip():
        words.append(EOS)
    return words


def by_frequency(words: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct words, the most frequent first, equally frequent ones in alphabetical order."""
    counts = Counter(words)
    return tuple(sorted(counts, key=lambda word: (-counts[word], word)))


def numbered(path: str | os.PathLike[str], words: list[str], text: str, index: Mapping[str, int]) -> Ids:
    """Return the numbers of a file's words.

    Raises
    ------
    DataError
        A word is not in `index`; the text names file, line and word.
    """
    try:
        ids = np.array([index[word] for word in words], dtype=np.int32)
    except KeyError:
        raise fault(path, unknown_word(text, index)) from None
    return frozen(ids)


def unknown_word(text: str, index: Mapping[str, int]) -> str:
    """Return what names the first word of `text` outside `index` and its line; nothing if there is none."""
    for number, line in enumerate(text.split("\n"), 1):
        for word in line.split():
            if word not in index:
                shown = one_line(repr(word), 60)
                return f"line {number}: word {shown} is not in the vocabulary of the training text"
    return ""


def frozen(ids: Ids) -> Ids:
    """Return `ids` after making it read-only."""
    ids.setflags(write=False)
    return ids
