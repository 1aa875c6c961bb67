"""What each kind of model answers, against a call of its own; what an answer's checksum sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from archive_tools import STEPS, numbers

import lstm_numba as ln
from lstm_numba.archives.answers import answer_of
from lstm_numba.errors import DataError


def steps_first(x: Any) -> Any:
    """(N, T, F) as layers read it."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers(batch_first: bool) -> None:
    x = numbers()
    rnn = ln.LSTM(2, 3, 2, bidirectional=True, batch_first=batch_first, seed=0)
    y, (h, c) = rnn(x if batch_first else steps_first(x))
    found = ln.map_sequences(rnn, x, batch_size=4, block_size=10)
    assert np.array_equal(found, y if batch_first else y.swapaxes(0, 1))
    states = ln.map_sequences(rnn, x, method="state", batch_size=4, block_size=10)
    assert np.array_equal(states[0], h.swapaxes(0, 1))
    assert np.array_equal(states[1], c.swapaxes(0, 1))


def test_models_with_a_head() -> None:
    x = numbers()
    classifier = ln.SequenceClassifier(2, 3, 4, seed=0)
    assert np.array_equal(ln.map_sequences(classifier, x), classifier.probabilities(steps_first(x)))
    assert np.array_equal(ln.map_sequences(classifier, x, method="logits"), classifier.logits(steps_first(x)))
    whole = ln.SequenceRegressor(2, 3, 2, loss="quantile", seed=0)
    assert np.array_equal(ln.map_sequences(whole, x, block_size=6), whole.predict(steps_first(x)))
    steps = ln.SequenceRegressor(2, 3, 2, per_step=True, seed=0)
    assert np.array_equal(ln.map_sequences(steps, x), steps.predict(steps_first(x)).swapaxes(0, 1))
    assert np.array_equal(
        ln.map_sequences(steps, x, method="scores"), steps.scores(steps_first(x)).swapaxes(0, 1)
    )


def test_numbers_are_cast_to_the_models_type() -> None:
    x = numbers()
    rnn = ln.GRU(2, 3, seed=0)
    assert np.array_equal(ln.map_sequences(rnn, x.astype(np.float64)), ln.map_sequences(rnn, x))
    whole = np.round(10 * x).astype(np.int16)
    assert np.array_equal(ln.map_sequences(rnn, whole), ln.map_sequences(rnn, whole.astype(np.float32)))


def test_missing_numbers_are_refused_or_handed_on() -> None:
    x = numbers()
    x[7, 4, 1] = np.nan
    rnn = ln.GRU(2, 3, seed=0)
    with pytest.raises(
        DataError, match=r"ndarray: sequence 7, archive\[\.\.\., 1\], step 4: expected a number"
    ):
        ln.map_sequences(rnn, x, block_size=3)
    y = ln.map_sequences(rnn, x, missing="pass")
    assert np.isnan(y[7, 4:]).all()
    assert np.isfinite(y[7, :4]).all()
    assert np.isfinite(np.delete(y, 7, 0)).all()
    x[7, 4, 1] = np.inf
    with pytest.raises(DataError, match="got infinity"):
        ln.map_sequences(rnn, x)


def test_estimators() -> None:
    estimators = pytest.importorskip("lstm_numba.estimators", reason="scikit-learn is not installed")
    x, few = numbers(), {"cell": "gru", "hidden_size": 3, "max_epochs": 1, "random_state": 0}
    x[2, 3] = np.nan  # a step that is missing, as estimators read it
    words = np.where(np.nansum(x, axis=(1, 2)) > 0, "wet", "dry")
    classifier = estimators.RNNClassifier(**few).fit(x, words)
    assert np.array_equal(ln.map_sequences(classifier, x, block_size=5), classifier.predict(x))
    found = ln.map_sequences(classifier, x, method="predict_proba", block_size=5)
    assert np.array_equal(found, classifier.predict_proba(x))
    with pytest.raises(DataError, match="sequence 2, "):
        ln.map_sequences(classifier, x, missing="error")
    regressor = estimators.RNNRegressor(per_step=True, loss="gaussian", **few).fit(x, x[..., 0])
    found = ln.map_sequences(regressor, x, batch_size=7)
    assert np.array_equal(found, regressor.predict(x), equal_nan=True)
    assert np.isnan(found[2, 3])
    levels = ln.map_sequences(regressor, x, method="predict_quantiles")
    assert np.array_equal(levels, regressor.predict_quantiles(x), equal_nan=True)
    forecaster = estimators.RNNForecaster(horizon=2, window=4, **few).fit(x)
    assert np.array_equal(ln.map_sequences(forecaster, x, block_size=9), forecaster.predict(y=x))
    with pytest.raises(ValueError, match="variables: X has 1 features, but RNNClassifier is expecting 2"):
        ln.map_sequences(classifier, x[..., :1])
    with pytest.raises(ValueError, match="expected a fitted estimator, this RNNRegressor is not fitted yet"):
        ln.map_sequences(estimators.RNNRegressor(), x)
    x[4] = np.nan
    with pytest.raises(
        ValueError, match=r"sequences 3 to 5: X\[1\]: expected at least one step with a number"
    ):
        ln.map_sequences(classifier, x, block_size=3)


