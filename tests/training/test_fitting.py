"""Training on arrays in memory: what it reaches, when it stops, what it refuses."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.errors import TrainingDiverged
from lstm_numba.training.array_data import SequenceData, TokenStreams


def echoes(count: int = 48, seed: int = 0) -> tuple[Any, Any]:
    """Sequences (N, 6, 2) whose class is the sign of the first step."""
    x = np.random.default_rng(seed).standard_normal((count, 6, 2)).astype(np.float32)
    return x, (x[:, 0, 0] > 0).astype(int)


def classifier(**options: Any) -> ln.SequenceClassifier:
    return ln.SequenceClassifier(2, 8, 2, cell="gru", seed=0, **options)


QUIET: dict[str, Any] = {"verbose": False, "lr": 0.02, "batch_size": 16}


def test_ten_lines() -> None:
    x, y = echoes(80)
    model = classifier()
    before = ln.evaluate(model, (x, y)).loss
    history = ln.fit(model, (x[:64], y[:64]), validation=(x[64:], y[64:]), epochs=20, **QUIET)
    result = ln.evaluate(model, (x[64:], y[64:]))
    assert len(history["loss"]) == 20
    assert history["loss"][-1] < 0.5 * before
    assert result.accuracy > 0.8
    assert result.loss == pytest.approx(min(history["valid_loss"]), rel=1e-6)  # the best epoch's parameters
    assert history.best_epoch == 1 + int(np.argmin(history["valid_loss"]))
    assert set(history) == {"loss", "accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"}
    frame = pytest.importorskip("pandas") and history.to_frame()
    assert list(frame["loss"]) == history["loss"]
    assert frame.index.name == "epoch"
    assert frame.index[0] == 1


def test_the_same_as_by_hand() -> None:
    """Full batches: the losses are those of the loop that a user writes."""
    x, y = echoes(12)
    model, other = classifier(dtype=np.float64), classifier(dtype=np.float64)
    history = ln.fit(model, (x, y), epochs=4, batch_size=12, lr=0.05, clip=0.5, verbose=False)
    optimizer, losses = ln.Adam(other.params, lr=0.05), []
    batch = SequenceData(x, y).gather(np.arange(12), np.float64)
    for _ in range(4):
        result = other.loss_and_gradients(batch)
        losses.append(result.objective)
        optimizer.step(result.grads, scale=ln.clip_norm(result.grads, 0.5).scale)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-10)
    for name, array in other.params.items():
        np.testing.assert_allclose(model.params[name], array, rtol=1e-7, atol=1e-10)


def test_stops_early_with_the_best() -> None:
    x, y = echoes()
    noise = np.random.default_rng(1).integers(2, size=len(y))
    model = classifier()
    history = ln.fit(model, (x, noise), validation=(x, 1 - noise), epochs=50, patience=3, **QUIET)
    assert history.stopped_early
    assert len(history.epochs) == history.best_epoch + 3
    assert ln.evaluate(model, (x, 1 - noise)).loss == pytest.approx(history.best_loss, rel=1e-6)
    kept = classifier()
    last = ln.fit(kept, (x, noise), validation=(x, 1 - noise), epochs=6, keep_best=False, **QUIET)
    assert ln.evaluate(kept, (x, 1 - noise)).loss == pytest.approx(last["valid_loss"][-1], rel=1e-6)


def test_callbacks_see_and_stop() -> None:
    seen: list[float] = []

    def watch(history: ln.History) -> bool:
        seen.append(history["loss"][-1])
        return len(seen) == 3

    history = ln.fit(classifier(), echoes(), epochs=10, callbacks=[watch], **QUIET)
    assert seen == history["loss"]
    assert len(seen) == 3
    assert not history.stopped_early


def test_schedules_and_optimizers_of_ones_own() -> None:
    x, y = echoes()
    model = classifier()
    history = ln.fit(model, (x, y), epochs=4, schedule="cosine", **QUIET)
    assert history["lr"] == sorted(history["lr"], reverse=True)
    assert history["lr"][-1] < 0.2 * history["lr"][0]
    optimizer = ln.SGD(model.params, lr=0.01, momentum=0.9)
    again = ln.fit(model, (x, y), epochs=2, optimizer=optimizer, verbose=False)
    assert again["lr"] == [0.01, 0.01]
    assert optimizer.steps == 2 * 2


def test_text_is_carried_on() -> None:
    tokens = np.tile(np.arange(5), 60)
    model = ln.LanguageModel(5, 12, cell="gru", seed=0)
    history = ln.fit(model, tokens, epochs=6, batch_size=4, bptt=5, lr=0.05, verbose=False)
    assert history["loss"][-1] < 0.3
    assert history["accuracy"][-1] > 0.9
    assert ln.evaluate(model, tokens, batch_size=4, bptt=5).accuracy > 0.95


def test_the_state_is_carried_from_window_to_window() -> None:
    tokens = np.random.default_rng(0).integers(5, size=60)
    model, other = (ln.LanguageModel(5, 6, cell="gru", seed=0, dtype=np.float64) for _ in range(2))
    history = ln.fit(model, tokens, epochs=1, batch_size=2, bptt=7, lr=0.05, clip=None, verbose=False)
    batches, optimizer = TokenStreams(tokens, 2, 7), ln.Adam(other.params, lr=0.05)
    state, total, count = None, 0.0, 0.0
    for k in range(len(batches)):
        result = other.loss_and_gradients(batches.batch(0, k), state)
        state, total, count = result.state, total + result.loss_sum, count + result.count
        optimizer.step(result.grads)
    assert history["loss"] == [pytest.approx(total / count, rel=1e-12)]


def test_batches_of_ones_own() -> None:
    x, y = echoes()
    data = SequenceData(x, y)

    class Same:
        carries_state = False

        def __len__(self) -> int:
            return 2

        def batch(self, epoch: int, step: int) -> Any:
            return data.gather(np.arange(step, 48, 2), np.float32)

    assert len(ln.fit(classifier(), Same(), epochs=2, lr=0.02, verbose=False)["loss"]) == 2


def test_numbers_that_are_not_finite_end_it() -> None:
    model = ln.SequenceRegressor(2, 4, 1, cell="gru", seed=0)
    x = echoes()[0]
    with pytest.raises(TrainingDiverged, match="diverged in epoch 1"):
        ln.fit(model, (x, np.full((48, 1), 1e300)), epochs=2, verbose=False)
    assert all(np.isfinite(array).all() for array in model.params.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[0], y), "x: expected shape"),
        (lambda x, y: (x, y[:-1]), "y: expected 48 labels"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), "x: expected finite"),
        (lambda x, y: (x, y + 1), r"y: expected classes .N,., whole numbers from 0 to 1, got 1 to 2; y - 1$"),
        (lambda x, y: (x, y + 2), r"got 2 to 3$"),
        (lambda x, y: (x, y / 2), r"y: expected classes .N,., whole numbers from 0 to 1, got float64$"),
        (lambda x, y: (x, y[:, None]), r"got numbers of shape .48, 1.; y.ravel..$"),
        (lambda x, y: (x, np.eye(2)[y]), r"shape .48, 2.; if rows are one-hot, y.argmax.axis=1."),
        (lambda x, y: (x, np.zeros((48, 3))), r"got numbers of shape .48, 3.$"),
        (lambda x, y: (x, np.zeros((*x.shape[:2], 2))), r"got numbers of shape .N, T, 2.$"),
        (lambda x, y: ([x[0], x[1][:, :1]], y[:2]), "of one F"),
        (lambda x, y: ([x[0], x[1][:0]], y[:2]), "at least one step"),
        (lambda x, y: (x[:0], y[:0]), "at least one sequence"),
    ],
)
def test_bad_arrays_are_refused(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ln.fit(classifier(), change(*echoes()), epochs=1, **QUIET)


@pytest.mark.parametrize(
    ("per_step", "y", "expected"),
    [
        (False, np.zeros(48), r"numbers .N, 2., got shape .48,."),
        (False, np.zeros((48, 3)), r"numbers .N, 2., got shape .48, 3."),
        (False, np.zeros((48, 12, 2)), r"numbers .N, 2., got shape .N, T, 2."),
        (True, np.zeros(48, int), r"numbers .N, T, 2., of every step, got shape .48,."),
        (True, np.zeros((48, 2)), r"numbers .N, T, 2., of every step, got shape .48, 2."),
        (True, np.zeros((48, 12, 3)), r"numbers .N, T, 2., of every step, got shape .N, T, 3."),
    ],
)
def test_labels_are_those_that_the_regressor_predicts(per_step: bool, y: Any, expected: str) -> None:
    x, model = np.zeros((48, 12, 3), np.float32), ln.SequenceRegressor(3, 4, 2, per_step=per_step)
    for call in (ln.evaluate, functools.partial(ln.fit, **QUIET)):
        with pytest.raises(ValueError, match=f"^y: expected {expected}$"):
            call(model, (x, y))


@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_the_axis_of_one_number_may_be_missing(kind: type) -> None:
    x, rng = echoes()[0], np.random.default_rng(0)
    y = (10 * rng.standard_normal(x.shape[:2])).astype(kind)
    model = ln.SequenceRegressor(2, 4, 1, seed=0)
    assert ln.evaluate(model, (x, y[:, 0])) == ln.evaluate(model, (x, y[:, :1]))
    each = ln.SequenceRegressor(2, 4, 1, per_step=True, seed=0)
    assert ln.evaluate(each, (x, y)) == ln.evaluate(each, (x, y[..., None]))
    lengths = rng.integers(1, 7, len(x))
    some = [SequenceData(x, labels, lengths=lengths) for labels in (y, y[..., None])]
    assert ln.evaluate(each, some[0]) == ln.evaluate(each, some[1])
    with pytest.raises(ValueError, match=r"^y: expected numbers .N, T, 1., of every step, got .*.48, 5.$"):
        ln.evaluate(each, (x, y[:, :5]))


def test_a_class_without_weight_may_be_any_number() -> None:
    x, y = echoes()
    y[::2] = -1
    model, weights = classifier(), (y >= 0).astype(float)
    found = ln.evaluate(model, SequenceData(x, y, weights=weights))
    assert found.loss == pytest.approx(ln.evaluate(model, (x[1::2], y[1::2])).loss)
    with pytest.raises(ValueError, match=r"^y: expected classes .*, got -1 to 1$"):
        ln.evaluate(model, SequenceData(x, y))


def test_classes_of_other_kinds() -> None:
    x, y = echoes()
    model = classifier()
    assert ln.evaluate(model, (x, y == 1)) == ln.evaluate(model, (x, y))
    with pytest.raises(TypeError, match=r"^y: expected numbers, got text; np.unique"):
        ln.evaluate(model, (x, np.array(["no", "yes"])[y]))


def test_a_feature_axis_elsewhere() -> None:
    x, y = echoes()
    with pytest.raises(ValueError, match=r"^x: expected 2 features, F of .N, T, F., got 6$"):
        ln.evaluate(classifier(), (x.swapaxes(1, 2), y))
    with pytest.raises(ValueError, match=r"6 labels, one for each sequence of x .N, T, F.*.48,.$"):
        ln.evaluate(classifier(), (x.swapaxes(0, 1), y))


def test_a_layer_is_no_model() -> None:
    for call in (ln.fit, ln.evaluate, ln.fit_models, ln.evaluate_models):
        with pytest.raises(TypeError, match=r"^model: expected a SequenceClassifier, .* got LSTM$"):
            call(ln.LSTM(3, 4), echoes())


def test_text_is_tokens() -> None:
    model = ln.LanguageModel(5, 4)
    with pytest.raises(TypeError, match=r"^ids: expected an array, got a tuple of several shapes$"):
        ln.fit(model, echoes(), **QUIET)
    with pytest.raises(ValueError, match=r"^ids: expected the tokens of a text, 1-D, got shape .6, 2.$"):
        ln.fit(model, np.zeros((6, 2), int), **QUIET)


def test_bad_arguments_are_refused() -> None:
    x, y = echoes()
    for options, words in (
        ({"epochs": 0}, "epochs"),
        ({"optimizer": "adamax"}, "optimizer"),
        ({"schedule": "step"}, "schedule"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 0}, "batch_size"),
    ):
        with pytest.raises(ValueError, match=words):
            ln.fit(classifier(), (x, y), **{**QUIET, **options})
    for data in (x, [x, y]):
        with pytest.raises(TypeError, match=r"^data: expected a tuple .x, y., or batches, got"):
            ln.fit(classifier(), data, **QUIET)
    with pytest.raises(TypeError, match=r"^validation: expected a tuple .x, y., or batches, got float"):
        ln.fit(classifier(), (x, y), validation=0.1, **QUIET)
    with pytest.raises(TypeError, match=r"epoch: .*did you mean epochs\?"):
        ln.fit(classifier(), (x, y), epoch=3)
    with pytest.raises(ValueError, match=r"got 'Adam'; did you mean adam\?"):
        ln.fit(classifier(), (x, y), optimizer="Adam", **QUIET)
    with pytest.raises(ValueError, match=r"got 'Cosine'; did you mean cosine\?"):
        ln.fit(classifier(), (x, y), schedule="Cosine", **QUIET)
    with pytest.raises(ValueError, match="max_norm"):
        ln.clip_norm({"a": np.ones(2)}, 0)


def test_clipping() -> None:
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    assert ln.clip_norm(grads, 1.0) == pytest.approx((5.0, 0.2))
    assert ln.clip_norm(grads, 10.0).scale == 1
    assert np.isnan(ln.clip_norm({"a": np.array([np.inf])}, 1.0).scale)
    ln.clip_values(grads, 3.5)
    assert grads["b"][0, 0] == 3.5
    assert grads["a"][0] == 3.0
