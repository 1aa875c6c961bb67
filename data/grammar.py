"""Sentences of a random grammar of known entropy: a text with a known lowest perplexity.

The words look like English and the form is Penn Treebank's: words, one sentence a line, ``<eos>`` at its end.
A model has to remember the following, across intervening and nested clauses and phrases:

* number and kind of a subject, for its verb ("the lamps near this singer who the pilots admire glow"):
  singular or plural, and one set of verbs for beings, another for things;
* the same for relative pronouns (who, which), predicates and reflexive pronouns;
* what was opened, to close it: ``if`` by ``then``, ``either`` by ``or``, `````` by ``''``, possibly nested
  and with whole sentences in between.

The grammar is LL(1), hence unambiguous, hence its entropy follows from its rules (`lstm_numba.data.pcfg`).
Sentences are independent, so the entropy rate of the text is the entropy of a sentence over its mean length
with ``<eos>``: no model, however long its memory, has a lower mean loss on a long enough text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.data._random import uniforms
from lstm_numba.data.corpus import EOS, Corpus, Ids, frozen
from lstm_numba.data.pcfg import Grammar

#: Default number of tokens in the training split; validation and test have a tenth each.
TOKENS = 200_000

_BEINGS = (
    "farmer teacher singer doctor pilot baker sailor painter king nurse poet lawyer driver clerk monk thief "
    "scout actor soldier gardener"
)
_THINGS = (
    "lamp bell wheel engine clock bridge candle kettle statue curtain ladder mirror anchor fence wagon drum "
    "tower door machine barrel"
)
_BEINGS_DO = "sleep laugh wait smile sing dance listen kneel hesitate whisper travel shout"
_THINGS_DO = "creak shine rust rattle glow tilt fall crack leak hum burn break"
_BEINGS_DO_TO = "see follow admire find remember avoid describe fear draw ignore carry praise"
_THINGS_DO_TO = "block hide support surround shake damage warm cover reveal protect"
_SAY = "say think believe claim know insist"
_BEINGS_ARE = "happy tired hungry clever proud nervous honest lonely"
_THINGS_ARE = "broken rusty heavy hollow wooden dusty crooked noisy"
_ATTRIBUTES = "old small red tall young strange quiet famous grey tiny"
_ADVERBS = "again quietly often slowly together outside tonight suddenly"
_PLACES = "near behind beside above under"
_ONE = "this every each one"
_MANY = "these some many several two"

#: Features of a noun: number (s, p) and kind (being, thing).
_FEATURES = ("s being", "p being", "s thing", "p thing")


RuleTable = dict[str, list[tuple[float, tuple[str, ...]]]]


def _plural(noun: str) -> str:
    return {"thief": "thieves"}.get(noun, noun + "s")


def _third_person(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")


def _choice(words: Sequence[str], steepness: float = 1.0) -> list[tuple[float, tuple[str, ...]]]:
    """Return rules for one of `words`: the k-th with probability ~ 1 / (k + steepness), after Zipf."""
    weights = [1.0 / (rank + steepness) for rank in range(len(words))]
    return [(weight / sum(weights), (word,)) for weight, word in zip(weights, words, strict=True)]


def _lexicon() -> RuleTable:
    rules: RuleTable = {
        "ATTRIBUTE": _choice(_ATTRIBUTES.split()),
        "ADVERB": _choice(_ADVERBS.split()),
        "PLACE": _choice(_PLACES.split()),
        "DETERMINER s": _choice(_ONE.split()),
        "DETERMINER p": _choice(_MANY.split()),
        "BE s": [(1.0, ("is",))],
        "BE p": [(1.0, ("are",))],
        "STATE being": _choice(_BEINGS_ARE.split()),
        "STATE thing": _choice(_THINGS_ARE.split()),
        "SELF s being": [(0.5, ("himself",)), (0.5, ("herself",))],
        "SELF s thing": [(1.0, ("itself",))],
        "SELF p being": [(1.0, ("themselves",))],
        "SELF p thing": [(1.0, ("themselves",))],
        "SAY s": _choice([_third_person(verb) for verb in _SAY.split()]),
        "SAY p": _choice(_SAY.split()),
    }
    kinds = (("being", _BEINGS, _BEINGS_DO, _BEINGS_DO_TO), ("thing", _THINGS, _THINGS_DO, _THINGS_DO_TO))
    for kind, nouns, do, do_to in kinds:
        rules[f"NOUN s {kind}"] = _choice(nouns.split(), 2.0)
        rules[f"NOUN p {kind}"] = _choice([_plural(noun) for noun in nouns.split()], 2.0)
        for name, verbs in (("DO", do), ("DO-TO", do_to)):
            rules[f"{name} s {kind}"] = _choice([_third_person(verb) for verb in verbs.split()])
            rules[f"{name} p {kind}"] = _choice(verbs.split())
    return rules


def _noun_phrase(name: str, rest: dict[str, tuple[str, ...]]) -> RuleTable:
    """Return rules of a noun phrase, followed by `rest` for the features of its noun.

    After "the" the noun may be singular or plural; other determiners fix its number.
    """

    def noun(p: float, feature: str) -> tuple[float, tuple[str, ...]]:
        return p, (f"NOUN {feature}", f"MODIFIER {feature}", *rest[feature])

    rules: RuleTable = {
        name: [
            (0.50, ("the", f"{name} the")),
            (0.28, ("DETERMINER s", f"{name} s")),
            (0.22, ("DETERMINER p", f"{name} p")),
        ],
        f"{name} the": [
            (0.20, ("ATTRIBUTE", f"{name} the")),
            noun(0.26, "s being"),
            noun(0.20, "p being"),
            noun(0.19, "s thing"),
            noun(0.15, "p thing"),
        ],
    }
    for n in ("s", "p"):
        rules[f"{name} {n}"] = [
            (0.20, ("ATTRIBUTE", f"{name} {n}")),
            noun(0.46, f"{n} being"),
            noun(0.34, f"{n} thing"),
        ]
    return rules


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """Return the grammar."""
    rules: RuleTable = {
        "SENTENCE": [
            (0.86, ("CLAUSE",)),
            (0.08, ("if", "SENTENCE", "then", "SENTENCE")),
            (0.06, ("either", "SENTENCE", "or", "SENTENCE")),
        ],
        # A subject and what it does; a subject and a verb whose object is elsewhere ("who the pilots
        # admire"); an object.
        **_noun_phrase("CLAUSE", {f: (f"PREDICATE {f}",) for f in _FEATURES}),
        **_noun_phrase("GAP", {f: (f"DO-TO {f}",) for f in _FEATURES}),
        **_noun_phrase("OBJECT", dict.fromkeys(_FEATURES, ())),
        "MANNER": [(0.6, ()), (0.4, ("ADVERB",))],
        "CONTENT": [(0.75, ("that", "CLAUSE")), (0.25, ("``", "SENTENCE", "''"))],
    }
    for feature in _FEATURES:
        number, kind = feature.split()
        who = "who" if kind == "being" else "which"
        rules[f"MODIFIER {feature}"] = [
            (0.64, ()),
            (0.20, (who, f"RELATIVE {feature}")),
            (0.16, ("PLACE", "OBJECT")),
        ]
        rules[f"RELATIVE {feature}"] = [(0.6, (f"PREDICATE {feature}",)), (0.4, ("GAP",))]
        rules[f"TARGET {feature}"] = [(0.9, ("OBJECT",)), (0.1, (f"SELF {feature}",))]
        predicates = [
            (0.36, (f"DO {feature}", "MANNER")),
            (0.36, (f"DO-TO {feature}", f"TARGET {feature}")),
            (0.14, (f"BE {number}", f"STATE {kind}")),
        ]
        if kind == "being":
            predicates.append((0.14, (f"SAY {number}", "CONTENT")))
        total = sum(p for p, _ in predicates)
        rules[f"PREDICATE {feature}"] = [(p / total, body) for p, body in predicates]
    return Grammar("SENTENCE", {**rules, **_lexicon()})


def vocabulary() -> tuple[str, ...]:
    """Return the tokens of every text of the grammar: ``<eos>``, then all its words in alphabetical order."""
    return (EOS, *grammar().words)


def load(seed: int = 0, tokens: int = TOKENS) -> Corpus:
    """Draw a text.

    Parameters
    ----------
    seed : int
        Each seed gives another text. The three splits share no random numbers.
    tokens : int
        Smallest number of tokens for training; the last sentence is completed. Validation and test get a
        tenth.

    Returns
    -------
    Corpus
        Its `entropy_rate` is exact; its `split_entropy` is what a perfect model scores on each split.

    Raises
    ------
    ValueError, TypeError
        An argument that is no integer or too small.
    """
    seed, tokens = integer("seed", seed, 0), integer("tokens", tokens)
    splits, entropy = {}, {}
    for split, share in (("train", tokens), ("valid", -(-tokens // 10)), ("test", -(-tokens // 10))):
        splits[split], entropy[split] = _draw(seed, split, share)
    rate = grammar().entropy_rate()
    return Corpus(
        "grammar",
        "word",
        vocabulary(),
        splits,
        rate,
        f"generated from the built-in grammar, seed {seed}",
        entropy,
    )


def _draw(seed: int, split: str, tokens: int) -> tuple[Ids, float]:
    """Return sentences of at least `tokens` tokens, and their mean ``-ln p`` in nats per token."""
    numbers: list[int] = []
    total = 0.0
    source = uniforms("grammar", seed, split)
    while len(numbers) < tokens:
        sentence, surprise = grammar().sample(source)
        # The vocabulary has <eos> before the grammar's words.
        numbers += [word + 1 for word in sentence]
        numbers.append(0)
        total += surprise
    return frozen(np.array(numbers, dtype=np.int32)), total / len(numbers)


def write_text(corpus: Corpus, split: str) -> str:
    """Return a split in the format of Penn Treebank's files: one sentence per line, spaces around words."""
    ids = corpus.splits[split].tolist()
    end = corpus.index[EOS]
    return "".join(" \n" if number == end else f" {corpus.vocabulary[number]}" for number in ids)
