"""g2pM: how a Chinese character with several readings is read here. A small LSTM in both directions.

An embedding of 64, an LSTM of 32 units in each direction, and two linear layers at the characters in
question. The original is the package itself, which needs NumPy alone and computes the network with it. What
is compared is the network, on characters in random order; and on a sentence all of the package as it is, and
with its network replaced by this one.

    python -m lstm_numba.examples.networks.g2pm --download

Package and network: Seanie Lee, Kakao Brain, Apache license 2.0, github.com/kakaobrain/g2pM.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.errors import UserError
from lstm_numba.examples.networks.comparison import Comparison, difference, run
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "g2pM",
    "0.1.2.5",
    {
        "g2pM/np_ckpt.pkl": "5b38c21cbaeb5f9b2f5d0bf872487de0fc22f91a3b26189b7d998136d2c8d3ae",
        "g2pM/g2pM.py": "4a19f9d8cd95d806e13c432e8b573355455c35845dd8fc16ec4fa86a26ca1de4",
        "g2pM/char2idx.pkl": "e41861f3af2debb342d3555d970db47b22e5d35c8e0190722dfb9b39c941988c",
        "g2pM/class2idx.pkl": "b17a497ee9618e6d5c2f7814ab7f847d80a3cb757e92423774781e4d3dc56c49",
        "g2pM/digest_cedict.pkl": "71e727a041a1d7023a1fbe32bbc23d5f4aa85a9d67fe4d6502fc398ef30b875c",
    },
)
SENTENCE = "他长大以后还得了重病"

Array = np.ndarray[Any, Any]


class Reader:
    """Their network.

    Parameters
    ----------
    path : path
        np_ckpt.pkl, read without executing anything in it.
    """

    def __init__(self, path: Path) -> None:
        self.lstm = ln.load_weights(path, prefix="lstm.").freeze()
        tensors = ln.read_tensors(path)
        self.embedding = tensors["embedding.weight"]
        self.layers = [
            (tensors[f"logit_layer.{n}.weight"].T, tensors[f"logit_layer.{n}.bias"]) for n in (0, 2)
        ]

    def scores(self, inputs: Array, places: list[int]) -> Array:
        """Scores of all readings at P places of a sentence, whose characters come as numbers (1, T)."""
        y, _ = self.lstm(self.embedding[inputs[0], None])
        (w0, b0), (w1, b1) = self.layers
        return np.asarray(np.maximum(y[places, 0] @ w0 + b0, 0) @ w1 + b1)

    def predict(self, inputs: Array, places: list[int]) -> Array:
        """The readings, by number, as the package's `predict` gives them."""
        return np.asarray(self.scores(inputs, places).argmax(axis=1))


def original(path: Path) -> Any:
    """An object of the package's class, whose module needs NumPy alone; it unpickles its tables."""
    spec = importlib.util.spec_from_file_location("g2pM_original", path.parent / "g2pM.py")
    if spec is None or spec.loader is None:
        raise UserError(f"{path.parent / 'g2pM.py'}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.G2pM()


def draw_sentences(theirs: Any, count: int, seed: int = 0) -> list[tuple[Array, list[int]]]:
    """Random characters, and where those with several readings stand, as `predict` takes them."""
    rng = np.random.default_rng(seed)
    known = sorted(set(theirs.char2idx) & set(theirs.cedict))
    several = [c for c in known if len(theirs.cedict[c]) > 1]
    begin, end = theirs.char2idx["시"], theirs.char2idx["끝"]
    found = []
    for _ in range(count):
        length = int(rng.integers(6, 31))
        asked = sorted({0, *rng.integers(0, length, length // 5).tolist()})
        characters = [known[n] for n in rng.integers(0, len(known), length)]
        for place in asked:
            characters[place] = several[rng.integers(len(several))]
        numbers = [begin, *(theirs.char2idx[c] for c in characters), end]
        found.append((np.array([numbers], np.int32), [place + 1 for place in asked]))
    return found


def original_scores(theirs: Any, inputs: Array, places: list[int]) -> Array:
    """What the original's layers give at some places; its `predict` tells only which won."""
    kept: list[Array] = []

    class Listening(type(theirs)):  # type: ignore[misc]
        def fc_layer(self, inputs: Array) -> Array:
            kept.append(super().fc_layer(inputs))
            return kept[-1]

    listening = object.__new__(Listening)
    listening.__dict__.update(theirs.__dict__)
    listening.predict(inputs, places)
    return kept[-1]


def compare(path: Path, threads: int = 1, count: int = 200) -> list[Comparison]:
    """Both on so many sentences, one after the other; NumPy uses the threads that its BLAS wants."""
    ours, theirs, replaced = Reader(path), original(path), original(path)
    replaced.predict = ours.predict
    sentences = draw_sentences(theirs, count)
    apart = max(difference(ours.scores(*s), original_scores(theirs, *s)) for s in sentences)
    same = sum(np.array_equal(ours.predict(*s), theirs.predict(*s)) for s in sentences)
    if replaced(SENTENCE) != theirs(SENTENCE):
        same = -1
    return [
        Comparison(
            "embedding, LSTM 64 -> 2 x 32, two linear layers; 6 to 30 characters", "its NumPy code",
            apart if same == count else np.inf, 1e-5,
            lambda: [ours.predict(*s) for s in sentences], lambda: [theirs.predict(*s) for s in sentences],
            count, "sentence", f"the same readings in {same} of {count} sentences",
        ),
        Comparison(
            f"all of the package on {SENTENCE}", "the package as it is",
            float(replaced(SENTENCE) != theirs(SENTENCE)), 0.0,
            lambda: replaced(SENTENCE), lambda: theirs(SENTENCE), unit="sentence",
            note=" ".join(replaced(SENTENCE)),
        ),
    ]  # fmt: skip


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
