"""Training many models at once: each one's history and end are those of a training alone."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.errors import TrainingDiverged
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.training.model_batches import stacked

rng = np.random.default_rng(1)
X = rng.standard_normal((40, 6, 3)).astype(np.float32)
Y = (X[:, :, 0].sum(axis=1) > 0).astype(int)
HELD = rng.standard_normal((23, 6, 3)).astype(np.float32), rng.integers(0, 2, 23)

TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 4},
    "early stopping": {"epochs": 40, "validation": HELD, "patience": 2, "lr": 0.05},
    "plateau": {"epochs": 14, "schedule": "plateau", "optimizer": "sgd", "lr": 8.0, "clip": None},
}


def classifier(seed: int, **options: Any) -> SequenceClassifier:
    return SequenceClassifier(3, 6, classes=2, seed=seed, **options)


@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_each_model_is_trained_as_alone(options: dict[str, Any]) -> None:
    numba.set_num_threads(1)
    many = classifier(5, models=3, dropout=0.2)
    histories = ln.fit_models(many, (X, Y), seed=7, verbose=False, batch_size=16, **options)
    for n, history in enumerate(histories):
        one = classifier(5 + n, dropout=0.2)
        alone = ln.fit(one, (X, Y), seed=7 + n, verbose=False, batch_size=16, **options)
        for name in set(alone) - {"seconds"}:
            assert history[name] == alone[name], name
        assert (history.best_epoch, history.stopped_early) == (alone.best_epoch, alone.stopped_early)
        for name, value in one.params.items():
            assert np.array_equal(many.params[name][n], value), name
    if "schedule" in options:
        courses = {tuple(history["lr"]) for history in histories}
        assert len(courses) > 1, "all rates went down together, or not at all"
    if "patience" in options:
        assert len({len(history.epochs) for history in histories}) > 1, "all ended together"
        assert all(history.stopped_early for history in histories)


def test_data_and_rates_of_each_model() -> None:
    """Of other numbers and lengths of sequences: equal to rounding, as padding may divide sums otherwise."""
    ragged = [series[: 2 + n % 5] for n, series in enumerate(X[:17])]
    data = [(X, Y), (ragged, Y[:17]), (X[:9], Y[:9])]
    rates, order = [0.01, 0.02, 0.05], [3, 1, 2]
    many = classifier(5, models=3)
    histories = ln.fit_models(many, data, seed=order, lr=rates, verbose=False, batch_size=16, epochs=3)
    results = ln.evaluate_models(many, data, batch_size=7)
    for n, own in enumerate(data):
        one = classifier(5 + n)
        alone = ln.fit(one, own, seed=order[n], lr=rates[n], verbose=False, batch_size=16, epochs=3)
        np.testing.assert_allclose(histories[n]["loss"], alone["loss"], rtol=1e-6)
        np.testing.assert_allclose(results[n], ln.evaluate(one, own, batch_size=7), rtol=1e-6)
        for name, value in one.params.items():
            np.testing.assert_allclose(many.params[name][n], value, atol=1e-6)


def test_a_model_that_is_done_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later steps are of the others alone."""
    many, counts = classifier(5, models=3), []
    learn = SequenceClassifier.learn

    def counted(self: Any, placed: Any, state: Any = None) -> Any:
        counts.append(self.models)
        return learn(self, placed, state)

    monkeypatch.setattr(SequenceClassifier, "learn", counted)
    histories = ln.fit_models(
        many, (X, Y), validation=HELD, patience=2, epochs=40, lr=0.05, verbose=False, batch_size=40
    )
    assert sum(counts) == sum(len(history.epochs) for history in histories)
    assert counts == sorted(counts, reverse=True)


def test_a_model_that_diverges_is_named_and_others_go_on() -> None:
    numbers = X[:, 0, :1].astype(float)
    bad = numbers.copy()
    bad[3] = 1e308
    many = SequenceRegressor(3, 4, outputs=1, seed=0, models=3)
    first = {name: value.copy() for name, value in many.params.items()}
    with pytest.raises(TrainingDiverged, match=r"of 1 model in 3; model 1 in epoch 1: the loss is inf"):
        ln.fit_models(many, [(X, numbers), (X, bad), (X, numbers)], verbose=False, epochs=3, batch_size=40)
    alone = SequenceRegressor(3, 4, outputs=1, seed=2)
    numba.set_num_threads(1)
    ln.fit(alone, (X, numbers), seed=2, verbose=False, epochs=3, batch_size=40)
    for name, value in many.params.items():
        assert np.array_equal(value[1], first[name][1]), name
        assert np.array_equal(value[2], alone.params[name]), name


