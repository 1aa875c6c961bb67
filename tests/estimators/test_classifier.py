"""The classifier as a user works with it, beside what it must be equal to."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lstm_numba.data.scaling import Scaler
from lstm_numba.estimators import RNNClassifier

SMALL: dict[str, Any] = {"hidden_size": 8, "max_epochs": 60, "random_state": 0}


def waves(count: int = 60, steps: int = 12, seed: int = 0) -> tuple[Any, Any]:
    """Sequences (N, T, 2) whose class is which of two features came first; (N,) text."""
    rng = np.random.default_rng(seed)
    X = 0.3 * rng.standard_normal((count, steps, 2))
    first = rng.integers(2, size=count)
    X[np.arange(count), 2, first] += 3
    X[np.arange(count), 6, 1 - first] += 3
    return X, np.where(first, "right", "left")


def test_learns_the_order_of_events() -> None:
    X, y = waves(80)
    classifier = RNNClassifier(**SMALL).fit(X[:60], y[:60])
    assert classifier.score(X[60:], y[60:]) >= 0.9
    assert list(classifier.classes_) == ["left", "right"]
    assert classifier.n_features_in_ == 2
    assert classifier.loss_curve_[-1] < 0.5 * classifier.loss_curve_[0]
    assert classifier.best_loss_ == min(classifier.loss_curve_)


def test_works_in_search_pipeline_and_files(tmp_path: Any) -> None:
    X, y = waves()
    search = GridSearchCV(RNNClassifier(**SMALL), {"cell": ["lstm", "gru"]}, cv=2, n_jobs=2)
    search.fit(X, y)
    assert search.best_score_ > 0.6
    best = search.best_estimator_
    expected = best.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).predict_proba(X), expected)
    joblib.dump(best, tmp_path / "best.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "best.joblib").predict_proba(X), expected)
    pipeline = make_pipeline(FunctionTransformer(lambda x: 2 * x), RNNClassifier(**SMALL))
    assert np.mean(cross_val_score(pipeline, X, y, cv=2)) > 0.6
    np.testing.assert_array_equal(clone(best).fit(X, y).predict_proba(X), expected)


def test_missing_steps_are_as_if_not_there() -> None:
    """A list of shorter sequences, and the same sequences with missing steps between."""
    X, y = waves()
    rng = np.random.default_rng(1)
    gappy, short = np.full((len(X), 16, 2), np.nan), []
    for n, sequence in enumerate(X):
        kept = rng.integers(9, 13)
        places = np.sort(rng.permutation(16)[:kept])
        gappy[n, places] = sequence[:kept]
        short.append(sequence[:kept])
    ragged = RNNClassifier(**SMALL).fit(short, y)
    masked = RNNClassifier(**SMALL).fit(gappy, y)
    np.testing.assert_array_equal(ragged.predict_proba(short), masked.predict_proba(gappy))
    np.testing.assert_array_equal(ragged.predict_proba(gappy), ragged.predict_proba(short))


def test_missing_numbers_are_the_last_ones() -> None:
    X, y = waves()
    classifier = RNNClassifier(**SMALL).fit(X, y)
    holes, filled = X.copy(), X.copy()
    holes[:, 4, 0], filled[:, 4, 0] = np.nan, filled[:, 3, 0]
    holes[:, 0, 1], filled[:, 0, 1] = np.nan, X[..., 1].mean()
    np.testing.assert_allclose(classifier.predict_proba(holes), classifier.predict_proba(filled), rtol=1e-12)


def test_stream_gives_what_the_whole_sequence_gives() -> None:
    X, y = waves()
    X[0, 3, 1] = np.nan
    X[0, 5] = np.nan
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        classifier = RNNClassifier(**SMALL, dtype=dtype).fit(X, y)
        expected, stream = classifier.predict_proba(X), classifier.stream()
        for n in range(3):
            stream.reset()
            for sample in X[n]:
                found = stream.step(sample)
            np.testing.assert_allclose(found, expected[n], atol=tolerance)


def test_layers_are_given_back() -> None:
    X, y = waves()
    classifier = RNNClassifier(**SMALL).fit(X, y)
    scaled = Scaler.fit(X.reshape(-1, 2)).transform(X)
    rnn = classifier.to_rnn()
    _, (h, _) = rnn(np.ascontiguousarray(np.swapaxes(scaled, 0, 1)))
    logits = h[0] @ classifier._model.output.params["weight"].T + classifier._model.output.params["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        classifier.predict_proba(X), odds / odds.sum(axis=1, keepdims=True), rtol=1e-10
    )
    before = classifier.predict_proba(X)
    rnn.params["weight_ih_l0"][...] = 0  # a copy
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_weights_of_classes_and_samples() -> None:
    X, y = waves()
    y = np.where(np.arange(len(y)) < 50, "left", "right")  # nothing to be learnt but how many there are
    plain = RNNClassifier(hidden_size=4, max_epochs=5, random_state=0, learning_rate=0.05)
    share = plain.fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = clone(plain).set_params(class_weight="balanced").fit(X, y).predict_proba(X)[:, 1].mean()
    weighted = clone(plain).fit(X, y, sample_weight=np.where(y == "right", 5.0, 1.0))
    assert share < 0.35 < balanced
    assert weighted.predict_proba(X)[:, 1].mean() > 0.35


def test_goes_on_by_parts() -> None:
    X, y = waves()
    whole = RNNClassifier(**{**SMALL, "max_epochs": 3, "n_iter_no_change": None}).fit(X, y)
    parts = RNNClassifier(**SMALL)
    for _ in range(3):
        parts.partial_fit(X, y, classes=["left", "right"])
    assert len(parts.loss_curve_) == len(whole.loss_curve_) == 3
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-9)
    warm = RNNClassifier(**{**SMALL, "max_epochs": 2, "warm_start": True}).fit(X, y)
    first = list(warm.loss_curve_)
    warm.fit(X, y)
    assert warm.loss_curve_[:2] == first
    assert warm.loss_curve_[2] < first[0]


def test_early_stopping_keeps_the_best() -> None:
    X, y = waves(100)
    y = np.random.default_rng(3).permutation(y)  # nothing to learn: what is learnt makes it worse
    classifier = RNNClassifier(
        hidden_size=16, max_epochs=100, early_stopping=True, n_iter_no_change=4, random_state=0
    )
    classifier.fit(X, y)
    assert classifier.history_.stopped_early
    assert classifier.n_iter_ == classifier.history_.best_epoch + 4
    assert classifier.best_loss_ == min(classifier.history_["valid_loss"])
    best = clone(classifier).set_params(max_epochs=classifier.history_.best_epoch, n_iter_no_change=None)
    np.testing.assert_array_equal(classifier.predict_proba(X), best.fit(X, y).predict_proba(X))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        (lambda X, y: (np.where(X > 1, np.inf, X), y), "infinity"),
        (lambda X, y: (X, np.full(len(y), "left")), "two classes"),
        (lambda X, y: (X[0, 0], y), "Expected 2D array"),
        (lambda X, y: ([x[:, :1] if n else x for n, x in enumerate(X)], y), "dimension"),
        (lambda X, y: ([np.full((3, 2), np.nan), *X[1:]], y), r"X\[0\]: expected at least one step"),
        (lambda X, y: ([np.empty((0, 2)), *X[1:]], y), r"X\[0\]: expected at least one step"),
        (lambda X, y: (X.astype(str), np.arange(len(y)) / 7), "Unknown label type"),
    ],
)
def test_bad_input_is_refused(change: Any, words: str) -> None:
    X, y = change(*waves())
    with pytest.raises(ValueError, match=words):
        RNNClassifier(**SMALL).fit(X, y)


def test_training_stops_early_on_what_is_held_out_only() -> None:
    """In training the loss of an epoch of few steps goes up and down: every epoch is done."""
    X, y = waves()
    never_better = {**SMALL, "max_epochs": 6, "n_iter_no_change": 1, "tol": 10.0}
    assert RNNClassifier(**never_better).fit(X, y).n_iter_ == 6
    assert RNNClassifier(**never_better, early_stopping=True).fit(X, y).n_iter_ == 2


def test_bad_parameters_are_refused() -> None:
    X, y = waves()
    for name, value in (
        ("hidden_size", 0),
        ("cell", "lsmt"),
        ("dropout", 1.5),
        ("max_epochs", 0),
        ("batch_size", -3),
        ("learning_rate", -1.0),
        ("optimizer", "adamax"),
        ("n_jobs", 0),
        ("schedule", "linear"),
        ("n_iter_no_change", 0),
    ):
        with pytest.raises(ValueError, match=r".+"):
            RNNClassifier(**{**SMALL, name: value}).fit(X, y)


def test_other_features_than_in_fit_are_refused() -> None:
    X, y = waves()
    classifier = RNNClassifier(**SMALL).fit(X, y)
    assert classifier.predict(X[:2, :5]).shape == (2,)  # fewer steps are fine
    with pytest.raises(ValueError, match="expecting 2 features"):
        classifier.predict(X[:, :, :1])
    flat = RNNClassifier(**SMALL).fit(X[:, :, 0], y)
    with pytest.raises(ValueError, match="expecting 12 features"):
        flat.predict(X[:, :5, 0])
