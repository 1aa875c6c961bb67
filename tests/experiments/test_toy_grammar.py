"""What networks believe of the toy grammar: exact numbers by other means, and what the claims say of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_numba import reference
from lstm_numba.data import toy_grammar
from lstm_numba.experiments import toy_grammar as experiment
from lstm_numba.experiments.toy_grammar import IDEAL, ONE_STEP, Found, Network, Part

Array = npt.NDArray[Any]
TRUE = ("Dog scares Cat.", "Cat scares Mouse.", "Mouse scares Dog.")


def part(network: str, updates: int = 60, seed: int = 5) -> Part:
    return Part(network, seed, 16, updates, 0.01, 8, "cpu")


def by_reference(network: Network, texts: Array) -> Array:
    """Probabilities of the token after each text, from the parameters alone."""
    model = network.model
    weights = {name: np.array(model.engine.download(value)) for name, value in model.params.items()}
    x = weights["embedding.weight"][texts]
    rnn = {name[4:]: value for name, value in weights.items() if name.startswith("rnn.")}
    if network.memory:
        y, _ = reference.run(
            model.rnn.plain_cell.key, rnn, x, [np.zeros((1, texts.shape[1], 16))] * _states(model)
        )
        h = y[-1]
    else:
        bias = rnn["bias_ih_l0"] + rnn["bias_hh_l0"]
        h = np.tanh(x[-1] @ rnn["weight_ih_l0"].T + bias)
    scores = np.exp(h @ weights["output.weight"].T + weights["output.bias"])
    found: Array = scores / scores.sum(axis=1, keepdims=True)
    return found


def _states(model: Any) -> int:
    return len(model.rnn.plain_cell.states)


@pytest.mark.parametrize("name", [ONE_STEP, "lstm"])
def test_probabilities_are_those_of_the_equations(name: str) -> None:
    network = Network(part(name))
    texts = np.random.default_rng(0).integers(5, size=(7, 4)).astype(np.int32)
    assert network.following(texts) == pytest.approx(by_reference(network, texts), rel=1e-12)


def test_without_memory_the_last_word_alone_counts() -> None:
    network, rng = Network(part(ONE_STEP)), np.random.default_rng(1)
    texts = rng.integers(5, size=(6, 8)).astype(np.int32)
    others = rng.integers(5, size=(9, 8)).astype(np.int32)
    others[-1] = texts[-1]
    assert np.array_equal(network.following(texts), network.following(others))
    # And it learns from nothing else: a window's gradients are those of its pairs in any order.
    inputs, targets = rng.integers(5, size=(2, 6, 4)).astype(np.int32)
    order = rng.permutation(24)
    found = network.model.loss_and_gradients(network.batch(inputs, targets)).grads["output.weight"].copy()
    shuffled = (a.reshape(-1)[order].reshape(6, 4) for a in (inputs, targets))
    again = network.model.loss_and_gradients(network.batch(*shuffled)).grads["output.weight"]
    assert again == pytest.approx(found, rel=1e-10)
    recurrent = network.model.loss_and_gradients(network.batch(inputs, targets)).grads["rnn.weight_hh_l0"]
    assert not np.any(recurrent)


@pytest.mark.smoke
def test_the_best_network_with_one_step_of_memory() -> None:
    """Its beliefs by hand: a first noun of three, the end or "scares" after each noun, any noun then."""
    found = {row["sentence"]: row[IDEAL] for row in experiment._rows({}, 0.01, 8)}
    nouns = ("Dog", "Cat", "Mouse")
    for noun in nouns:
        assert found[f"{noun}."] == pytest.approx(1 / 6, rel=1e-13)
    for first, second in itertools.product(nouns, repeat=2):
        assert found[f"{first} scares {second}."] == pytest.approx(1 / 36, rel=1e-13)
    assert found["Cat scares Mouse scares Dog."] == pytest.approx(1 / 216, rel=1e-13)
    assert found[experiment.IMPOSSIBLE] == pytest.approx(11 / 12, rel=1e-13)
    assert found[experiment.BELIEVED] == 12
    assert found[experiment.LOSS] == found[experiment.FLOOR] == pytest.approx(math.log(6) / 2, rel=1e-13)


@pytest.mark.parametrize("name", [ONE_STEP, "lstm"])
def test_a_training(name: str) -> None:
    """Its numbers from the trained network's parameters, sentence by sentence, context by context."""
    network, step = Network(part(name)), experiment.train(part(name))
    experiment.learn(network, part(name))
    words = toy_grammar.VOCABULARY
    probabilities, losses = {}, []
    for sentence in (*TRUE, "Dog.", "Dog scares Dog.", "Cat scares Mouse scares Dog."):
        ids = [words.index(word) for word in sentence.replace(".", " .").split()]
        each = []
        for before in itertools.product(TRUE, repeat=2):
            read = [words.index(word) for word in " ".join(before).replace(".", " .").split()]
            logs = []
            for token in ids:
                logs.append(math.log(by_reference(network, np.array(read)[:, None])[0, token]))
                read.append(token)
            each.append(math.exp(sum(logs)))
            if sentence in TRUE:
                losses += [-log for log in logs]
        probabilities[sentence] = np.mean(each)
    for sentence, probability in probabilities.items():
        assert step.asked[sentence] == pytest.approx(probability, rel=1e-9)
    assert step.losses[-1] == pytest.approx(np.mean(losses), rel=1e-9)
    assert (step.updates[0], step.updates[-1]) == (0, 60)
    share = 1 - sum(probabilities[sentence] for sentence in TRUE)
    assert experiment.impossible_share(step.asked) == pytest.approx(share, rel=1e-9)
    assert all(value >= 0.01 for value in step.likely.values())
    # On fresh text it is as good, but for chance: 64 * 62 sentences.
    assert step.fresh == pytest.approx(step.losses[-1], rel=0.05)
    floor = toy_grammar.one_step_entropy()
    assert (min(step.losses) >= floor) == (name == ONE_STEP)


