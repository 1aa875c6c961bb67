"""One step of memory against many: which sentences of a toy grammar networks believe in.

The text is `lstm_numba.data.toy_grammar`: "Dog scares Cat. Cat scares Mouse. Mouse scares Dog." in random
order. All networks are the same language model: an embedding, a layer, a softmax over the words. The one with
one step of memory is the plain RNN whose state is zero before every word, so that its layer is
``tanh(W x + b)`` of the last word; all that tells it from the RNN is memory. All are trained on the same
windows by the same updates.

Sentences' probabilities are exact (`lstm_numba.experiments.beliefs`), in the mean over all texts of
`CONTEXT` sentences that may stand before. So are the losses; the one on fresh text is measured beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import load_cell
from lstm_numba.data import ContiguousBatches, toy_grammar
from lstm_numba.experiments import intervals, workers
from lstm_numba.experiments.beliefs import (
    Array,
    Tokens,
    expected_loss,
    likely_sentences,
    sentence_probability,
)
from lstm_numba.experiments.outcome import Claim, Outcome, Progress
from lstm_numba.models import LanguageModel, TokenBatch
from lstm_numba.nn.losses import softmax
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training.step import TrainingStep

#: Name of the network that sees the last word only.
ONE_STEP = "one-step"
#: The best network of this kind, by its formula.
IDEAL = "one-step ideal"
#: Rows of the table beside sentences.
IMPOSSIBLE = "all impossible sentences"
BELIEVED = "sentences it considers likely"
LOSS, FRESH = "loss, nats per token", "loss on fresh text"
FLOOR = "lower bound for its memory"
#: Sentences that stand before the one whose probability is asked for.
CONTEXT = 2
#: Impossible sentences that are always in the table.
NOTABLE = ((0, 3, 0, 4), (1, 3, 2, 3, 0, 4), (0, 4))  # Dog scares Dog. Cat scares Mouse scares Dog. Dog.
#: Share of impossible sentences above which a network confuses them, and below which it does not.
CONFUSED, CLEAR = 0.5, 0.05

_BATCH, _WINDOW = 16, 24
_RATE = 0.01  # of Adam, falling to 0 on a straight line
_EVALUATIONS = 40  # of the loss, in a training
_FRESH = 64, 256  # streams and tokens of each


class Part(NamedTuple):
    """A training: what is needed to do it in another process."""

    network: str
    seed: int
    hidden: int
    updates: int
    threshold: float
    length: int
    device: str


class Found(NamedTuple):
    """What a training found; `losses` are by update, from none on."""

    updates: list[int]
    losses: list[float]
    fresh: float
    likely: dict[str, float]
    asked: dict[str, float]


def run(
    *,
    cells: Sequence[str] = ("rnn", "lstm", "gru"),
    hidden: int = 16,
    updates: int = 1500,
    seeds: int = 3,
    threshold: float = 0.01,
    length: int = 8,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Outcome:
    """Train a network with one step of memory and recurrent ones, and compare what they believe in.

    Parameters
    ----------
    cells : sequence of str
        Recurrent networks, as `lstm_numba.make_layer` names cells.
    hidden : int
        Hidden units, and numbers that stand for a word.
    updates : int
        Of the parameters.
    seeds : int
        Repetitions, each with its own text and weights.
    threshold : float
        Least probability of a sentence that a network believes in.
    length : int
        Most tokens of such a sentence, with its full stop.
    seed : int
    device : {"cpu", "cuda"}
    progress : callable, optional

    Returns
    -------
    Outcome
        A row for each sentence and for each total, a column for each network: means over the seeds.
    """
    networks = [ONE_STEP, *dict.fromkeys(cells)]
    parts = [
        Part(network, 1000 * seed + k, hidden, updates, threshold, length, device)
        for k in range(seeds)  # neighbours are different cells, which no two processes compile at once
        for network in reversed(networks)
    ]
    results = workers.run_parts(
        train,
        parts,
        progress,
        workers=1 if device == "cuda" else None,
        label=lambda part: f"{part.network}, seed {part.seed}",
    )
    found: dict[str, list[Found]] = {network: [] for network in networks}
    for part, result in zip(parts, results, strict=True):
        found[part.network].append(result)
    settings = {"cells": list(networks[1:]), "hidden": hidden, "updates": updates, "seeds": seeds}
    settings |= {"threshold": threshold, "length": length, "seed": seed, "device": device}
    return Outcome(
        "toy-grammar",
        settings,
        ("sentence", "possible", IDEAL, *networks),
        _rows(found, threshold, length),
        _series(found),
        [*(_claim(network, results) for network, results in found.items()), _main_claim(found)],
    )


# -- a training ------------------------------------------------------------------------------------------


def contexts() -> Tokens:
    """All texts of `CONTEXT` sentences, (T, N)."""
    texts = [sum(chosen, ()) for chosen in itertools.product(toy_grammar.SENTENCES, repeat=CONTEXT)]
    return np.array(texts, np.int32).T


class Network:
    """A language model that may be kept from remembering.

    Parameters
    ----------
    part : Part
    """

    def __init__(self, part: Part) -> None:
        self.memory = part.network != ONE_STEP
        if ":" in part.network:
            load_cell(part.network)
        self.model = LanguageModel(
            len(toy_grammar.VOCABULARY),
            part.hidden,
            cell=part.network if self.memory else "rnn",
            seed=part.seed,
            device=part.device,
            dtype=np.float64,
        )

    def following(self, texts: Tokens) -> Array:
        """Probabilities of the token after each text (T, N), as (N, V)."""
        logits, _ = self.model.next_logits(texts if self.memory else texts[-1:])
        return softmax(logits)

    def batch(self, inputs: Tokens, targets: Tokens) -> TokenBatch:
        """A window (T, B); without memory as windows of one step, which all begin with the state zero."""
        shape = inputs.shape if self.memory else (1, inputs.size)
        return TokenBatch(inputs.reshape(shape), targets.reshape(shape))

    def loss(self) -> float:
        """Exact mean loss of a token of the sentence after `contexts`."""
        return expected_loss(self.following, contexts(), toy_grammar.SENTENCES)

    def fresh_loss(self, seed: int) -> float:
        """Mean loss of a token of a text that was not trained on, from the sentence after `CONTEXT` on."""
        streams, tokens = _FRESH
        ids = toy_grammar.load(seed, streams * tokens // 4, split="fresh").reshape(streams, tokens).T
        first = 4 * CONTEXT
        state = self.model.next_logits(ids[: first - 1])[1] if self.memory else None
        result = self.model.evaluate(self.batch(ids[first - 1 : -1], ids[first:]), state)
        return result.loss_sum / result.count


def train(part: Part) -> Found:
    """Train a network on a text of its own and ask it for its sentences."""
    network = Network(part)
    updates, losses = learn(network, part)
    likely = likely_sentences(network.following, contexts(), toy_grammar.STOP, part.threshold, part.length)
    asked = {
        toy_grammar.text(one): sentence_probability(network.following, contexts(), one)
        for one in catalogue(part.threshold, part.length)
    }
    named = {toy_grammar.text(one): probability for one, probability in likely.items()}
    return Found(updates, losses, network.fresh_loss(part.seed), named, asked)


def learn(network: Network, part: Part) -> tuple[list[int], list[float]]:
    """All updates of a training, and the exact loss after some of them."""
    asked = set(np.geomspace(1, part.updates, _EVALUATIONS).round().astype(int).tolist())
    optimizer = make_optimizer("adam", network.model.params, _RATE)
    step = TrainingStep(network.model, optimizer, carries_state=network.memory)
    sentences = _BATCH * (part.updates * _WINDOW // 4 + 1)
    windows = ContiguousBatches(toy_grammar.load(part.seed, sentences), _BATCH, _WINDOW)
    updates, losses, state = [0], [network.loss()], None
    for update in range(1, part.updates + 1):
        rate = _RATE * (1 - (update - 1) / part.updates)
        result = step(network.batch(*windows.window(update - 1)), state, rate)
        state = result.state if network.memory else None
        if update in asked:
            updates.append(update)
            losses.append(network.loss())
    return updates, losses


# -- what is told of them --------------------------------------------------------------------------------


def ideal_following(texts: Tokens) -> Array:
    """What is to be expected after each text by whoever knows its last token only: the best such network."""
    pairs = toy_grammar.pair_probabilities()
    return (pairs / pairs.sum(axis=1, keepdims=True))[texts[-1]]


def catalogue(threshold: float, length: int) -> list[tuple[int, ...]]:
    """Sentences that every network is asked for: possible ones first, then those that the best network with
    one step of memory believes in, and `NOTABLE` ones.
    """
    likely = likely_sentences(ideal_following, contexts(), toy_grammar.STOP, threshold, length)
    return list(dict.fromkeys([*toy_grammar.SENTENCES, *likely, *NOTABLE]))


def impossible_share(probabilities: Mapping[str, float]) -> float:
    """Probability of all sentences that the grammar does not have."""
    return 1.0 - sum(probabilities[toy_grammar.text(one)] for one in toy_grammar.SENTENCES)


def _rows(found: Mapping[str, list[Found]], threshold: float, length: int) -> list[dict[str, Any]]:
    """Sentences, the likeliest for the best network with one step of memory first; then totals."""
    ideal = {
        toy_grammar.text(one): sentence_probability(ideal_following, contexts(), one)
        for one in catalogue(threshold, length)
    }
    true = [toy_grammar.text(one) for one in toy_grammar.SENTENCES]
    more = dict.fromkeys(one for results in found.values() for r in results for one in r.likely)
    rows = []
    for one in [*ideal, *(one for one in more if one not in ideal)]:
        row = {"sentence": one, "possible": one in true, IDEAL: ideal.get(one)}
        rows.append(row | _means(found, partial(_belief, one)))
    total = {"sentence": IMPOSSIBLE, "possible": False, IDEAL: impossible_share(ideal)}
    rows.append(total | _means(found, lambda r: impossible_share(r.asked)))
    believed = sum(value >= threshold for value in ideal.values())
    for name, best, measure in (
        (BELIEVED, believed, lambda r: len(r.likely)),
        (LOSS, toy_grammar.one_step_entropy(), lambda r: r.losses[-1]),
        (FRESH, None, lambda r: r.fresh),
    ):
        rows.append({"sentence": name, "possible": None, IDEAL: best} | _means(found, measure))
    floors = {name: _floor(name) for name in found}
    return [*rows, {"sentence": FLOOR, "possible": None, IDEAL: _floor(ONE_STEP), **floors}]


def _belief(sentence: str, found: Found) -> float:
    """Probability of a sentence; 0 of one that was not asked for and is below the threshold."""
    return found.asked.get(sentence, found.likely.get(sentence, 0.0))


def _means(found: Mapping[str, list[Found]], measure: Callable[[Found], float]) -> dict[str, Any]:
    """The mean of a measure of each network, and the ends of its interval of 95 %."""
    row: dict[str, Any] = {}
    for name, results in found.items():
        interval = intervals.mean([measure(result) for result in results])
        row[name] = interval.estimate
        row[f"{name} interval"] = [interval.low, interval.high] if len(results) > 1 else None
    return row


def _floor(network: str) -> float:
    """Lowest loss that a network's memory allows."""
    return toy_grammar.one_step_entropy() if network == ONE_STEP else toy_grammar.entropy_rate()


