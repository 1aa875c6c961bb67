"""The grammar's entropy by four ways that share nothing, and the text that is drawn from it."""

from __future__ import annotations

import heapq
from collections import Counter
from math import prod
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import grammar, ptb
from lstm_numba.data._random import uniforms
from lstm_numba.data.pcfg import Grammar, Rules

#: a^n b^n with a choice of word in the middle: H and L are sums of a geometric series.
NESTED: Rules = {
    "S": [(0.4, ("(", "S", ")")), (0.6, ("M",))],
    "M": [(0.25, ("x",)), (0.75, ("y", "z"))],
}
#: No recursion, a rule that vanishes.
FINITE: Rules = {
    "S": [(0.3, ("A", "A")), (0.5, ("c", "A")), (0.2, ("d",))],
    "A": [(0.5, ("a",)), (0.25, ("b", "E")), (0.25, ("e", "e", "e"))],
    "E": [(0.9, ()), (0.1, ("f",))],
}


def enumerate_sentences(rules: Rules, start: str, least: float) -> tuple[dict[tuple[str, ...], float], int]:
    """Expand leftmost symbols, most probable first, until all derivations above `least` are found.

    Returns the probability of each sentence, and the number of derivations.
    """
    queue: list[tuple[float, int, tuple[str, ...], tuple[str, ...]]] = [(-1.0, 0, (), (start,))]
    sentences: dict[tuple[str, ...], float] = {}
    derivations = serial = 0
    while queue:
        p, _, done, rest = heapq.heappop(queue)
        while rest and rest[0] not in rules:
            done, rest = (*done, rest[0]), rest[1:]
        if not rest:
            sentences[done] = sentences.get(done, 0.0) - p
            derivations += 1
            continue
        for q, body in rules[rest[0]]:
            if -p * q > least:
                serial += 1
                heapq.heappush(queue, (p * q, serial, done, (*body, *rest[1:])))
    return sentences, derivations


def by_enumeration(rules: Rules, start: str, least: float) -> tuple[float, float, float]:
    """Return probability mass, entropy and mean length of the sentences found."""
    sentences, derivations = enumerate_sentences(rules, start, least)
    assert derivations == len(sentences), "a sentence has two derivations"
    p = np.array(list(sentences.values()))
    lengths = np.array([len(sentence) for sentence in sentences])
    return float(p.sum()), float(-(p * np.log(p)).sum()), float((p * lengths).sum())


def partition(rules: Rules, start: str, power: float, mark: float) -> float:
    """Return the sum over all derivations of p^power * mark^length, by iterating its equations.

    Its derivative by `power` at 1 is minus the entropy, by `mark` at 1 the mean length.
    """
    value = dict.fromkeys(rules, 0.0)
    change = 1.0
    while change > 1e-15:
        change = 0.0
        for symbol, choices in rules.items():
            new = sum(p**power * prod(value[x] if x in rules else mark for x in body) for p, body in choices)
            change = max(change, abs(new - value[symbol]))
            value[symbol] = new
    return value[start]


def truncated(rules: Rules) -> Rules:
    """Return the rules cut down to finitely many sentences: few words, modifiers and clauses not nested.

    Primed symbols are those inside a modifier or an object, which have no modifiers of their own.
    """
    out: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
    waiting = ["SENTENCE"]
    while waiting:
        name = waiting.pop()
        if name in out:
            continue
        symbol, inner = name.rstrip("'"), name.endswith("'")
        choices = []
        for p, body in rules[symbol]:
            if set(body) & {"SENTENCE", "CONTENT", "ATTRIBUTE"} or (
                inner and symbol.startswith("MODIFIER") and body
            ):
                continue
            deeper = inner or symbol.startswith(("MODIFIER", "TARGET"))
            choices.append((p, tuple(x + "'" if deeper and x in rules else x for x in body)))
        if all(len(body) == 1 and body[0] not in rules for _, body in choices):
            choices = choices[: 2 if symbol.startswith("NOUN") else 1]
        total = sum(p for p, _ in choices)
        out[name] = [(p / total, body) for p, body in choices]
        waiting += [x for _, body in out[name] for x in body if x.rstrip("'") in rules]
    return out


def test_entropy_of_small_grammars_by_hand() -> None:
    nested = Grammar("S", NESTED)
    depth = 1 / 0.6  # mean visits of S
    own = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    middle = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert nested.sentence_entropy() == pytest.approx(depth * own + middle, rel=1e-14)
    assert nested.sentence_length() == pytest.approx(2 * (depth - 1) + 1.75, rel=1e-14)
    assert nested.entropy_rate() == pytest.approx(
        nested.sentence_entropy() / (nested.sentence_length() + 1), rel=1e-14
    )
    assert nested.visits() == pytest.approx({"S": depth, "M": 1.0})


@pytest.mark.parametrize(("rules", "least"), [(NESTED, 1e-16), (FINITE, 0.0)])
def test_entropy_of_small_grammars_by_enumeration(rules: Rules, least: float) -> None:
    made = Grammar("S", rules)
    mass, entropy, length = by_enumeration(rules, "S", least)
    assert mass == pytest.approx(1.0, abs=1e-12)
    assert made.sentence_entropy() == pytest.approx(entropy, abs=1e-10)
    assert made.sentence_length() == pytest.approx(length, abs=1e-10)


