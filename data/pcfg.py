"""Probabilistic context-free grammars, with their exact entropy.

A grammar rewrites a start symbol until only words are left. If it is unambiguous (no sentence has two
derivations), the probability of a sentence is the product of the probabilities of its rules, and the entropy
of a sentence is the sum of the symbols' entropies, weighted by how often a symbol is rewritten on average
(Grenander 1967; Booth and Thompson 1973):

    v = e_start + M' v          expected rewritings of each symbol; M[a, b] = expected b's in a rewriting of a
    H = sum_a v_a h_a           nats a sentence; h_a = - sum_r p_r ln p_r over the rules r of a
    L = sum_a v_a l_a           words a sentence; l_a = expected words in a rewriting of a

Unambiguity is undecidable in general, but LL(1) grammars, where the next word determines the rule of every
symbol, are unambiguous. `Grammar.conflicts` tests for that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

#: Rules of a grammar: symbol -> (probability, right-hand side) of each of its rules.
Rules = Mapping[str, Sequence[tuple[float, tuple[str, ...]]]]

#: Represents the end of a sentence among the words that may follow a symbol.
END = ""


class Grammar:
    """A probabilistic context-free grammar.

    Parameters
    ----------
    start : str
        Start symbol.
    rules : mapping of str to sequence of (float, tuple of str)
        For each symbol its rules: probability and right-hand side. Names without rules are words.

    Raises
    ------
    ValueError
        Probabilities that do not sum to 1, a symbol that is never reached, or sentences that are infinitely
        long on average.
    """

    def __init__(self, start: str, rules: Rules) -> None:
        if start not in rules:
            raise ValueError(f"start: expected a symbol with rules, got {start!r}")
        self.start = start
        self.rules = {symbol: tuple((float(p), tuple(body)) for p, body in rules[symbol]) for symbol in rules}
        for symbol, choices in self.rules.items():
            if (
                not choices
                or any(not 0.0 < p <= 1.0 for p, _ in choices)
                or abs(sum(p for p, _ in choices) - 1.0) > 1e-9
            ):
                raise ValueError(f"rules: probabilities of {symbol!r} must be positive and sum to 1")
        self.symbols = tuple(self.rules)
        self.words = tuple(
            sorted({x for c in self.rules.values() for _, body in c for x in body if x not in self.rules})
        )
        self._visits = self._expected_visits()
        if np.any(self._visits == 0.0):
            lost = self.symbols[int(np.argmin(self._visits))]
            raise ValueError(f"rules: {lost!r} is never reached from {start!r}")
        self._compile()

    def _expected_visits(self) -> npt.NDArray[np.float64]:
        number = {symbol: i for i, symbol in enumerate(self.symbols)}
        means = np.zeros((len(number), len(number)))
        for symbol, choices in self.rules.items():
            for p, body in choices:
                for x in body:
                    if x in number:
                        means[number[symbol], number[x]] += p
        if np.max(np.abs(np.linalg.eigvals(means))) >= 1.0 - 1e-9:
            raise ValueError("rules: sentences are infinitely long on average")
        one = np.zeros(len(number))
        one[number[self.start]] = 1.0
        return np.linalg.solve(np.eye(len(number)) - means.T, one)

    def visits(self) -> dict[str, float]:
        """Return how often each symbol is rewritten in a sentence on average."""
        return dict(zip(self.symbols, self._visits.tolist(), strict=True))

    def sentence_entropy(self) -> float:
        """Return the entropy of a derivation in nats: that of a sentence if the grammar is unambiguous."""
        own = [-sum(p * np.log(p) for p, _ in self.rules[symbol]) for symbol in self.symbols]
        return float(np.dot(self._visits, own))

    def sentence_length(self) -> float:
        """Return the mean number of words of a sentence."""
        own = [
            sum(p * sum(x not in self.rules for x in body) for p, body in self.rules[s]) for s in self.symbols
        ]
        return float(np.dot(self._visits, own))

    def entropy_rate(self) -> float:
        """Return the entropy rate in nats per token of independent sentences, each closed by one more token.

        Sentences with their closing token can be told apart, so the text's entropy is that of its sentences,
        and the law of large numbers divides it by their mean length.
        """
        return self.sentence_entropy() / (self.sentence_length() + 1.0)

    def _first(self) -> tuple[dict[str, set[str]], set[str]]:
        """Return the words that a symbol's expansions may begin with, and the symbols that may be empty."""
        first: dict[str, set[str]] = {symbol: set() for symbol in self.symbols}
        empty: set[str] = set()
        changed = True
        while changed:
            changed = False
            for symbol, choices in self.rules.items():
                for _, body in choices:
                    words, vanishes = self._begin(body, first, empty)
                    if not words <= first[symbol] or (vanishes and symbol not in empty):
                        first[symbol] |= words
                        if vanishes:
                            empty.add(symbol)
                        changed = True
        return first, empty

    def _begin(
        self, body: Sequence[str], first: Mapping[str, set[str]], empty: set[str]
    ) -> tuple[set[str], bool]:
        words: set[str] = set()
        for x in body:
            if x not in self.rules:
                return words | {x}, False
            words |= first[x]
            if x not in empty:
                return words, False
        return words, True

    @cached_property
    def _prediction(self) -> tuple[dict[str, dict[str, int]], list[str]]:
        """Return the rule that each next word selects for each symbol, and the conflicts between rules."""
        first, empty = self._first()
        follow: dict[str, set[str]] = {symbol: set() for symbol in self.symbols}
        follow[self.start].add(END)
        changed = True
        while changed:
            changed = False
            for symbol, choices in self.rules.items():
                for _, body in choices:
                    for i, x in enumerate(body):
                        if x in self.rules:
                            words, vanishes = self._begin(body[i + 1 :], first, empty)
                            words = words | follow[symbol] if vanishes else words
                            if not words <= follow[x]:
                                follow[x] |= words
                                changed = True
        table: dict[str, dict[str, int]] = {}
        conflicts = []
        for symbol, choices in self.rules.items():
            row = table.setdefault(symbol, {})
            for number, (_, body) in enumerate(choices):
                words, vanishes = self._begin(body, first, empty)
                for word in words | follow[symbol] if vanishes else words:
                    if word in row:
                        conflicts.append(f"{symbol}: rules {row[word]} and {number} both take {word!r}")
                    row[word] = number
        return table, conflicts

    def conflicts(self) -> list[str]:
        """Return the violations of LL(1); without any, the grammar is unambiguous."""
        return self._prediction[1]

    def _compile(self) -> None:
        """Number words from 0 up and symbols from -1 down, and prepare the rules for `sample`."""
        number = {word: i for i, word in enumerate(self.words)}
        number.update({symbol: -1 - i for i, symbol in enumerate(self.symbols)})
        self._bodies, self._limits, self._costs = [], [], []
        for symbol in self.symbols:
            choices = self.rules[symbol]
            # Reversed: the stack's top is the leftmost symbol.
            self._bodies.append([[number[x] for x in reversed(body)] for _, body in choices])
            limits = np.cumsum([p for p, _ in choices])
            limits[-1] = np.inf
            self._limits.append(limits.tolist())
            self._costs.append([float(-np.log(p)) for p, _ in choices])

    def sample(self, uniforms: Iterator[float]) -> tuple[list[int], float]:
        """Draw a sentence.

        Parameters
        ----------
        uniforms : iterator of float
            Random numbers in [0, 1); each rewriting takes one.

        Returns
        -------
        sentence : list of int
            Indices in `words`.
        surprise : float
            ``-ln p`` of its derivation, nats.
        """
        sentence: list[int] = []
        surprise = 0.0
        stack = [-1 - self.symbols.index(self.start)]
        while stack:
            x = stack.pop()
            if x >= 0:
                sentence.append(x)
            else:
                symbol = -1 - x
                choice = bisect_right(self._limits[symbol], next(uniforms))
                surprise += self._costs[symbol][choice]
                stack += self._bodies[symbol][choice]
        return sentence, surprise

    def surprise(self, sentence: Sequence[str]) -> float:
        """Return ``-ln p`` of a sentence in nats, by parsing it from left to right.

        Parameters
        ----------
        sentence : sequence of str
            Its words.

        Raises
        ------
        ValueError
            The grammar is not LL(1), or does not produce the sentence; the text names the word.
        """
        table, conflicts = self._prediction
        if conflicts:
            raise ValueError(f"the grammar is not LL(1): {conflicts[0]}")
        total = 0.0
        stack = [self.start]
        place = 0
        while stack:
            x = stack.pop()
            word = sentence[place] if place < len(sentence) else END
            if x in self.rules:
                if word not in table[x]:
                    raise ValueError(f"sentence: word {place} {word!r} does not fit")
                p, body = self.rules[x][table[x][word]]
                total -= float(np.log(p))
                stack += reversed(body)
            elif x == word:
                place += 1
            else:
                raise ValueError(f"sentence: word {place} {word!r} does not fit; expected {x!r}")
        if place < len(sentence):
            raise ValueError(f"sentence: word {place} {sentence[place]!r} comes after its end")
        return total
