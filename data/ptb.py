"""Penn Treebank, as preprocessed for language modelling.

Mikolov et al. (2010) lower-cased the text, turned numbers into ``N`` and every word outside the 10000 most
frequent into ``<unk>``. Every line ends with ``<eos>``, which is one of the 10000.
"""

from __future__ import annotations

import os
from pathlib import Path

from lstm_numba.data import store
from lstm_numba.data.corpus import Corpus, by_frequency, decode_text, numbered, unknown_word, words_of
from lstm_numba.data.download import ProgressCallback
from lstm_numba.data.file_io import fault, read_content

SPLITS = ("train", "valid", "test")


def load(
    data_dir: str | os.PathLike[str] | None = None, *, progress: ProgressCallback | None = None
) -> Corpus:
    """Load Penn Treebank: 929589, 73760 and 82430 tokens, vocabulary 10000.

    The files are searched for in `data_dir`, in the folder given by the environment variable
    ``LSTM_NUMBA_DATA`` and in the user's cache, and there in ``ptb`` and ``simple-examples/data``; gzipped or
    not. Missing files are downloaded to the first of these folders. The content must have the published
    SHA-256.

    Parameters
    ----------
    data_dir : path, optional
        Folder to search first.
    progress : callable, optional
        Called with a `lstm_numba.data.download.Progress` during a download.

    Returns
    -------
    Corpus
        Words, the most frequent first.

    Raises
    ------
    DataError
        A file is damaged or has other content, or is missing and cannot be downloaded.
    """
    texts: dict[str, str] = {}

    def diagnose(path: Path, content: bytes) -> None:
        text = decode_text(path, content)
        known = dict.fromkeys(words_of(texts["train"]), 0) if "train" in texts else {}
        if known and (what := unknown_word(text, known)):
            raise fault(path, what)

    names = {split: f"ptb.{split}.txt" for split in SPLITS}
    for split, name in names.items():
        texts[split] = decode_text(name, store.content("ptb", name, data_dir, diagnose, progress))
    return _corpus("ptb", names, texts, "Penn Treebank (Mikolov et al. 2010)")


def read_splits(
    train: str | os.PathLike[str],
    valid: str | os.PathLike[str],
    test: str | os.PathLike[str],
    name: str = "words",
) -> Corpus:
    """Read three files in the format of Penn Treebank's: words, one sentence per line.

    Parameters
    ----------
    train, valid, test : path
        UTF-8 text, gzipped or not.
    name : str
        Name of the corpus.

    Returns
    -------
    Corpus
        Its vocabulary is the words of the training file, the most frequent first, and ``<eos>``.

    Raises
    ------
    DataError
        A file is missing, empty, no UTF-8 text, or has a word that is not in the training file; the text
        names file, line and word.
    """
    paths = {"train": train, "valid": valid, "test": test}
    texts = {split: decode_text(path, read_content(path)) for split, path in paths.items()}
    return _corpus(name, paths, texts, os.fspath(train))


def _corpus(
    name: str, paths: dict[str, str] | dict[str, str | os.PathLike[str]], texts: dict[str, str], source: str
) -> Corpus:
    words = {split: words_of(text) for split, text in texts.items()}
    vocabulary = by_frequency(words["train"])
    index = {word: number for number, word in enumerate(vocabulary)}
    splits = {split: numbered(paths[split], words[split], texts[split], index) for split in SPLITS}
    return Corpus(name, "word", vocabulary, splits, None, source)