def test_entropy_of_the_truncated_grammar_by_enumeration() -> None:
    """The real rules without recursion: finitely many sentences, each listed; none is found twice."""
    rules = truncated(grammar.grammar().rules)
    made = Grammar("SENTENCE", rules)
    assert not made.conflicts()
    sentences, derivations = enumerate_sentences(rules, "SENTENCE", 0.0)
    assert 10_000 < len(sentences) == derivations
    mass, entropy, length = by_enumeration(rules, "SENTENCE", 0.0)
    assert mass == pytest.approx(1.0, abs=1e-10)
    assert made.sentence_entropy() == pytest.approx(entropy, abs=1e-9)
    assert made.sentence_length() == pytest.approx(length, abs=1e-9)


def test_entropy_of_the_grammar_by_its_partition_function() -> None:
    """All of it, recursion and all: numerical derivatives of sum p^s z^length at s = z = 1."""
    made = grammar.grammar()
    step = 1e-5
    assert partition(made.rules, "SENTENCE", 1.0, 1.0) == pytest.approx(1.0, abs=1e-12)
    up, down = (partition(made.rules, "SENTENCE", 1.0 + d, 1.0) for d in (step, -step))
    assert made.sentence_entropy() == pytest.approx((down - up) / (2 * step), rel=1e-5)
    up, down = (partition(made.rules, "SENTENCE", 1.0, 1.0 + d) for d in (step, -step))
    assert made.sentence_length() == pytest.approx((up - down) / (2 * step), rel=1e-5)


def test_entropy_of_the_grammar_by_sampling() -> None:
    """The mean surprise of 20000 sentences, and the mean length, within four standard errors."""
    made = grammar.grammar()
    source = uniforms("sampling", 3)
    drawn = [made.sample(source) for _ in range(20_000)]
    for numbers, mean in (
        ([surprise for _, surprise in drawn], made.sentence_entropy()),
        ([float(len(sentence)) for sentence, _ in drawn], made.sentence_length()),
    ):
        assert abs(np.mean(numbers) - mean) < 4 * np.std(numbers) / np.sqrt(len(numbers))


@pytest.mark.smoke
def test_the_published_numbers() -> None:
    """The Perplexities in the README stand beside this one: another grammar is another data set."""
    made = grammar.grammar()
    assert made.entropy_rate() == pytest.approx(2.585747706916555, rel=1e-12)
    assert len(grammar.vocabulary()) == 249


def test_the_grammar_is_unambiguous() -> None:
    assert grammar.grammar().conflicts() == []
    twice = {"S": [(0.5, ("S", "S")), (0.5, ("a",))]}
    with pytest.raises(ValueError, match="infinitely long"):
        Grammar("S", twice)
    assert Grammar("S", {"S": [(0.4, ("S", "S")), (0.6, ("a",))]}).conflicts()
    # Left factors, and a word that may follow a symbol that may vanish.
    assert Grammar("S", {"S": [(0.5, ("a", "b")), (0.5, ("a", "c"))]}).conflicts()
    vanishing: Rules = {"S": [(1.0, ("A", "a"))], "A": [(0.5, ()), (0.5, ("a",))]}
    assert "take 'a'" in Grammar("S", vanishing).conflicts()[0]