def test_a_checksum_tells_models_apart_and_no_more() -> None:
    def made() -> list[Any]:
        return [
            ln.LSTM(2, 3, seed=0),
            ln.GRU(2, 3, seed=0),
            ln.GRU(2, 3, seed=0, reset_after=False),
            ln.SequenceClassifier(2, 3, 2, seed=0),
            ln.SequenceRegressor(2, 3, 2, seed=0),
            ln.SequenceRegressor(2, 3, 2, loss="mae", seed=0),
        ]

    first, again = ([answer_of(model).digest() for model in made()] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)
    rnn = made()[0]
    assert answer_of(rnn, "state").digest() != first[0]
    rnn.params["weight_hh_l0"][5, 1] = np.nextafter(rnn.params["weight_hh_l0"][5, 1], np.float32(9))
    assert answer_of(rnn).digest() != first[0]


def test_a_checksum_sees_an_estimators_scale_and_classes() -> None:
    estimators = pytest.importorskip("lstm_numba.estimators", reason="scikit-learn is not installed")
    x = numbers()
    classifier = estimators.RNNClassifier("gru", hidden_size=3, max_epochs=1, random_state=0).fit(
        x, np.arange(23) % 2
    )
    before = answer_of(classifier).digest()
    classifier.n_jobs = 1
    assert answer_of(classifier).digest() == before
    classifier._inputs.mean[0] += 1
    changed = answer_of(classifier).digest()
    assert changed != before
    classifier.classes_ = classifier.classes_ + 1
    assert answer_of(classifier).digest() not in (before, changed)


def test_what_is_refused() -> None:
    x, rnn = numbers(), ln.GRU(2, 3)

    def refused(kind: type[Exception], match: str, model: Any = rnn, archive: Any = x, **said: Any) -> None:
        with pytest.raises(kind, match=match):
            ln.map_sequences(model, archive, **said)

    refused(
        ValueError,
        "method: expected one of y, state for GRU, got 'states'; did you mean state",
        method="states",
    )
    refused(
        TypeError,
        "model: expected one that reads sequences of numbers, got a LanguageModel",
        ln.LanguageModel(5, 3),
    )
    refused(TypeError, "got str; lstm_numba.load_run opens a run folder", "runs/1")
    refused(TypeError, "model: expected a layer, a model or an estimator, got dict", {})
    refused(
        DataError,
        r"variables: expected 2 features, which the model reads, got 1: archive\[",
        archive=x[..., :1],
    )
    refused(DataError, r"expected shape \(sequences, steps\) or .*, got \(23,\)", archive=x[:, 0, 0])
    refused(DataError, "ndarray: is empty: 0 sequences, 9 steps, 2 features", archive=x[:0])
    refused(DataError, "expected real numbers, got bool", archive=x > 0)
    refused(
        TypeError,
        "archive: expected a path, an array, or an open Zarr or xarray object, got list",
        archive=[x],
    )
    refused(TypeError, "archive: expected an array without a mask", archive=np.ma.masked_array(x))
    refused(TypeError, "variables: expected None of a single array", variables=["rain"])
    refused(DataError, "sequence: its axes have no names", sequence="gauge")
    refused(DataError, "nowhere.zarr: no such file or folder", archive="nowhere.zarr")
    refused(ValueError, "missing: expected 'error' or 'pass', got 'drop'", missing="drop")
    refused(ValueError, "batch_size: expected an integer >= 1, got 0", batch_size=0)
    refused(TypeError, "block_size: expected an integer, got float", block_size=2.5)


def test_threads_hold_for_the_call_only() -> None:
    import numba

    x, rnn = numbers(), ln.GRU(2, 3, seed=0)
    before = numba.get_num_threads()
    seen = []
    ln.map_sequences(
        rnn, x, threads=1, block_size=STEPS, progress=lambda done, total: seen.append((done, total))
    )
    assert numba.get_num_threads() == before
    assert seen == [(9, 23), (18, 23), (23, 23)]
