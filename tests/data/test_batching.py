"""Batches against the loops that define them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_numba.data import BatchOrder, ContiguousBatches, evaluation_rows, held_out
from lstm_numba.errors import DataError

SIZES = [
    (100, 4, 5),
    (101, 4, 5),
    (103, 1, 7),
    (24, 4, 5),
    (929, 20, 35),
    (720, 20, 35),
    (41, 20, 1),
    (30, 3, 9),
]


@pytest.mark.parametrize(("count", "batch", "bptt"), SIZES)
def test_contiguous_batches_are_the_literatures(count: int, batch: int, bptt: int) -> None:
    """As TensorFlow's tutorial cuts the text: data[b * length + k * bptt + t]."""
    ids = np.random.default_rng(count).integers(0, 50, count)
    batches = ContiguousBatches(ids, batch, bptt)
    length = count // batch
    assert len(batches) == (length - 1) // bptt
    assert batches.tokens == len(batches) * batch * bptt
    for k, (x, y) in enumerate(batches):
        assert x.dtype == y.dtype == np.int32
        assert x.flags.c_contiguous
        assert y.flags.c_contiguous
        assert x.shape == y.shape == (bptt, batch)
        for b in range(batch):
            for t in range(bptt):
                place = b * length + k * bptt + t
                assert x[t, b] == ids[place]
                assert y[t, b] == ids[place + 1]
    with pytest.raises(IndexError):
        batches.window(len(batches))
    with pytest.raises(IndexError):
        batches.window(-1)


def test_contiguous_batches_of_ptbs_size() -> None:
    """929589 tokens, batch 20, bptt 35: 1327 windows, as everyone who counted reports."""
    assert len(ContiguousBatches(np.zeros(929_589, np.int32), 20, 35)) == 1327


def test_the_shortest_text_that_has_a_window() -> None:
    assert len(ContiguousBatches(np.arange(24), 4, 5)) == 1
    with pytest.raises(DataError, match=r"23 tokens, but batch size 4 times .* needs 24"):
        ContiguousBatches(np.arange(23), 4, 5)
    with pytest.raises(DataError, match="0 tokens"):
        ContiguousBatches(np.zeros(0, np.int32), 4, 5)


@pytest.mark.parametrize(
    ("count", "batch", "bptt"), [*SIZES, (2, 1, 1), (2, 8, 35), (9, 4, 2), (10, 9, 1), (8, 7, 3)]
)
def test_evaluation_predicts_every_token_once(count: int, batch: int, bptt: int) -> None:
    ids = np.arange(1000, 1000 + count)  # each token tells its place
    rows = evaluation_rows(ids, batch, bptt)
    assert rows.tokens == count - 1
    assert rows.batch_size == min(batch, count - 1)
    streams: list[list[tuple[int, int]]] = [[] for _ in range(rows.batch_size)]
    for k, window in enumerate(rows):
        assert window.x.shape == window.y.shape == window.weights.shape
        assert window.x.shape[1] == rows.batch_size
        assert 1 <= len(window.x) <= bptt
        assert len(window.x) == bptt or k == len(rows) - 1
        for b in range(rows.batch_size):
            inside = int(window.lengths[b])
            np.testing.assert_array_equal(window.weights[:, b], np.arange(len(window.x)) < inside)
            assert not window.x[inside:, b].any()
            assert not window.y[inside:, b].any()
            streams[b] += list(zip(window.x[:inside, b].tolist(), window.y[:inside, b].tolist(), strict=True))
    lengths = [len(stream) for stream in streams]
    assert max(lengths) - min(lengths) <= 1
    together = [pair for stream in streams for pair in stream]
    assert together == [(place, place + 1) for place in range(1000, 1000 + count - 1)]
    with pytest.raises(IndexError):
        rows.window(len(rows))


def test_evaluation_of_too_short_texts() -> None:
    for count in (0, 1):
        with pytest.raises(DataError, match=f"too short to predict anything: {count} tokens"):
            evaluation_rows(np.zeros(count, np.int32), 2, 3)