def _series(found: Mapping[str, list[Found]]) -> dict[str, Any]:
    """Curves of the loss, and the floors."""
    return {
        "updates": next(iter(found.values()))[0].updates,
        "losses": {name: [result.losses for result in results] for name, results in found.items()},
        "floors": {"one step": toy_grammar.one_step_entropy(), "all": toy_grammar.entropy_rate()},
    }


def _claim(name: str, results: Sequence[Found]) -> Claim:
    """Whether a network confuses the sentences, as is to be expected of its memory."""
    shares = [impossible_share(result.asked) for result in results]
    last, lowest = [r.losses[-1] for r in results], min(min(r.losses) for r in results)
    floor, share = toy_grammar.one_step_entropy(), intervals.mean(shares).estimate
    if name == ONE_STEP:
        text = (
            f"one step of memory gives impossible sentences more than {CONFUSED:.0%}, and its loss is never "
            f"below {floor:.4f} nats per token"
        )
        held = min(shares) > CONFUSED and lowest >= floor - 1e-12
        because = f"lowest loss {lowest:.4f}"
    else:
        text = (
            f"{name} gives impossible sentences less than {CLEAR:.0%}, and its loss falls below {floor:.4f}"
        )
        held = max(shares) < CLEAR and max(last) < floor
        because = f"loss {intervals.mean(last).estimate:.4f}, lowest possible {_floor(name):.4f}"
    seeds = f", {len(results)} seeds" if len(results) > 1 else ""
    return Claim(text, held, f"share {share:.4g}, {min(shares):.4g} to {max(shares):.4g}{seeds}; {because}")


def _main_claim(found: Mapping[str, list[Found]]) -> Claim:
    """The claim of the texts, of all networks."""
    others = [name for name in found if name != ONE_STEP]
    shares = {
        name: intervals.mean([impossible_share(r.asked) for r in rs]).estimate for name, rs in found.items()
    }
    names = " and ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
    return Claim(
        f"a network with one step of memory confuses these sentences, {names} do not",
        all(_claim(name, results).held for name, results in found.items()),
        "probability of impossible sentences: "
        + ", ".join(f"{n} {share:.4g}" for n, share in shares.items()),
    )
