"""Many sequence models at once: losses, gradients and updates are each one's own, to the bit."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.nn.linear import Linear
from lstm_numba.optim.optimizers import Adam, make_optimizer
from lstm_numba.training.step import TrainingStep

MODELS, STEPS, BATCH, INPUTS = 4, 6, 5, 3
RATES = np.array([0.1, 0.01, 0.05, 0.02])

#: A model, labels of one of them, and what else the batches have.
KINDS: dict[str, tuple[type, dict[str, Any], tuple[int, ...], str]] = {
    "classes": (SequenceClassifier, {"classes": 3}, (BATCH,), ""),
    "classes, dropout": (
        SequenceClassifier,
        {"classes": 3, "cell": "gru", "layers": 2, "bidirectional": True, "dropout": 0.3, "init_range": 0.1},
        (BATCH,),
        "lengths",
    ),
    "numbers": (SequenceRegressor, {"outputs": 2, "forget_bias": 1.0}, (BATCH, 2), "shared"),
    "numbers of each step": (
        SequenceRegressor,
        {"outputs": 2, "per_step": True, "loss": "gaussian"},
        (STEPS, BATCH, 2),
        "lengths weights",
    ),
    "quantiles": (SequenceRegressor, {"outputs": 1, "loss": "quantile"}, (BATCH, 1), "weights"),
}
#: Optimizers, and their options.
RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sgd momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"weight_decay": 0.01},
    "adamw": {"weight_decay": 0.01},
    "rmsprop": {"momentum": 0.9},
}


def batch_of(rng: np.random.Generator, kind: type, shape: tuple[int, ...], more: str) -> SequenceBatch:
    lead = () if "shared" in more else (MODELS,)
    x = rng.standard_normal((*lead, STEPS, BATCH, INPUTS)).astype(np.float32)
    size = (*lead, *shape)
    labels = rng.integers(0, 3, size) if kind is SequenceClassifier else rng.normal(size=size)
    lengths = rng.integers(1, STEPS + 1, (MODELS, BATCH)) if "lengths" in more else None
    weights = rng.random((*lead, *(shape[:2] if len(shape) > 2 else (BATCH,)))) if "weights" in more else None
    return SequenceBatch(x, labels, lengths, weights)


def of_model(batch: SequenceBatch, n: int) -> SequenceBatch:
    return batch if batch.x.ndim == 3 else SequenceBatch(*(None if one is None else one[n] for one in batch))


def same_parameters(many: Any, alone: list[Any]) -> None:
    for n, one in enumerate(alone):
        for name, value in one.params.items():
            assert np.array_equal(many.params[name][n], value), (n, name)


@pytest.mark.parametrize(("kind", "options", "shape", "more"), KINDS.values(), ids=KINDS)
def test_a_training_is_that_of_each_alone(
    kind: type, options: dict[str, Any], shape: tuple[int, ...], more: str
) -> None:
    rng = np.random.default_rng(1)
    many = kind(INPUTS, 7, seed=10, models=MODELS, **options)
    alone = [kind(INPUTS, 7, seed=10 + n, **options) for n in range(MODELS)]
    together = TrainingStep(many, Adam(many.params, RATES), 0.5, 0.05)
    apart = [TrainingStep(one, Adam(one.params, RATES[n]), 0.5, 0.05) for n, one in enumerate(alone)]
    same_parameters(many, alone)
    clipped = []
    for number in range(1, 4):
        batch = batch_of(rng, kind, shape, more)
        numba.set_num_threads(2)
        result = together(batch, None, RATES / number)
        numba.set_num_threads(1)
        for n, step in enumerate(apart):
            own = step(of_model(batch, n), None, RATES[n] / number)
            for index in range(4):  # loss, correct, norm, factor
                assert result.number(index)[n] == own.number(index)
            assert result.objective[n] == own.objective
            clipped.append(own.number(3) < 1)
        same_parameters(many, alone)
    assert any(clipped)
    evaluated = many.evaluate(batch)
    for n, one in enumerate(alone):
        own = one.evaluate(of_model(batch, n))
        assert (evaluated.loss_sum[n], evaluated.correct[n]) == (own.loss_sum, own.correct)
        assert np.array_equal(many.scores(batch.x)[n], one.scores(of_model(batch, n).x))
        assert many.model(n).config() == one.config()


@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer(rule: str) -> None:
    """With a rate for each model, a model that misses a step, and one whose gradient is not finite."""
    rng, options = np.random.default_rng(2), RULES[rule]
    params = {
        "a": rng.standard_normal((MODELS, 5, 3)).astype(np.float32),
        "b": rng.standard_normal((MODELS, 2)),
    }
    alone = [{name: value[n].copy() for name, value in params.items()} for n in range(MODELS)]
    together = make_optimizer(rule.split()[0], params, RATES, **options)
    apart = [make_optimizer(rule.split()[0], one, RATES[n], **options) for n, one in enumerate(alone)]
    for number in range(4):
        grads = {name: rng.standard_normal(value.shape).astype(value.dtype) for name, value in params.items()}
        taking = np.arange(MODELS) != number
        factors = np.where(taking, 0.5 + rng.random(MODELS), np.nan)
        together.update(grads, factors, together.begin_step(taking=taking))
        for n in np.flatnonzero(taking):
            apart[n].step({name: value[n] for name, value in grads.items()}, scale=factors[n])
    for n, one in enumerate(alone):
        for name, value in one.items():
            assert np.array_equal(params[name][n], value), (n, name)
    some = together.select([3, 1], {name: value[[3, 1]] for name, value in params.items()})
    grads = {name: np.ones_like(value) for name, value in some.params.items()}
    some.step(grads)
    apart[3].step({name: value[0] for name, value in grads.items()})
    for name, value in alone[3].items():
        assert np.array_equal(some.params[name][0], value)
    state = together.state_dict()
    again = make_optimizer(rule.split()[0], params, RATES, **options)
    again.load_state_dict(state)
    assert np.array_equal(again.steps, together.steps)


def test_a_model_that_diverges_stops_alone() -> None:
    many = SequenceRegressor(INPUTS, 4, outputs=1, seed=0, models=3)
    before = {name: value.copy() for name, value in many.params.items()}
    x = np.ones((3, STEPS, BATCH, INPUTS), np.float32)
    labels = np.ones((3, BATCH, 1))
    labels[1, 2] = 1e308
    result = TrainingStep(many, Adam(many.params, 0.1), None, 1.0)(SequenceBatch(x, labels), None, 0.1)
    assert np.isfinite(result.loss_sum).tolist() == [True, False, True]
    for name, value in many.params.items():
        changed = [not np.array_equal(value[n], before[name][n]) for n in range(3)]
        assert changed == [True, False, True], name


def test_clipping_by_the_norm_of_each_model() -> None:
    rng = np.random.default_rng(4)
    grads = {"a": rng.standard_normal((3, 4, 2)), "b": rng.standard_normal((3, 5))}
    grads["a"][1] *= 100
    found = ln.clip_norm(grads, 4.0, models=3)
    for n in range(3):
        own = ln.clip_norm({name: value[n] for name, value in grads.items()}, 4.0)
        assert (found.norm[n], found.scale[n]) == own
    assert found.scale[0] == 1 > found.scale[1]


def test_linear_layers() -> None:
    rngs = [np.random.default_rng(n) for n in range(3)]
    many = Linear(4, 2, rng=rngs)
    rng = np.random.default_rng(9)
    x, dy = (rng.standard_normal((3, 70, width)).astype(np.float32) for width in (4, 2))
    y, (dx, grads) = many.forward(x), many.backward(x, dy)
    for n in range(3):
        one = Linear(4, 2, rng=np.random.default_rng(n))
        own_dx, own = one.backward(x[n], dy[n])
        assert np.array_equal(y[n], one.forward(x[n]))
        assert np.array_equal(dx[n], own_dx)
        assert all(np.array_equal(grads[name][n], own[name]) for name in own)
    assert repr(many) == "Linear(4, 2, models=3, dtype=float32)"
    with pytest.raises(ValueError, match=r"x: expected shape \(3, N, 4\), got \(70, 4\)"):
        many.forward(x[0])


def test_some_and_one_of_many() -> None:
    many = SequenceClassifier(INPUTS, 5, classes=2, seed=0, models=3, dropout=0.5)
    some, one = many.select([2, 0]), many.model(1)
    one.params["output.bias"][...] = 3
    assert np.all(many.params["output.bias"][1] == 3)
    some.params["output.weight"][...] = 0
    assert np.all(many.params["output.weight"] != 0)
    assert (some.models, one.models, some.config()["models"]) == (2, None, 2)
    assert "models" not in one.config()
    again = SequenceClassifier.from_config(many.config(), seed=5)
    again.load_params(many.params)
    again.set_rng_state(many.rng_state())
    x = np.random.default_rng(1).standard_normal((3, STEPS, BATCH, INPUTS)).astype(np.float32)
    batch = SequenceBatch(x, np.zeros((3, BATCH), int))
    assert np.array_equal(again.loss_and_gradients(batch).loss_sum, many.loss_and_gradients(batch).loss_sum)