def found(share: float, losses: list[float]) -> Found:
    """Of a network that gives so much to impossible sentences."""
    asked = dict.fromkeys(TRUE, (1 - share) / 3) | {"Dog.": share / 2}
    return Found([0, 10], losses, losses[-1], {}, asked)


@pytest.mark.parametrize(
    ("one_step", "lstm", "held"),
    [
        (found(0.9, [1.6, 0.9]), found(0.01, [1.6, 0.3]), True),
        (found(0.4, [1.6, 0.9]), found(0.01, [1.6, 0.3]), False),  # it does not confuse them
        (found(0.9, [1.6, 0.8]), found(0.01, [1.6, 0.3]), False),  # below what is possible
        (found(0.9, [1.6, 0.9]), found(0.06, [1.6, 0.3]), False),  # it confuses them, too
        (found(0.9, [1.6, 0.9]), found(0.01, [1.6, 0.9]), False),
    ],
)
def test_the_claim(one_step: Found, lstm: Found, held: bool) -> None:
    results = {ONE_STEP: [found(0.91, [1.6, 0.9]), one_step], "lstm": [found(0.0, [1.6, 0.3]), lstm]}
    claim = experiment._main_claim(results)
    assert claim.held is held
    shares = [np.mean([experiment.impossible_share(r.asked) for r in rs]) for rs in results.values()]
    assert all(f"{share:.4g}" in claim.because for share in shares)


def test_rows_are_means_of_the_seeds() -> None:
    rows = experiment._rows({"lstm": [found(0.1, [1.0, 0.5]), found(0.3, [1.0, 0.7])]}, 0.2, 8)
    row = {row["sentence"]: row for row in rows}
    assert row[TRUE[0]]["lstm"] == pytest.approx((0.3 + 0.7 / 3) / 2)
    assert row["Dog."]["lstm"] == pytest.approx(0.1)
    assert (row["Dog."]["possible"], row[TRUE[1]]["possible"]) == (False, True)
    assert row[experiment.IMPOSSIBLE]["lstm"] == pytest.approx(0.2)
    # Student's t of one degree of freedom: 12.706.
    low, high = row[experiment.IMPOSSIBLE]["lstm interval"]
    assert (low, high) == pytest.approx((0.2 - 12.706 * 0.1, 0.2 + 12.706 * 0.1), rel=1e-4)
    assert row[experiment.LOSS]["lstm"] == pytest.approx(0.6)
