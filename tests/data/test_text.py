"""Corpora of words and characters."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import ptb, store, text
from lstm_numba.data.corpus import Corpus
from lstm_numba.errors import DataError, UserError

TRAIN = " b a c a \n a <unk> b \n\n b a \n"
VALID = " a b \n c \n"
TEST = " a a a\n"


def lay(folder: Path, **texts: str | bytes) -> dict[str, Path]:
    paths = {}
    for split, content in {"train": TRAIN, "valid": VALID, "test": TEST, **texts}.items():
        paths[split] = folder / f"ptb.{split}.txt"
        paths[split].write_bytes(content if isinstance(content, bytes) else content.encode())
    return paths


def read(paths: dict[str, Path]) -> Corpus:
    return ptb.read_splits(paths["train"], paths["valid"], paths["test"])


# Penn Treebank's form


def test_words_of_three_files(tmp_path: Path) -> None:
    corpus = read(lay(tmp_path))
    # a: 4 times; <eos>: 4 lines, one of them empty, as "replace newline by <eos>" has it; b: 3.
    assert corpus.vocabulary == ("<eos>", "a", "b", "<unk>", "c")
    assert corpus.splits["train"].tolist() == [2, 1, 4, 1, 0, 1, 3, 2, 0, 0, 2, 1, 0]
    assert corpus.splits["valid"].tolist() == [1, 2, 0, 4, 0]
    assert corpus.splits["test"].tolist() == [1, 1, 1, 0]
    assert all(ids.dtype == np.int32 and not ids.flags.writeable for ids in corpus.splits.values())
    assert (corpus.level, corpus.entropy_rate) == ("word", None)


@pytest.mark.parametrize(
    ("train", "wanted"),
    [("a b", ["a", "b", "<eos>"]), ("a b\n", ["a", "b", "<eos>"]), ("a b\n ", ["a", "b", "<eos>"])],
)
def test_the_last_line_ends_too(tmp_path: Path, train: str, wanted: list[str]) -> None:
    corpus = read(lay(tmp_path, train=train, valid="a", test="b"))
    assert [corpus.vocabulary[i] for i in corpus.splits["train"]] == wanted


def test_line_ends_of_all_systems(tmp_path: Path) -> None:
    for end in ("\r\n", "\r"):
        corpus = read(lay(tmp_path, train=TRAIN.replace("\n", end)))
        assert corpus.splits["train"].tolist() == [2, 1, 4, 1, 0, 1, 3, 2, 0, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("split", "content", "words"),
    [
        ("valid", " a b \n c dodo \n", "line 2: word 'dodo' is not in the vocabulary of the training text"),
        ("test", "a\n\n\na\tzebra", "line 4: word 'zebra' is not in the vocabulary"),
        ("valid", "a " + "x" * 5000, "line 1: word 'xxxxxx"),
        ("test", "a \x1b[31mred\n", r"word '\x1b[31mred'"),
        ("train", b"a b\n\xffc\n", "not UTF-8 text: byte 0xff in line 2"),
        ("valid", "a b\n".encode("utf-16"), "begins like UTF-16"),
        ("test", b"a\nb\0\n", "NUL byte in line 2"),
        ("test", b"\0" * 100, "NUL byte in line 1"),
        ("train", b"", "the file is empty"),
        ("valid", b" \n\n \t", "holds no text"),
        ("valid", gzip.compress(b"a b", mtime=0)[:-3], "truncated gzip file"),
        ("valid", gzip.compress(b"", mtime=0), "the content is empty"),
    ],
)
def test_faults_of_word_files(tmp_path: Path, split: str, content: str | bytes, words: str) -> None:
    paths = lay(tmp_path, **{split: content})
    with pytest.raises(DataError) as caught:
        read(paths)
    message = str(caught.value)
    assert message.startswith(f"{paths[split]}: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.fixture
def small_ptb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    which = store.DATASETS["ptb"]
    paths = lay(tmp_path)
    files = []
    for file, path in zip(which.files, paths.values(), strict=True):
        data = path.read_bytes()
        files.append(replace(file, sha256=hashlib.sha256(data).hexdigest(), size=len(data)))
    monkeypatch.setitem(store.DATASETS, "ptb", replace(which, files=tuple(files), mirrors=()))
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("folder", [".", "ptb", "simple-examples/data", "data"])
@pytest.mark.parametrize("packed", [False, True])
def test_ptb_is_found(small_ptb: Path, folder: str, packed: bool) -> None:
    home = small_ptb / "root" / folder
    home.mkdir(parents=True, exist_ok=True)
    for split in ptb.SPLITS:
        data = (small_ptb / f"ptb.{split}.txt").read_bytes()
        (home / f"ptb.{split}.txt{'.gz' if packed else ''}").write_bytes(
            gzip.compress(data) if packed else data
        )
    corpus = ptb.load(small_ptb / "root")
    assert corpus.name == "ptb"
    assert corpus.vocabulary == ("<eos>", "a", "b", "<unk>", "c")
    assert corpus.splits["valid"].tolist() == [1, 2, 0, 4, 0]


@pytest.mark.parametrize(
    ("split", "content", "words"),
    [
        ("test", "a a dodo\n", "line 1: word 'dodo' is not in the vocabulary of the training text"),
        ("valid", b"\xfe\n", "not UTF-8 text: byte 0xfe in line 1"),
        ("train", TRAIN[:-4], "truncated or another text: 25 bytes, expected 29"),
        ("train", TRAIN.replace("c", "d"), "not the published file: content has sha256"),
        ("valid", b"", "the file is empty"),
        ("test", b"a\0a a\n", "NUL byte"),
    ],
)
def test_ptb_is_verified(small_ptb: Path, split: str, content: str | bytes, words: str) -> None:
    paths = lay(small_ptb, **{split: content})
    with pytest.raises(DataError) as caught:
        ptb.load(small_ptb)
    assert str(caught.value).startswith(f"{paths[split]}: ")
    assert words in str(caught.value)


def test_ptb_is_absent(small_ptb: Path) -> None:
    (small_ptb / "ptb.valid.txt").unlink()
    with pytest.raises(
        DataError, match=r"ptb: cannot download ptb.valid.txt .* digits and grammar need no download"
    ):
        ptb.load(small_ptb)


def test_real_ptb() -> None:
    folder = os.environ.get("LSTM_NUMBA_DATA")
    if not folder or any(result.state == "missing" for result in store.verify("ptb", folder)):
        pytest.skip("the environment variable LSTM_NUMBA_DATA names no folder with Penn Treebank's files")
    corpus = ptb.load(folder)
    assert {split: len(ids) for split, ids in corpus.splits.items()} == {
        "train": 929_589,
        "valid": 73_760,
        "test": 82_430,
    }
    assert len(corpus.vocabulary) == 10_000
    # The ten most frequent and the first sentence, as published examples show them.
    assert corpus.vocabulary[:10] == ("the", "<unk>", "<eos>", "N", "of", "to", "a", "in", "and", "'s")
    counts = np.bincount(corpus.splits["train"], minlength=10_000)
    assert np.all(np.diff(counts) <= 0)
    assert corpus.decode(corpus.splits["train"][:28]).split()[:4] == [
        "aer",
        "banknote",
        "berlitz",
        "calloway",
    ]
    assert corpus.decode(corpus.splits["train"][24:33]) == "\npierre <unk> N years old will join the"


# A user's own text


LOREM = "".join(random.Random(5).choice("abcdeé \n") for _ in range(1000)) + "ß" * 60


def test_characters(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text(LOREM, encoding="utf-8", newline="")
    corpus = text.load(path, "char", (0.8, 0.15, 0.05))
    assert corpus.vocabulary == tuple(sorted(set(LOREM)))
    sizes = {split: len(ids) for split, ids in corpus.splits.items()}
    assert sizes == {"train": 848, "valid": 159, "test": 53}
    together = "".join(corpus.decode(corpus.splits[split]) for split in ("train", "valid", "test"))
    assert together == LOREM
    # The letter that only the end has is in the vocabulary.
    assert "ß" not in LOREM[:848]
    assert corpus.encode("ß").tolist() == [corpus.vocabulary.index("ß")]


def test_characters_of_a_text_with_windows_line_ends_and_mark(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"ab\r\ncd\r\n" * 20)
    corpus = text.load(path)
    assert corpus.vocabulary == ("\n", "a", "b", "c", "d")
    assert corpus.decode(corpus.splits["train"][:7]) == "ab\ncd\na"


@pytest.mark.smoke
def test_words(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    lines = ["the cat sat", "", "the dog ran", "a cat ran", "the end"] * 10 + ["an unseen word", "the cat"]
    path.write_text("\n".join(lines), encoding="utf-8")
    corpus = text.load(path, "word", (0.9, 0.05, 0.05))
    tokens = [word for line in lines if line for word in [*line.split(), "<eos>"]]
    count = len(tokens)
    valid = test = int(count * 0.05)
    train = count - valid - test
    counts = Counter(tokens[:train])
    kept = {word for word, n in counts.items() if n >= 2}
    expected = [word if word in kept else "<unk>" for word in tokens]
    got = [corpus.vocabulary[i] for split in ("train", "valid", "test") for i in corpus.splits[split]]
    assert got == expected
    assert len(corpus.splits["train"]) == train
    assert "<unk>" in corpus.vocabulary
    order = [Counter(expected[:train])[word] for word in corpus.vocabulary]
    assert order == sorted(order, reverse=True)


def test_rare_words_are_unknown_already_in_training(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("often rare1 often\nagain often rare2 again\n" + "often again\n" * 30, encoding="utf-8")
    corpus = text.load(path, "word")
    assert set(corpus.vocabulary) == {"often", "again", "<eos>", "<unk>"}
    assert corpus.decode(corpus.splits["train"][:9]) == "often <unk> often\nagain often <unk> again\n"
    # Only the training part counts: a word that it has once is rare, though the rest has it too.
    path.write_text("often once\n" + "often again\n" * 40 + "once once\n", encoding="utf-8")
    assert "once" not in text.load(path, "word").vocabulary
    path.write_text("often rare1 often\nagain often rare2 again\n" + "often again\n" * 30, encoding="utf-8")
    every = text.load(path, "word", min_count=1)
    assert set(every.vocabulary) == {"often", "again", "<eos>", "<unk>", "rare1", "rare2"}


@pytest.mark.parametrize(
    ("content", "level", "words"),
    [
        (b"", "char", "the file is empty"),
        (b"\n \n", "char", "holds no text"),
        ("kurz", "char", "too short: 4 characters give parts of 4, 0 and 0"),
        ("x" * 39, "char", "too short: 39 characters give parts of 37, 1 and 1"),
        ("x" * 40, "char", "nothing to predict: all its characters are 'x'"),
        ("two words", "word", "too short: 3 words"),
        (" ".join(f"w{i}" for i in range(100)), "word", "no word comes 2 times in its first"),
        (b"abc\xe9" * 50, "char", "not UTF-8 text: byte 0xe9 in line 1"),
        (b"ab\0c" * 50, "word", "NUL byte in line 1"),
        ("abc" * 50, "char", None),
    ],
)
def test_faults_of_own_texts(tmp_path: Path, content: str | bytes, level: str, words: str | None) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if words is None:
        assert text.load(path, level).vocabulary == ("a", "b", "c")
        return
    with pytest.raises(DataError) as caught:
        text.load(path, level)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_random_bytes_never_give_another_error(tmp_path: Path) -> None:
    rng = random.Random(11)
    path = tmp_path / "own.txt"
    sound = "Über sieben Brücken\nmußt du gehn\n".encode() * 8
    read = 0
    for round_ in range(600):
        data = bytearray(gzip.compress(sound, mtime=0) if round_ % 3 == 0 else sound)
        for _ in range(rng.choice([0, 1, 2])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data) + 1)] if round_ % 2 else data)
        try:
            corpus = text.load(path, rng.choice(["char", "word"]))
        except DataError:
            continue
        read += 1
        assert sum(map(len, corpus.splits.values())) > 0
    assert 50 < read < 550


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"level": "byte"}, "level: expected 'char' or 'word', got 'byte'"),
        ({"fractions": (0.5, 0.5)}, "fractions: expected three positive numbers of sum 1"),
        ({"fractions": (0.9, 0.1, 0.1)}, "fractions"),
        ({"fractions": (1.0, 0.0, 0.0)}, "fractions"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, "fractions"),
        ({"min_count": 0}, "min_count: expected an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        text.load(tmp_path / "never read", **arguments)


# Encoding and decoding


@pytest.fixture
def words() -> Corpus:
    return Corpus("toy", "word", ("<eos>", "the", "dog", "<unk>"), {})


def test_encode_and_decode_words(words: Corpus) -> None:
    assert words.encode("the  dog\nthe\tdog").tolist() == [1, 2, 0, 1, 2]
    assert words.encode("").tolist() == []
    assert words.encode("the <eos> <unk>\n").tolist() == [1, 0, 3, 0]
    assert words.encode("the").dtype == np.int32
    assert words.decode([1, 2, 0, 3, 0]) == "the dog\n<unk>\n"
    assert words.decode(np.array([], np.int32)) == ""
    with pytest.raises(UserError, match="word 'cat' is not among the 4 words of the vocabulary of toy"):
        words.encode("the cat")
    with pytest.raises(ValueError, match="ids: expected numbers from 0 to 3, got 4"):
        words.decode([0, 4])
    with pytest.raises(ValueError, match="got -1"):
        words.decode([-1])


def test_encode_and_decode_characters() -> None:
    corpus = Corpus("toy", "char", ("\n", " ", "a", "é"), {})
    assert corpus.encode("a é\r\na").tolist() == [2, 1, 3, 0, 2]
    assert corpus.decode([2, 1, 3, 0, 2]) == "a é\na"
    with pytest.raises(UserError, match=r"character '\\t' is not among the 4 characters"):
        corpus.encode("a\t")
