"""Generated gestures: the same for ever, even classes, and neither trivial nor hopeless to tell apart."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_numba.data import gestures
from lstm_numba.metrics import accuracy
from lstm_numba.training.baselines import LogisticRidge, Majority

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def table() -> Any:
    return gestures.table()


def padded(
    columns: dict[str, npt.NDArray[Any]],
) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sequences (N, T, 3), labels (N,) and lengths (N,)."""
    lengths = np.bincount(columns["gesture"])
    ends = np.cumsum(lengths)
    x = np.zeros((len(lengths), lengths.max(), 3))
    x[np.arange(x.shape[1]) < lengths[:, None]] = np.stack([columns[axis] for axis in "xyz"], axis=1)
    labels = np.array([gestures.CLASSES.index(label) for label in columns["label"][ends - 1]])
    return x, labels, lengths


@pytest.mark.smoke
def test_the_same_for_ever(table: Any) -> None:
    digest = hashlib.sha256()
    for axis in "xyz":
        digest.update(np.rint(table[axis] * 1000).astype("<i8").tobytes())
    digest.update(table["gesture"].astype("<i8").tobytes() + "".join(table["label"]).encode())
    assert digest.hexdigest() == "2d2d7f1bab6b41a93ea746018f12d5cbfaa799e98fea04847d7eb1cf85b0d0ff"


def test_form(table: Any) -> None:
    assert list(table) == ["gesture", "x", "y", "z", "label"]
    rows = len(table["gesture"])
    assert all(column.shape == (rows,) for column in table.values())
    assert table["gesture"].dtype == np.int64
    assert table["label"].dtype.kind == "U"
    assert set(np.unique(np.diff(table["gesture"]))) == {0, 1}
    assert (table["gesture"][0], table["gesture"][-1]) == (0, 359)
    lengths = np.bincount(table["gesture"])
    assert (lengths.min(), lengths.max()) == (gestures.SHORTEST, gestures.LONGEST)
    assert lengths.mean() == pytest.approx(50.0, abs=4 * 17.6 / np.sqrt(360))
    for first in np.cumsum(lengths)[:-1]:
        assert len(set(table["label"][first : first + 20])) == 1


def test_classes_are_even_and_in_no_order(table: Any) -> None:
    _, labels, _ = padded(table)
    assert np.bincount(labels).tolist() == [120, 120, 120]
    assert all(sorted(three) == [0, 1, 2] for three in labels.reshape(-1, 3).tolist())
    orders, counts = np.unique(labels.reshape(-1, 3), axis=0, return_counts=True)
    assert len(orders) == 6
    assert ((counts - 20.0) ** 2 / 20.0).sum() < 5 + 4 * np.sqrt(10)


def test_seeds_differ_and_counts_do_not(table: Any) -> None:
    few, other = gestures.table(count=7), gestures.table(seed=1, count=7)
    assert few["gesture"][-1] == 6
    for name, column in few.items():
        np.testing.assert_array_equal(column, table[name][: len(column)])
    assert not np.array_equal(few["x"][:20], other["x"][:20])


def test_gravity_and_noise(table: Any) -> None:
    """A movement begins and ends with pauses, in which there is gravity of 1 g and noise."""
    x, labels, _ = padded(table)
    first = np.linalg.norm(x[:, 0], axis=1)
    assert np.mean(first) == pytest.approx(1.0, abs=0.05)
    assert np.std(first) < 2.0 * gestures.NOISE
    # Nothing about the class in the gravity's direction: means of the first step differ by chance only.
    for axis in range(3):
        means = [x[labels == label, 0, axis].mean() for label in range(3)]
        assert np.ptp(means) < 5.0 * x[:, 0, axis].std() / np.sqrt(120)


def test_lengths_and_strengths_tell_nothing(table: Any) -> None:
    _, labels, lengths = padded(table)
    means = [lengths[labels == label].mean() for label in range(3)]
    assert np.ptp(means) < 5.0 * lengths.std() / np.sqrt(120)


def parts(table: Any) -> Any:
    x, labels, lengths = padded(table)
    return [(x[rows], labels[rows], lengths[rows]) for rows in (slice(180), slice(180, 240), slice(240, 360))]


def test_a_linear_model_on_a_summary_is_neither_at_chance_nor_perfect() -> None:
    scores = []
    for seed in range(4):
        train, valid, test = parts(gestures.table(seed))
        model = LogisticRidge(3).fit(*train, validation=valid)
        scores.append(accuracy(test[1], model.predict(test[0], test[2])))
        majority = Majority(3).fit(train[1]).predict(test[0])
        assert accuracy(test[1], majority) == pytest.approx(1.0 / 3.0)
    print("accuracy", scores)
    assert 0.6 < np.mean(scores) < 0.9


def in_order(x: Array, lengths: npt.NDArray[np.int64]) -> Array:
    """What the order of a gesture's values says: the share of its second direction, and its reversals."""
    features = []
    for steps, length in zip(x, lengths, strict=True):
        values = steps[:length]
        smooth = np.stack([np.convolve(values[:, k], np.ones(3) / 3.0, "valid") for k in range(3)], axis=1)
        ends = np.concatenate([values[:3], values[-3:]]).mean(axis=0)
        moved = smooth - ends
        _, sizes, directions = np.linalg.svd(moved, full_matrices=False)
        along, across = moved @ directions[0], moved @ directions[1]
        area = np.abs(np.sum(along[1:] * across[:-1] - along[:-1] * across[1:]))
        level = 0.4 * np.abs(along).max()
        signs = np.sign(along[np.abs(along) > level])
        features.append([area / sizes[0] / sizes[1], sizes[1] / sizes[0], np.sum(signs[1:] != signs[:-1])])
    return np.array(features)


def test_the_order_of_the_values_tells_the_classes() -> None:
    """Three numbers that depend on the order do better than nineteen that do not."""
    scores = []
    for seed in range(4):
        train, valid, test = (
            (in_order(x, lengths)[:, None], labels) for x, labels, lengths in parts(gestures.table(seed))
        )
        model = LogisticRidge(3).fit(*train, validation=valid)
        scores.append(accuracy(test[1], model.predict(test[0])))
    print("accuracy", scores)
    assert np.mean(scores) > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0, got -1"),
        ({"count": 0}, ValueError, "count: expected an integer >= 1, got 0"),
        ({"count": "9"}, TypeError, "count: expected an integer, got str"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        gestures.table(**arguments)
