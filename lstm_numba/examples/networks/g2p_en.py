"""g2p_en: how an English word is pronounced. A GRU reads the letters, another writes the sounds.

The first layer, and the second with the linear layer after it, each come out of the package's checkpoint in
one call. The original is the package's own NumPy code: its class, executed without the dictionaries and
taggers that its module imports. They answer for words that they know, the network for all others; the words
here are syllables in random order.

    python -m lstm_numba.examples.networks.g2p_en --download

Package and network: Kyubyong Park and Jongseok Kim, Apache license 2.0, github.com/Kyubyong/g2p.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.examples.networks.comparison import Comparison, difference, run
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "g2p-en",
    "2.1.0",
    {
        "g2p_en/checkpoint20.npz": "b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6",
        "g2p_en/g2p.py": "fc2548b855e102f774506a6afe4f4bc88424229b69701ab6040aa16710ddff3a",
    },
)
#: Letters and sounds by number: 0 to 2 and 0 to 3 are padding, unknown, begin and end.
UNKNOWN, END_OF_WORD, FIRST_LETTER = 1, 2, 3
BEGIN, END, LONGEST = 2, 3, 20
ONSETS = re.findall(
    "[a-z]+", "b bl br c ch d dr f fl g gr h j k l m n p ph pr qu r s sh sl st str t th tr v w"
)
VOWELS = re.findall("[a-z]+", "a e i o u y ai ea ee ie oa oo ou au")
CODAS = ["", "", "", *re.findall("[a-z]+", "b ck d ft g l ll m n nd ng nt p r rd rk s ss st t th x")]

Array = np.ndarray[Any, Any]


def draw_words(count: int, seed: int = 0) -> list[str]:
    """Words of one to four syllables that nobody has in a dictionary."""
    rng = np.random.default_rng(seed)

    def syllable() -> str:
        return "".join(part[rng.integers(len(part))] for part in (ONSETS, VOWELS, CODAS))

    return ["".join(syllable() for _ in range(rng.integers(1, 5))) for _ in range(count)]


class Speller:
    """Their network: two layers and a head, and the tables of letters and sounds.

    Parameters
    ----------
    path : path
        checkpoint20.npz
    """

    def __init__(self, path: Path) -> None:
        self.encoder = ln.load_weights(path, prefix="enc_").freeze()
        self.decoder = ln.Stream(ln.load_weights(path, prefix="dec_", head="fc"))
        tables = ln.read_tensors(path)
        self.letters, self.sounds = tables["enc_emb"], tables["dec_emb"]

    def predict(self, word: str) -> tuple[list[int], list[Array]]:
        """The sounds of a word, by number, and the scores that chose them and the end."""
        places = [FIRST_LETTER + ord(c) - ord("a") if "a" <= c <= "z" else UNKNOWN for c in word]
        _, state = self.encoder(self.letters[[*places, END_OF_WORD], None])
        self.decoder.reset(state)
        found, scores, last = [], [], BEGIN
        for _ in range(LONGEST):
            scores.append(self.decoder.step(self.sounds[last]).copy())
            last = int(scores[-1].argmax())
            if last == END:
                break
            found.append(last)
        return found, scores


def original(path: Path) -> Any:
    """An object of the package's class G2p that knows no dictionary.

    To import the module would be to import NLTK and to download dictionaries. The class alone is taken out
    of its source.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escape sequences in the source
        source = ast.parse((path.parent / "g2p.py").read_text(encoding="utf-8"))
    source.body = [node for node in source.body if isinstance(node, ast.ClassDef)]
    names: dict[str, Any] = {
        "np": np,
        "os": os,
        "dirname": str(path.parent),
        "cmudict": SimpleNamespace(dict=dict),
        "construct_homograph_dictionary": dict,
    }
    exec(compile(source, "g2p.py", "exec"), names)
    return names["G2p"]()


def original_scores(theirs: Any, word: str, sounds: list[int]) -> Array:
    """What the original's layers give after the sounds before; its `predict` tells only which sound won."""
    state = theirs.gru(
        theirs.encode(word), len(word) + 1,
        theirs.enc_w_ih, theirs.enc_w_hh, theirs.enc_b_ih, theirs.enc_b_hh,
    )[:, -1]  # fmt: skip
    scores = []
    for sound in [BEGIN, *sounds][:LONGEST]:
        state = theirs.grucell(
            theirs.dec_emb[[sound]], state, theirs.dec_w_ih, theirs.dec_w_hh, theirs.dec_b_ih, theirs.dec_b_hh
        )
        scores.append(state[0] @ theirs.fc_w.T + theirs.fc_b)
    return np.array(scores)


def compare(path: Path, threads: int = 1, count: int = 1000) -> list[Comparison]:
    """Both on so many words, one after the other; NumPy uses the threads that its BLAS wants."""
    ours, theirs, words = Speller(path), original(path), draw_words(count)
    same, apart = 0, 0.0
    for word in words:
        found, scores = ours.predict(word)
        same += [theirs.idx2p[n] for n in found] == theirs.predict(word)
        apart = max(apart, difference(scores, original_scores(theirs, word, found)))
    return [
        Comparison(
            "GRU 256 over the letters, GRU 256 over the sounds", "its NumPy code",
            apart if same == count else np.inf, 1e-5,
            lambda: [ours.predict(word) for word in words], lambda: [theirs.predict(word) for word in words],
            count, "word", f"the same sounds for {same} of {count} words",
        )
    ]  # fmt: skip


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
