"""Ensembles beside the single models that they consist of, and their means and spreads beside NumPy's."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import numba
from scipy.stats import norm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from lstm_numba.errors import TrainingDiverged
from lstm_numba.estimators import RNNClassifier, RNNForecaster, RNNRegressor
from lstm_numba.estimators import ensemble as ensemble_module

SMALL: dict[str, Any] = {"hidden_size": 4, "batch_size": 16, "max_epochs": 4, "random_state": 0}
MEMBERS = 3


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On which a single model gives the bits of a member."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def sequences(count: int = 40) -> tuple[Any, Any]:
    """Sequences (N, 6, 2) of float32, and the sum of the last three numbers of one feature."""
    X = np.random.default_rng(0).standard_normal((count, 6, 2)).astype(np.float32)
    return X, 10 + 3 * X[:, -3:, 0].sum(axis=1)


def wave(steps: int = 60) -> Any:
    """A wave of eight steps with noise, float32."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(steps)
    return (5 + np.sin(2 * np.pi * np.arange(steps) / 8) + noise).astype(np.float32)


def losses(estimator: Any) -> list[list[float]]:
    return [history["loss"] for history in estimator.histories_]


def test_members_are_single_classifiers_and_their_mean_is_given() -> None:
    X, numbers = sequences()
    y = np.where(numbers > 10, "high", "low")
    single = RNNClassifier(**SMALL, dropout=0.3).fit(X, y)
    ensemble = clone(single).set_params(n_models=MEMBERS).fit(X, y)
    members = ensemble.predict_proba_members(X)
    np.testing.assert_array_equal(members[0], single.predict_proba(X))
    assert losses(ensemble)[0] == single.loss_curve_
    assert np.abs(members[1] - members[0]).max() > 1e-3  # other weights and another order
    assert np.abs(members[2] - members[1]).max() > 1e-3
    mean, spread = ensemble.predict_proba(X, return_std=True)
    np.testing.assert_array_equal(mean, ensemble.predict_proba(X))
    np.testing.assert_allclose(mean, sum(members) / 3, rtol=1e-12)
    np.testing.assert_allclose(spread**2, sum((members - mean) ** 2) / 2, rtol=1e-9)
    np.testing.assert_array_equal(ensemble.predict(X), ensemble.classes_[mean.argmax(axis=1)])
    np.testing.assert_allclose(ensemble.loss_curve_, np.mean(losses(ensemble), axis=0), rtol=1e-12)
    lowest = [min(curve) for curve in losses(ensemble)]
    assert ensemble.best_loss_ == pytest.approx(sum(lowest) / 3)
    assert ensemble.n_iter_ == 4
    for n, one in enumerate(ensemble.estimators_):
        assert one.n_models == 1
        np.testing.assert_array_equal(one.predict_proba(X), members[n])
    assert ensemble.to_rnn().params["weight_hh_l0"].shape == (MEMBERS, 16, 4)


def test_goes_on_by_parts_as_its_members_do() -> None:
    X, numbers = sequences()
    y = numbers > 10
    single = RNNClassifier(**SMALL).fit(X, y)
    ensemble = clone(single).set_params(n_models=MEMBERS).fit(X, y)
    first = ensemble.estimators_[0]
    for estimator in (single, ensemble, first):
        estimator.partial_fit(X, y)
    expected = single.predict_proba(X)
    np.testing.assert_array_equal(ensemble.predict_proba_members(X)[0], expected)
    np.testing.assert_array_equal(first.predict_proba(X), expected)
    assert len(ensemble.loss_curve_) == len(single.loss_curve_) == 5
    warm = ensemble.set_params(warm_start=True).fit(X, y)
    assert len(warm.loss_curve_) == 9
    np.testing.assert_array_equal(
        warm.estimators_[0].predict_proba(X), single.set_params(warm_start=True).fit(X, y).predict_proba(X)
    )
    with pytest.raises(ValueError, match="n_models: expected 3"):
        warm.set_params(n_models=2).fit(X, y)
    assert warm.set_params(warm_start=False).fit(X, y).predict_proba_members(X).shape == (2, 40, 2)


def test_results_do_not_depend_on_jobs() -> None:
    """Two processes, two threads and none of them; members that stop at other times; then once more."""
    X, y = sequences()
    options = {**SMALL, "max_epochs": 30, "early_stopping": True, "n_iter_no_change": 2, "dropout": 0.2}
    alone = RNNRegressor(**options, n_models=MEMBERS, learning_rate=0.05).fit(X, y)
    epochs = list(map(len, losses(alone)))
    assert len(set(epochs)) > 1
    assert max(epochs) < 30
    assert alone.n_iter_ == max(epochs)
    processes = clone(alone).set_params(n_jobs=2).fit(X, y)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        inside = clone(alone).fit(X, y)
    for jobs in (processes, inside):
        np.testing.assert_array_equal(jobs.predict_members(X), alone.predict_members(X))
        assert losses(jobs) == losses(alone)
        assert jobs.best_loss_ == alone.best_loss_
    expected = alone.partial_fit(X, y).predict_members(X)
    np.testing.assert_array_equal(inside.partial_fit(X, y).predict_members(X), expected)
    with joblib.parallel_config(backend="threading"):
        np.testing.assert_array_equal(processes.partial_fit(X, y).predict_members(X), expected)