@pytest.mark.parametrize("make", [ContiguousBatches, evaluation_rows])
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.zeros((3, 3), np.int32), 1, 1), ValueError, r"ids: expected the tokens .*1-D, got shape .3, 3."),
        ((np.zeros(9), 1, 1), TypeError, "ids: expected integers, got float64"),
        ((np.zeros(9, np.int32), 0, 1), ValueError, "batch_size: expected an integer >= 1, got 0"),
        ((np.zeros(9, np.int32), 1, -2), ValueError, "bptt: expected an integer >= 1, got -2"),
        ((np.zeros(9, np.int32), 1.0, 1), TypeError, "batch_size: expected an integer, got float"),
        ((np.zeros(9, np.int32), 1, True), TypeError, "bptt: expected an integer, got bool"),
    ],
)
def test_bad_arguments(make: Any, arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make(*arguments)


@pytest.mark.parametrize(
    ("count", "size", "drop"), [(10, 3, False), (10, 3, True), (9, 3, False), (2, 5, False)]
)
def test_batch_order_covers_each_epoch_once(count: int, size: int, drop: bool) -> None:
    order = BatchOrder(count, size, seed=7, drop_last=drop)
    assert len(order) == (count // size if drop else -(-count // size))
    for epoch in (0, 1, 5):
        batches = [order.batch(epoch, k) for k in range(len(order))]
        assert all(len(batch) == size for batch in batches[: count // size])
        seen = np.concatenate(batches)
        assert len(np.unique(seen)) == len(seen) == (count // size * size if drop else count)
        np.testing.assert_array_equal(np.sort(order.epoch(epoch)), np.arange(count))


@pytest.mark.smoke
def test_batch_order_depends_on_seed_and_epoch_alone() -> None:
    order = BatchOrder(1000, 32, seed=3)
    later = order.epoch(4).copy()
    order.epoch(0)
    np.testing.assert_array_equal(order.epoch(4), later)
    np.testing.assert_array_equal(BatchOrder(1000, 64, seed=3).epoch(4), later)
    assert not np.array_equal(order.epoch(5), later)
    assert not np.array_equal(BatchOrder(1000, 32, seed=4).epoch(4), later)
    # A run resumed after an update must go on with the same order.
    assert BatchOrder(10, 3, seed=1).epoch(2).tolist() == [1, 4, 5, 9, 7, 3, 2, 0, 6, 8]


def test_batch_order_shuffles_well() -> None:
    """Each item is equally often in each place: chi-square over 2000 epochs of 8 items."""
    order = BatchOrder(8, 8, seed=0)
    counts = np.zeros((8, 8))
    for epoch in range(2000):
        counts[np.arange(8), order.epoch(epoch)] += 1
    chi_square = ((counts - 250.0) ** 2 / 250.0).sum()
    assert chi_square < 49 + 4 * np.sqrt(2 * 49)


def test_batch_order_refuses() -> None:
    with pytest.raises(ValueError, match="count: expected an integer >= 1, got 0"):
        BatchOrder(0, 1)
    with pytest.raises(TypeError, match="seed: expected an integer, got str"):
        BatchOrder(1, 1, "a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epoch: expected an integer >= 0, got -1"):
        BatchOrder(3, 1).epoch(-1)
    with pytest.raises(IndexError, match="k: expected 0 to 2, got 3"):
        BatchOrder(3, 1).batch(0, 3)


@pytest.mark.smoke
def test_held_out() -> None:
    kept, held = held_out(100, 10, seed=2)
    assert len(held) == 10
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(held) > 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(100))
    np.testing.assert_array_equal(held_out(100, 10, seed=2)[1], held)
    assert not np.array_equal(held_out(100, 10, seed=3)[1], held)
    assert len(held_out(5, 0)[1]) == 0
    with pytest.raises(ValueError, match="held: expected fewer than the 5 items, got 5"):
        held_out(5, 5)
