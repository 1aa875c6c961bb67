"""Dropout of the models: rates of their own at input and output, whole words, one mask a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.models import LanguageModel, TokenBatch
from lstm_numba.models.base import SequenceBatch

V, T, B = 11, 6, 3


def philox(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def window(seed: int = 0) -> TokenBatch:
    rng = np.random.default_rng(seed)
    return TokenBatch(rng.integers(V, size=(T, B)), rng.integers(V, size=(T, B)))


def reseeded(model: Any, seed: int = 3) -> Any:
    model.rng = model.rnn.rng = philox(seed)
    return model


def dense(gradient: Any) -> Any:
    return gradient.to_dense() if hasattr(gradient, "to_dense") else np.array(gradient)


@pytest.mark.parametrize(
    "options",
    [
        {"tie": True, "dropout": 0.3, "weight_drop": 0.2, "embedding_dropout": 0.3},
        {"dropout": 0.1, "input_dropout": 0.4, "output_dropout": 0.5},
    ],
    ids=["awd", "rates"],
)
@pytest.mark.parametrize("kind", ["sequence", "element"])
def test_gradients_are_those_of_the_masked_loss(kind: str, options: dict[str, Any]) -> None:
    """Central differences of every parameter's element that matters most, with the same masks."""
    model = LanguageModel(V, 5, layers=2, dropout_kind=kind, dtype=np.float64, seed=1, **options)
    batch, step = window(), 1e-5
    grads = {name: dense(g) for name, g in reseeded(model).loss_and_gradients(batch).grads.items()}
    assert grads.keys() == model.params.keys()
    rng = np.random.default_rng(2)
    for name, array in model.params.items():
        flat, found = array.reshape(-1), grads[name].reshape(-1)
        for place in (int(np.argmax(np.abs(found))), int(rng.integers(flat.size))):
            before, losses = flat[place], []
            for sign in (1, -1):
                flat[place] = before + sign * step
                losses.append(reseeded(model).loss_and_gradients(batch).objective)
            flat[place] = before
            truth = (losses[0] - losses[1]) / (2 * step)
            assert found[place] == pytest.approx(truth, rel=1e-6, abs=1e-9), name


def masks_of(model: Any, batch: TokenBatch) -> dict[str, np.ndarray]:
    """The masks that a step leaves in the workspace."""
    reseeded(model).loss_and_gradients(batch)
    names = ("mask_words", "mask_in", "mask_out")
    return {n: np.array(a).reshape(T, B, -1) for n, a in model.workspace._arrays.items() if n in names}


def test_whole_words_are_dropped_all_over_the_window() -> None:
    model = LanguageModel(V, 8, embedding_dropout=0.4, seed=0)
    dropped = set()
    for seed in range(5):
        batch = window(seed)
        masks = masks_of(model, batch)
        assert [*masks] == ["mask_words"]
        mask = masks["mask_words"]
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.6)}
        for word in range(V):
            places = batch.inputs == word
            assert len(np.unique(mask[places])) == (1 if places.any() else 0)
            if places.any() and not mask[places].any():
                dropped.add(word)
                grads = reseeded(model).loss_and_gradients(batch).grads
                assert not dense(grads["embedding.weight"])[word].any()
    assert dropped  # the same words each time: the seed is
    assert len({*range(V)} - dropped) > 0


def test_a_dropped_word_is_a_zero_row_of_the_table() -> None:
    model = LanguageModel(V, 8, embedding_dropout=0.4, seed=0, dtype=np.float64)
    batch = window()
    mask = masks_of(model, batch)["mask_words"]
    found = reseeded(model).loss_and_gradients(batch).objective
    plain = LanguageModel(V, 8, seed=0, dtype=np.float64)
    for word in range(V):
        places = batch.inputs == word
        plain.params["embedding.weight"][word] *= mask[places].max() if places.any() else 1.0
    assert found == pytest.approx(plain.loss_and_gradients(batch).objective, rel=1e-12)
    assert found != pytest.approx(model.evaluate(batch).objective, rel=1e-6)


