"""NT-ASGD against the algorithm in plain NumPy: the trigger, the averages, saving and loading, `fit`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.optim.optimizers import make_optimizer

LR, DECAY = 0.3, 0.01
#: Validation losses, and the evaluation at which `nonmono` 2 triggers: the fifth, 3.5, is above 3.0, which is
#: the lowest of those before it without the last two. 3.2 is above 3.0 too, but leaves that out.
LOSSES, TRIGGER = (4.0, 3.0, 3.2, 3.1, 3.5, 3.6, 3.3), 4


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "table": rng.standard_normal((7, 3)).astype(np.float32),
        "weight": rng.standard_normal((160, 130)).astype(np.float32),  # more than one thread's share
        "bias": rng.standard_normal(4),
    }


def gradients(step: int, params: dict[str, np.ndarray]) -> dict[str, Any]:
    rng = np.random.default_rng([1, step])
    found: dict[str, Any] = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in params.items()}
    rows = np.sort(rng.choice(7, 3, replace=False))
    found["table"] = SparseRows(rows, found["table"][rows], (7, 3))
    return found


def dense(gradient: Any) -> np.ndarray:
    found: np.ndarray = gradient.to_dense() if isinstance(gradient, SparseRows) else gradient
    return found


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_parameters_trigger_and_averages_are_those_of_the_algorithm(decay: float) -> None:
    params = parameters()
    optimizer = ln.NTASGD(params, LR, nonmono=2, weight_decay=decay)
    truth = {name: array.astype(np.float64) for name, array in params.items()}
    seen: list[dict[str, np.ndarray]] = []
    step, triggers = 0, []
    for number, loss in enumerate(LOSSES):
        for _ in range(5):
            grads = gradients(step, params)
            for name, array in truth.items():
                array -= LR * (0.5 * dense(grads[name]) + decay * array)
            if seen:
                seen.append({name: array.copy() for name, array in truth.items()})
            optimizer.step(grads, scale=0.5)
            step += 1
        if optimizer.end_evaluation(loss):
            triggers.append(number)
            seen = [{name: array.copy() for name, array in truth.items()}]
        assert optimizer.averages.keys() == (params.keys() if number >= TRIGGER else set())
    assert triggers == [TRIGGER]
    assert (optimizer.averaged, optimizer.steps, len(seen)) == (11, 35, 11)
    for name, array in params.items():
        np.testing.assert_allclose(array, truth[name], rtol=2e-5, atol=2e-5)
        mean = np.mean([one[name] for one in seen], axis=0)
        np.testing.assert_allclose(optimizer.averages[name], mean, rtol=2e-5, atol=2e-5)
        assert np.abs(mean - truth[name]).max() > 0.1  # which no tolerance hides


@pytest.mark.parametrize(
    ("nonmono", "losses", "triggers"),
    [
        (0, (3.0, 3.0, 3.1, 3.2), [2]),  # a loss that is as high is none, and there is one trigger only
        (1, (3.0, 3.1, 2.9, 3.05), [3]),  # 2.9 is left out, 3.0 is not
        (5, (9.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0), [7]),  # the first that looks back to 1.0
        (5, (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 8.5), []),  # which looks back to 9.0 alone
    ],
)
def test_the_trigger(nonmono: int, losses: tuple[float, ...], triggers: list[int]) -> None:
    optimizer = ln.NTASGD({"a": np.zeros(2)}, 0.1, nonmono=nonmono)
    assert [n for n, loss in enumerate(losses) if optimizer.end_evaluation(loss)] == triggers
    assert optimizer.losses == [*losses]


@pytest.mark.parametrize("before", [0, 3, TRIGGER + 2], ids=["at once", "before the trigger", "after it"])
def test_saved_and_loaded_it_goes_on_with_the_same_bits(before: int) -> None:
    def train(optimizer: ln.NTASGD, numbers: range) -> None:
        for number in numbers:
            for step in range(3):
                optimizer.step(gradients(3 * number + step, optimizer.params))
            optimizer.end_evaluation(LOSSES[number])

    whole = ln.NTASGD(parameters(), LR, 2)
    train(whole, range(len(LOSSES)))
    first = ln.NTASGD(parameters(), LR, 2)
    train(first, range(before))
    second = ln.NTASGD({name: array.copy() for name, array in first.params.items()}, 0.1, 2)
    second.load_state_dict(first.state_dict())
    train(second, range(before, len(LOSSES)))
    assert whole.averages
    for name, array in whole.averages.items():
        np.testing.assert_array_equal(second.averages[name], array)
        np.testing.assert_array_equal(second.params[name], whole.params[name])
    assert second.history() == whole.history()


def test_averages_are_lent_and_given_back() -> None:
    optimizer = ln.NTASGD(parameters(), LR, 0)
    own = {name: array.copy() for name, array in optimizer.params.items()}
    with optimizer.using_averages():  # there are none
        np.testing.assert_array_equal(optimizer.params["bias"], own["bias"])
    for loss in (1.0, 2.0):
        optimizer.end_evaluation(loss)
    optimizer.step(gradients(0, optimizer.params))
    moved = {name: array.copy() for name, array in optimizer.params.items()}
    with optimizer.using_averages():
        for name, array in optimizer.params.items():
            np.testing.assert_allclose(array, (own[name] + moved[name]) / 2, rtol=1e-5, atol=1e-6)
    for name, array in optimizer.params.items():
        np.testing.assert_array_equal(array, moved[name])


def test_a_step_that_is_not_finite_is_not_averaged() -> None:
    optimizer = ln.NTASGD(parameters(), LR, 0)
    for loss in (1.0, 2.0):
        optimizer.end_evaluation(loss)
    optimizer.step(gradients(0, optimizer.params))
    before = optimizer.state_dict()
    optimizer.step(gradients(1, optimizer.params), scale=math.nan)
    for name, value in optimizer.state_dict().items():
        if name != "steps":
            np.testing.assert_array_equal(value, before[name])


def test_refusals() -> None:
    params = {"a": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match="lr: expected one, NTASGD trains one model, got 2"):
        ln.NTASGD(params, np.array([0.1, 0.2]))
    with pytest.raises((ValueError, TypeError), match=r"nonmono: expected .*, got -1"):
        ln.NTASGD(params, 0.1, nonmono=-1)
    with pytest.raises(ValueError, match="momentum: nt-asgd has none"):
        make_optimizer("nt-asgd", params, 0.1, momentum=0.5)
    optimizer = make_optimizer("nt-asgd", params, 0.1, nonmono=3)
    assert repr(optimizer) == "NTASGD(lr=0.1, nonmono=3)"
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"state: average\.a has no counterpart in NTASGD"):
        optimizer.load_state_dict({**state, "averaged": 2})
    with pytest.raises(ValueError, match="state: expected finite losses and a count"):
        optimizer.load_state_dict({**state, "losses": [math.nan]})
    model = ln.SequenceClassifier(3, 4, 2, seed=0)
    data = (np.zeros((6, 5, 3), np.float32), np.zeros(6, np.int64))
    with pytest.raises(ValueError, match="validation: expected data, which NTASGD needs, got None"):
        ln.fit(model, data, optimizer="nt-asgd", verbose=False)
    many = ln.SequenceClassifier(3, 4, 2, seed=0, models=2)
    with pytest.raises(ValueError, match="lr: expected one, NTASGD trains one model, got 2"):
        ln.fit_models(many, data, validation=data, optimizer="nt-asgd", verbose=False)
    with pytest.raises(ValueError, match="optimizer: NTASGD trains one model, got 2; see fit"):
        ln.fit_models(many, data, validation=data, optimizer=ln.NTASGD(many.params, 0.1), verbose=False)


def test_fit_evaluates_and_leaves_the_averages() -> None:
    rng = np.random.default_rng(3)
    tokens, held = (np.cumsum(rng.integers(1, 3, count)) % 9 for count in (600, 200))
    model = ln.LanguageModel(9, 8, tie=True, seed=1)
    optimizer = ln.NTASGD(model.params, 4.0, nonmono=0)
    options: dict[str, Any] = {"epochs": 8, "batch_size": 4, "bptt": 10, "keep_best": False, "verbose": False}
    history = ln.fit(model, tokens, validation=held, optimizer=optimizer, **options)
    assert optimizer.losses == history["valid_loss"]
    assert 1 < optimizer.averaged < optimizer.steps
    for name, array in optimizer.averages.items():
        np.testing.assert_array_equal(model.params[name], array)
    assert ln.evaluate(model, held, batch_size=4, bptt=10).loss == history["valid_loss"][-1]