def test_a_model_that_diverged_learns_no_more() -> None:
    """As alone, where the training ends at that step."""
    numba.set_num_threads(1)
    bad = X[:, 0, :1].astype(float)
    bad[3] = 1e308
    many, alone = (SequenceRegressor(3, 4, outputs=1, seed=0, models=n) for n in (1, None))
    for function, model in ((ln.fit_models, many), (ln.fit, alone)):
        with pytest.raises(TrainingDiverged):
            function(model, (X, bad), verbose=False, epochs=3, batch_size=5)
    for name, value in alone.params.items():
        assert np.array_equal(many.params[name][0], value), name


def test_callbacks_see_all_histories_and_can_stop() -> None:
    seen = []

    def stop(histories: Any) -> bool:
        seen.append([len(history.epochs) for history in histories])
        return len(seen) == 2

    ln.fit_models(classifier(0, models=2), (X, Y), epochs=9, callbacks=[stop], verbose=False)
    assert seen == [[1, 1], [2, 2]]


def test_a_wrong_number_of_data_is_refused() -> None:
    with pytest.raises(ValueError, match="data: expected those of each of 2 models, got 3"):
        ln.fit_models(classifier(0, models=2), [(X, Y)] * 3, verbose=False)


def test_one_and_many_have_functions_of_their_own() -> None:
    one, many = classifier(0), classifier(0, models=2)
    for function, instead in ((ln.fit, "fit_models"), (ln.evaluate, "evaluate_models")):
        with pytest.raises(ValueError, match=f"model: expected one, got 2; {instead} takes many"):
            function(many, (X, Y))
    for of_many in (ln.fit_models, ln.evaluate_models):
        with pytest.raises(ValueError, match="model: expected many, made with models=N"):
            of_many(one, (X, Y))


@pytest.mark.parametrize("weights", ["none", "sequences", "steps", "numbers"])
def test_stacked_batches_keep_what_each_says(weights: str) -> None:
    """Against a loop: sizes differ, and what is not there has no weight."""
    shapes = [(3, 2), (5, 1), (4, 4)]
    batches = []
    for n, (steps, batch) in enumerate(shapes):
        own = {
            "none": None,
            "sequences": rng.random(batch) + 1,
            "steps": rng.random((steps, batch)) + 1,
            "numbers": rng.random((steps, batch, 2)) + 1,
        }["none" if n == 0 else weights]
        lengths = None if n == 1 else rng.integers(1, steps + 1, batch)
        x = rng.standard_normal((steps, batch, 3))
        batches.append(SequenceBatch(x, rng.standard_normal((steps, batch, 2)), lengths, own))
    whole = stacked(batches, per_step=True)
    assert whole.x.shape == (3, 5, 4, 3)
    for n, (steps, batch) in enumerate(shapes):
        one, lengths = batches[n], batches[n].lengths
        assert np.array_equal(whole.x[n, :steps, :batch], one.x)
        assert np.array_equal(whole.labels[n, :steps, :batch], one.labels)
        assert whole.lengths[n].tolist() == [
            *(lengths if lengths is not None else [steps] * batch),
            *[0] * (4 - batch),
        ]
        found = whole.weights[n]
        assert found.sum() == pytest.approx(
            found[..., :steps, :batch, :].sum() if found.ndim > 2 else found.sum()
        )
        given = np.ones(batch) if one.weights is None else one.weights
        if found.ndim == 1:
            assert np.array_equal(found, [*given, *[0] * (4 - batch)])
        else:
            wide = given if given.ndim > 1 else np.broadcast_to(given, (steps, batch))
            wide = wide if wide.ndim == found.ndim else np.repeat(wide[..., None], 2, axis=-1)
            inside = found[:steps, :batch]
            assert np.array_equal(inside, wide)
            assert found.sum() == pytest.approx(inside.sum())