def test_one_mask_a_window_and_another_in_the_next() -> None:
    options: dict[str, Any] = {"dropout": 0.5, "dropout_kind": "sequence", "seed": 0}
    model = LanguageModel(V, 16, layers=2, **options)
    first = masks_of(model, window())
    assert {*first} == {"mask_in", "mask_out"}
    for mask in first.values():
        np.testing.assert_array_equal(mask, np.broadcast_to(mask[:1], mask.shape))
        assert set(np.unique(mask)) == {np.float32(0), np.float32(2)}
    model.loss_and_gradients(window())  # the stream has moved on
    for name, mask in first.items():
        assert not np.array_equal(mask, np.array(model.workspace._arrays[name]).reshape(T, B, -1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dropout": 0.5}, {"mask_in": 0.5, "mask_out": 0.5}),
        ({"dropout": 0.5, "input_dropout": 0.0}, {"mask_out": 0.5}),
        ({"input_dropout": 0.25, "output_dropout": 0.75}, {"mask_in": 0.25, "mask_out": 0.75}),
        ({"dropout": 0.5, "output_dropout": 0.0, "input_dropout": 0.25}, {"mask_in": 0.25}),
    ],
)
def test_rates(options: dict[str, float], expected: dict[str, float]) -> None:
    model = LanguageModel(V, 128, seed=0, **options)  # type: ignore[arg-type]
    found = masks_of(model, window())
    assert {*found} == {*expected}
    for name, p in expected.items():
        assert found[name].max() == np.float32(1 / (1 - p))
        assert abs(np.mean(found[name] == 0) - p) < 5 * np.sqrt(p * (1 - p) / found[name].size)


def test_classifiers_have_a_rate_before_their_output() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((T, B, 4)).astype(np.float32), rng.integers(3, size=B)
    losses = []
    for rates in ({}, {"dropout": 0.5}, {"dropout": 0.5, "output_dropout": 0.0}, {"output_dropout": 0.5}):
        model = reseeded(ln.SequenceClassifier(4, 5, 3, seed=0, **rates))  # type: ignore[arg-type]
        losses.append(model.loss_and_gradients(SequenceBatch(x, labels)).objective)
    # One layer: nothing is between layers.
    assert losses[0] == losses[2] != losses[1] == losses[3]


def test_a_regressor_of_every_step_drops_the_same_at_all() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, 2))
    options: dict[str, Any] = {"per_step": True, "dtype": np.float64, "seed": 0, "dropout_kind": "sequence"}
    model = ln.SequenceRegressor(4, 5, 2, output_dropout=0.5, **options)
    grads = reseeded(model).loss_and_gradients(SequenceBatch(x, y)).grads
    plain = ln.SequenceRegressor(4, 5, 2, **options)
    mask = np.where(philox(3).random((1, B, 5), dtype=np.float32) >= 0.5, 2.0, 0.0)
    outputs, _ = plain.rnn(x)
    scores = (outputs * mask) @ plain.params["output.weight"].T + plain.params["output.bias"]
    wanted = np.einsum("tbo,tbh->oh", 2 * (scores - y), outputs * mask) / y.size
    np.testing.assert_allclose(grads["output.weight"], wanted, rtol=1e-10)


def test_a_model_is_made_again_of_its_configuration() -> None:
    options: dict[str, Any] = {
        "dropout": 0.1, "dropout_kind": "sequence", "embedding_dropout": 0.2, "input_dropout": 0.3,
        "output_dropout": 0.4, "layers": 2,
    }  # fmt: skip
    model = LanguageModel(V, 6, seed=0, **options)
    assert {name: model.config()[name] for name in options} == options
    again = LanguageModel.from_config(model.config(), seed=0)
    first, second = (reseeded(one).loss_and_gradients(window()).objective for one in (model, again))
    assert first == second


@pytest.mark.parametrize("name", ["embedding_dropout", "input_dropout", "output_dropout"])
def test_rates_are_probabilities(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected a probability in \[0, 1\), got 1.5"):
        LanguageModel(V, 4, **{name: 1.5})  # type: ignore[arg-type]