def test_reading_finds_the_probability_of_the_drawing() -> None:
    """A sentence drawn with its probability, then read from its words alone, gives the same probability."""
    made = grammar.grammar()
    source = uniforms("reading", 1)
    for _ in range(300):
        sentence, surprise = made.sample(source)
        assert made.surprise([made.words[i] for i in sentence]) == pytest.approx(surprise, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "the lamps glow",
        "this lamp glows",
        "the lamps near this singer who the pilots admire glow",
        "if the singer says `` either the bells hum or this king sleeps '' then two wheels glow",
        "each nurse who sees herself knows that the lamps which hide themselves are broken",
    ],
)
def test_sentences_of_the_grammar(text: str) -> None:
    assert 0 < grammar.grammar().surprise(text.split()) < 100


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the lamps near this singer who the pilots admire glows", 9),  # the first noun's number
        ("the lamps near this singer who the pilots admire sleep", 9),  # things do not sleep
        ("the singer which sleeps waits", 2),
        ("if the bells hum", 4),
        ("the singer says `` the bells hum", 7),
        ("the king sees themselves", 3),
        ("the lamps glow glow", 3),
        ("", 0),
    ],
)
def test_what_is_no_sentence_of_the_grammar(text: str, word: int) -> None:
    with pytest.raises(ValueError, match=f"sentence: word {word} "):
        grammar.grammar().surprise(text.split())


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"S": [(0.5, ("a",)), (0.4, ("b",))]}, "probabilities of 'S' must be positive and sum to 1"),
        ({"S": [(1.5, ("a",)), (-0.5, ("b",))]}, "probabilities of 'S'"),
        ({"S": []}, "probabilities of 'S'"),
        ({"S": [(1.0, ("a",))], "T": [(1.0, ("b",))]}, "'T' is never reached from 'S'"),
        ({"S": [(1.0, ("S",))]}, "infinitely long"),
        ({"T": [(1.0, ("a",))]}, "start: expected a symbol with rules, got 'S'"),
    ],
)
def test_bad_rules(rules: Rules, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Grammar("S", rules)


# The text


@pytest.fixture(scope="module")
def corpus() -> Any:
    return grammar.load(seed=4, tokens=30_000)


def test_corpus(corpus: Any) -> None:
    assert (corpus.name, corpus.level) == ("grammar", "word")
    assert corpus.vocabulary == ("<eos>", *sorted(corpus.vocabulary[1:]))
    assert len(set(corpus.vocabulary)) == len(corpus.vocabulary)
    assert corpus.entropy_rate == grammar.grammar().entropy_rate()
    for split, least in (("train", 30_000), ("valid", 3_000), ("test", 3_000)):
        ids = corpus.splits[split]
        assert ids.dtype == np.int32
        assert least <= len(ids) < least + 300
        assert ids[-1] == 0
        assert 0 not in ids[np.flatnonzero(ids == 0)[:-1] + 1]  # no empty sentence
    assert set(np.unique(corpus.splits["train"])) == set(range(len(corpus.vocabulary)))


def test_split_entropy_is_the_perfect_models_loss(corpus: Any) -> None:
    """Read every sentence of a split by the grammar; ``<eos>`` costs nothing, it is certain when it comes."""
    for split in ("valid", "test"):
        lines = corpus.decode(corpus.splits[split]).split("\n")
        assert lines.pop() == ""
        total = sum(grammar.grammar().surprise(line.split()) for line in lines)
        tokens = sum(len(line.split()) + 1 for line in lines)
        assert tokens == len(corpus.splits[split])
        assert corpus.split_entropy[split] == pytest.approx(total / tokens, rel=1e-12)
        assert abs(corpus.split_entropy[split] - corpus.entropy_rate) < 0.1


def test_no_simple_model_is_below_the_entropy(corpus: Any) -> None:
    """Counts of pairs learn much, but what lies further back they cannot know."""
    train, test = corpus.splits["train"], corpus.splits["test"]
    words = len(corpus.vocabulary)
    single = np.bincount(train, minlength=words) + 1.0
    pairs = np.full((words, words), 0.05)
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    loss_1 = -np.log(single[test[1:]] / single.sum()).mean()
    loss_2 = -np.log((pairs / pairs.sum(axis=1, keepdims=True))[test[:-1], test[1:]]).mean()
    assert loss_1 > loss_2 + 1.0 > corpus.split_entropy["test"] + 1.3


def test_seeds_and_splits_differ_and_repeat(corpus: Any) -> None:
    again = grammar.load(seed=4, tokens=30_000)
    other = grammar.load(seed=5, tokens=30_000)
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(again.splits[split], corpus.splits[split])
        assert not np.array_equal(other.splits[split][:500], corpus.splits[split][:500])
    assert not np.array_equal(corpus.splits["valid"][:500], corpus.splits["test"][:500])
    # More tokens go on with the same text.
    more = grammar.load(seed=4, tokens=40_000)
    np.testing.assert_array_equal(more.splits["train"][: len(corpus.splits["train"])], corpus.splits["train"])


def test_the_same_for_ever() -> None:
    text = grammar.load(tokens=100)
    assert (
        text.decode(text.splits["train"][:14])
        == "the small painter is happy\nevery pilot is happy\nthese pilots sleep"
    )


def test_long_range_agreement_happens(corpus: Any) -> None:
    """Between a noun and its verb often lie many words, and clauses open within clauses."""
    lines = corpus.decode(corpus.splits["train"]).split("\n")
    depth = Counter(line.split().count("who") + line.split().count("which") for line in lines)
    assert depth[2] > 100
    assert depth[3] > 20
    for first, second in (("if", "then"), ("either", "or"), ("``", "''")):
        nested = 0
        for line in lines:
            opened = 0
            for word in line.split():
                opened += (word == first) - (word == second)
                assert opened >= 0
                nested += opened > 1
            assert opened == 0
        assert nested > 0


def test_penn_treebanks_form(corpus: Any, tmp_path: Any) -> None:
    """Written as text and read as any other words, it is the same text."""
    paths = {}
    for split in ("train", "valid", "test"):
        paths[split] = tmp_path / f"{split}.txt"
        paths[split].write_text(grammar.write_text(corpus, split), encoding="utf-8")
    read = ptb.read_splits(**paths)
    assert set(read.vocabulary) == set(corpus.vocabulary)
    for split in paths:
        assert read.decode(read.splits[split]) == corpus.decode(corpus.splits[split])
    first = paths["test"].read_text(encoding="utf-8").split("\n")[0]
    assert first.startswith(" ")
    assert first.endswith(" ")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"tokens": 0}, ValueError, "tokens: expected an integer >= 1, got 0"),
        ({"tokens": 1.5}, TypeError, "tokens: expected an integer, got float"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        grammar.load(**arguments)