def test_jobs_of_one_process_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process joblib, or whoever started it, has chosen how many there are."""
    X, y = sequences()
    chosen: list[int] = []

    def recorded(count: int) -> Any:
        chosen.append(count)
        return contextlib.nullcontext()

    monkeypatch.setattr(ensemble_module, "thread_count", lambda: 7)
    monkeypatch.setattr(ensemble_module, "threads", recorded)
    regressor = RNNRegressor(**SMALL, n_models=MEMBERS)
    regressor.fit(X, y)
    assert chosen == []
    with joblib.parallel_config(backend="threading", n_jobs=3):
        regressor.fit(X, y)
        assert chosen == [2, 2, 2]
        monkeypatch.setattr("os.getpid", iter(range(10)).__next__)
        regressor.fit(X, y)
        assert chosen == [2, 2, 2]


def test_each_schedule_begins_anew() -> None:
    X, y = sequences()
    for n_models in (1, 2):
        warm = RNNRegressor(**SMALL, n_models=n_models, schedule="cosine", warm_start=True).fit(X, y)
        first = [history["lr"] for history in warm.histories_]
        assert first[0][0] > 2 * first[0][-1]
        assert [history["lr"] for history in warm.fit(X, y).histories_] == first


def test_each_stops_at_its_own_best() -> None:
    X, y = sequences()
    options = {
        **SMALL,
        "max_epochs": 30,
        "early_stopping": True,
        "n_iter_no_change": 2,
        "learning_rate": 0.05,
    }
    ensemble = RNNRegressor(**options, n_models=MEMBERS).fit(X, y)
    single = RNNRegressor(**options).fit(X, y)
    assert len({history.best_epoch for history in ensemble.histories_}) > 1
    for history in ensemble.histories_:
        assert history.stopped_early
        assert len(history["loss"]) == history.best_epoch + 2
    np.testing.assert_array_equal(ensemble.predict_members(X)[0], single.predict(X))
    assert losses(ensemble)[0] == single.loss_curve_
    shortest = min(map(len, losses(ensemble)))
    means = np.mean([curve[:shortest] for curve in losses(ensemble)], axis=0)
    np.testing.assert_allclose(ensemble.loss_curve_[:shortest], means, rtol=1e-12)
    longest = max(losses(ensemble), key=len)
    assert ensemble.loss_curve_[-1] == longest[-1]


def test_spread_of_numbers_and_quantiles() -> None:
    X, y = sequences()
    ensemble = RNNRegressor(**SMALL, n_models=MEMBERS).fit(X, y)
    members = ensemble.predict_members(X)
    mean, spread = ensemble.predict(X, return_std=True)
    np.testing.assert_allclose(mean, members.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(spread, members.std(axis=0, ddof=1), rtol=1e-12)
    assert abs(mean.mean() - y.mean()) < 2  # in the units of the data
    quantiles = RNNRegressor(**SMALL, n_models=MEMBERS, loss="quantile").fit(X, y)
    found = quantiles.predict_quantiles(X)
    each = [one.predict_quantiles(X) for one in quantiles.estimators_]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)
    np.testing.assert_allclose(quantiles.predict(X), found[:, 1], rtol=1e-12)


def test_mixture_of_gaussians() -> None:
    """Of every step, in lists: the moments of the mixture, from samples of it as well."""
    X, _ = sequences()
    xs = [x[: 3 + n % 4] for n, x in enumerate(X)]
    ys = [100 + 5 * x[:, 0] for x in xs]
    ensemble = RNNRegressor(**SMALL, n_models=MEMBERS, loss="gaussian", per_step=True).fit(xs, ys)
    mean, deviation = ensemble.predict(xs, return_std=True)
    pairs = [one.predict(xs, return_std=True) for one in ensemble.estimators_]
    members = ensemble.predict_members(xs)
    bands = ensemble.predict_quantiles(xs, (0.1, 0.5, 0.9))
    for n in (0, 7):
        mu, sigma = (np.array([pair[k][n] for pair in pairs]) for k in range(2))
        np.testing.assert_array_equal([one[n] for one in members], mu)
        variance = (sigma**2 + mu**2).mean(axis=0) - mu.mean(axis=0) ** 2
        np.testing.assert_allclose(mean[n], mu.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(deviation[n], np.sqrt(variance), rtol=1e-6)
        expected = mean[n][:, None] + deviation[n][:, None] * norm.ppf([0.1, 0.5, 0.9])
        np.testing.assert_allclose(bands[n], expected, rtol=1e-12)
        samples = np.random.default_rng(0).normal(mu, sigma, size=(40_000, *mu.shape))
        np.testing.assert_allclose(samples.std(axis=(0, 1)), deviation[n], rtol=0.02)


def test_forecasts_go_on_from_each_members_own() -> None:
    y = wave()
    single = RNNForecaster(**SMALL, horizon=2, window=8, learning_rate=0.02).fit(y)
    ensemble = clone(single).set_params(n_models=MEMBERS).fit(y)
    members = ensemble.predict_members(11)
    np.testing.assert_array_equal(members[0], single.predict(11))
    for one, found in zip(ensemble.estimators_, members, strict=True):
        np.testing.assert_array_equal(one.predict(11), found)
    mean, spread = ensemble.predict(11, return_std=True)
    np.testing.assert_allclose(mean, members.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(spread, members.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(ensemble.predict(y=y[:30]), ensemble.predict(y[:30]))
    last = ensemble.predict(y=y[:-2])
    assert ensemble.score(y) == pytest.approx(1 - ((last - y[-2:]) ** 2).sum() / (2 * y[-2:].var()), rel=1e-5)


def test_forecasts_of_gaussians_are_of_learnt_steps_only() -> None:
    y = np.stack([wave(), wave() * 2])
    ensemble = RNNForecaster(**SMALL, horizon=2, window=8, loss="gaussian", n_models=2).fit(y)
    (mean, deviation), bands = ensemble.predict(return_std=True), ensemble.predict_quantiles(2, (0.5, 0.9))
    assert deviation.shape == (2, 2)
    (mu, sigma), (nu, tau) = (one.predict(return_std=True) for one in ensemble.estimators_)
    np.testing.assert_allclose(deviation**2, (sigma**2 + tau**2) / 2 + ((mu - nu) / 2) ** 2, rtol=1e-9)
    np.testing.assert_allclose(bands, np.stack([mean, mean + norm.ppf(0.9) * deviation], axis=-1), rtol=1e-12)
    with pytest.raises(ValueError, match="horizon: expected at most 2 for the standard deviation"):
        ensemble.predict(3, return_std=True)


def test_works_in_search() -> None:
    X, y = sequences()
    search = GridSearchCV(RNNRegressor(**SMALL), {"n_models": [1, 2]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.get_params()["n_models"] == search.best_params_["n_models"] == len(best.estimators_)
    np.testing.assert_array_equal(clone(best).fit(X, y).predict_members(X), best.predict_members(X))


@pytest.mark.parametrize("n_models", [1, 2])
def test_files_go_on(tmp_path: Any, n_models: int) -> None:
    """joblib, unlike pickle, writes an array that two refer to twice: they must share it again."""
    X, y = sequences()
    estimator = RNNRegressor(**SMALL, n_models=n_models).fit(X, y)
    joblib.dump(estimator, tmp_path / "estimator")
    copies = joblib.load(tmp_path / "estimator"), pickle.loads(pickle.dumps(estimator))
    before = estimator.predict_members(X)
    after = estimator.partial_fit(X, y).predict_members(X)
    assert np.abs(after - before).max() > 1e-3
    for copy in copies:
        np.testing.assert_array_equal(copy.predict_members(X), before)
        np.testing.assert_array_equal(copy.partial_fit(X, y).predict_members(X), after)


def test_stream_is_of_one_member() -> None:
    X, y = sequences()
    ensemble = RNNRegressor(**SMALL, n_models=2).fit(X, y)
    stream = ensemble.stream(1)
    for sample in X[0]:
        found = stream.step(sample)
    np.testing.assert_allclose(found[0], ensemble.predict_members(X)[1, 0], rtol=1e-5)
    with pytest.raises(ValueError, match="member: expected which of 2"):
        ensemble.stream()
    with pytest.raises(IndexError, match="expected 0 to 1, got 2"):
        ensemble.stream(2)
    with pytest.raises(ValueError, match="of one model, got 1"):
        ensemble.estimators_[0].stream(1)


def test_refuses_what_does_not_fit() -> None:
    X, y = sequences()
    for value, kind in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="n_models: expected"):
            RNNRegressor(**SMALL, n_models=value).fit(X, y)
    single = RNNClassifier(**SMALL).fit(X, y > 10)
    with pytest.raises(ValueError, match="n_models > 1"):
        single.predict_proba(X, return_std=True)
    assert single.history_ is single.histories_[0]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        RNNRegressor(**SMALL, n_models=2, n_jobs=0).fit(X, y)
    ensemble = RNNRegressor(**SMALL, n_models=2).fit(X, y)
    with pytest.raises(AttributeError, match="histories_"):
        _ = ensemble.history_
    wild = clone(ensemble).set_params(optimizer="sgd", learning_rate=1e30, clip=None)
    with (
        joblib.parallel_config(backend="threading", n_jobs=2),
        pytest.raises(TrainingDiverged, match="diverged"),
    ):
        wild.fit(X, y)
