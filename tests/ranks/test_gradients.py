"""Sums of gradients over ranks that are threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rank_threads import on_ranks

from lstm_numba.engines import engine
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.ranks import gradients
from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.gradients import GradientSum

SHAPES = {"table": (50, 6), "first": (30, 40), "bias": (4,), "last": (40, 30)}


def arrays(rank: int, step: int) -> dict[str, Any]:
    """Gradients of a rank; of the table some rows, an own one and one that all have."""
    rng = np.random.default_rng((rank, step))
    found: dict[str, Any] = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    indices = np.array([7, 20 + rank])
    found["table"] = SparseRows(indices, found["table"][indices].copy(), SHAPES["table"])
    return found


def dense(gradient: Any) -> Any:
    """A gradient as a whole array."""
    return gradient.to_dense() if isinstance(gradient, SparseRows) else gradient


@pytest.mark.parametrize("large", [0, 4000, 1 << 30], ids=["all large", "some", "all small"])
@pytest.mark.parametrize("rows", [2, 40], ids=["few rows", "many rows"])
@pytest.mark.parametrize("overlap", [True, False])
def test_sums_are_those_of_all_ranks(
    large: int, rows: int, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "LARGE", large)
    cpu = engine("cpu")
    params = {name: np.empty(shape, np.float32) for name, shape in SHAPES.items()}

    def work(ranks: Ranks) -> list[tuple[dict[str, Any], Any]]:
        total = GradientSum(ranks, cpu, params, overlap)
        found = []
        for step in range(2):
            own = arrays(ranks.rank, step)
            total.begin(rows)
            # As a backward pass, the last ones first, but two at a time, and those of the middle late.
            total.ready({"last": own["last"], "bias": own["bias"]})
            total.ready({"table": own["table"]})
            total.ready({"first": own["first"]})
            numbers = np.array([ranks.rank + 1.0, 10.0])
            sums = total.finish(numbers)
            found.append(({name: np.array(dense(one)) for name, one in sums.items()}, numbers))
            assert isinstance(sums["table"], SparseRows) == (rows == 2)
        return found

    results = on_ranks(3, work)
    for step in range(2):
        every = [arrays(rank, step) for rank in range(3)]
        for sums, numbers in (result[step] for result in results):
            assert list(sums) == list(SHAPES)
            assert numbers.tolist() == [6.0, 30.0]
            for name in SHAPES:
                wanted = sum(dense(one[name]).astype(np.float64) for one in every)
                np.testing.assert_allclose(sums[name], wanted, rtol=1e-6, atol=1e-6)
                np.testing.assert_array_equal(sums[name], results[0][step][0][name])  # the same bits


def test_a_small_network_is_one_reduction_a_step() -> None:
    params = {name: np.empty(shape, np.float32) for name, shape in SHAPES.items() if name != "table"}

    def work(ranks: Any) -> list[int]:
        total = GradientSum(ranks, engine("cpu"), params)
        total.ready({name: np.ones(shape.shape, np.float32) for name, shape in params.items()})
        total.finish(np.zeros(2))
        return list(ranks.sums)

    assert on_ranks(2, work) == [[2 + 1200 + 4 + 1200]] * 2


def test_sums_begin_in_one_order_while_others_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ready waits for those before it, as all ranks must begin alike; events tell of it."""
    monkeypatch.setattr(gradients, "LARGE", 0)
    params = {name: np.empty(shape, np.float32) for name, shape in SHAPES.items() if name != "table"}
    found = []
    for given in (["last", "bias", "first"], ["first", "bias", "last"]):
        total = GradientSum(Ranks(), engine("cpu"), params)
        total.events = []
        for name in given:
            total.ready({name: np.ones(SHAPES[name], np.float32)})
        total.finish(np.zeros(1))
        begun = {event.name: event.begin for event in total.events if event.kind == "sum"}
        ready = {event.name: event.end for event in total.events if event.kind == "backward"}
        found.append((begun, ready))
        assert list(begun) == ["last", "bias", "first"]
        assert sorted(begun.values()) == list(begun.values())
    (begun, ready), (late, last) = found
    assert begun["last"] < ready["first"]  # overlap
    assert min(late.values()) > last["bias"]
