"""Packed weights that notice changes of their parameters."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engines.cpu import sequence, weight_cache
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.checksum import checksum_part
from lstm_numba.engines.cpu.records import Team
from lstm_numba.engines.cpu.weight_cache import WeightCache

_CELL = ln.make_layer("lstm", 1, 1).cell


def _params(inputs: int, hidden: int, dtype: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (4 * hidden, inputs), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


class _Packer:
    """Counts how often weights have to be packed."""

    def __init__(self, params: dict[str, np.ndarray], parts: int = 1) -> None:
        self.params, self.weight_cache, self.parts, self.count = params, WeightCache(), parts, 0
        self.sums: list[int] = []
        self.place = 0

    def call(self) -> int:
        """One use of the weights; how often they were packed until now."""
        hidden, inputs = self.params["weight_hh"].shape[1], self.params["weight_ih"].shape[1]
        dtype = self.params["weight_hh"].dtype
        located = self.weight_cache.locate(_CELL, self.params, inputs, hidden, hidden, dtype)
        place = self.weight_cache.packed(located, 64).weights
        words = located.words
        sums = [checksum_part(words, len(words) // 2, part, self.parts) for part in range(self.parts)]
        if place != self.place or sums != self.sums:
            self.count += 1
            self.place, self.sums = place, sums
        return self.count


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 7), (40, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_change_of_a_number_is_noticed(inputs: int, hidden: int, dtype: str, parts: int) -> None:
    packer = _Packer(_params(inputs, hidden, dtype), parts)
    assert [packer.call() for _ in range(4)] == [1] * 4
    size = packer.params["weight_ih"].size
    places = [("weight_ih", 0), ("weight_ih", size - 1), ("weight_ih", size // 2), ("bias_ih", 3)]
    for number, (name, place) in enumerate(places, 2):
        packer.params[name].reshape(-1)[place] *= -1  # a single bit
        assert packer.call() == number, (name, place)


def test_each_number_counts() -> None:
    packer = _Packer(_params(19, 3, np.float32))
    packer.call()
    weights = packer.params["weight_ih"].reshape(-1)
    for place in range(weights.size):
        weights[place] *= -1
        assert packer.call() == place + 2, place


def test_sign_flips_in_pairs_swaps_and_new_arrays_are_noticed() -> None:
    packer = _Packer(_params(10, 30, np.float32))
    packer.call()
    a = packer.params["weight_ih"].reshape(-1)
    for number, distance in enumerate((1, 2, 4, 8, 16, 32, 64), 2):
        a[3] *= -1
        a[3 + distance] *= -1
        assert packer.call() == number, distance
    a *= -1
    packer.call()
    a[[10, 18]] = a[[18, 10]]
    packer.call()
    packer.params["bias_ih"] = packer.params["bias_ih"].copy()  # the same numbers elsewhere may change there
    assert packer.call() == 11
    assert packer.call() == 11


def test_a_layer_follows_its_parameters() -> None:
    rnn, x = ln.LSTM(3, 20, seed=0), np.ones((4, 2, 3), np.float32)
    first, _ = rnn(x)
    rnn.params["weight_hh_l0"][7, 3] += 0.5
    changed, _ = rnn(x)
    again = ln.LSTM(3, 20, seed=1)
    again.load_state_dict(rnn.params)
    np.testing.assert_array_equal(changed, again(x)[0])
    assert not np.array_equal(first, changed)


_TEAMS = pytest.mark.parametrize(
    "team", [Team(0, 1, 1), Team(0, 2, 1), Team(1, 2, 1)], ids=["one", "rows", "units"]
)


@_TEAMS
@pytest.mark.parametrize("shared", [False, True], ids=["", "shared"])
def test_weights_that_did_not_change_are_not_packed_again(
    team: Team, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: Plan(team, 2, 1))
    monkeypatch.setattr(weight_cache, "_SHARED", 0 if shared else 1 << 21)
    rnn, x = ln.LSTM(3, 40, seed=0, bias=False, dtype=np.float64), np.ones((4, 8, 3))
    expected, _ = rnn(x)
    assert expected.any()
    weights, _ = rnn._weight_caches[0]._kept.memory
    weights.fill(0)
    assert not rnn(x)[0].any()
    rnn.params["weight_hh_l0"] *= 0.5
    np.testing.assert_array_equal(rnn(x)[0], rnn.forward(x)[0])


@_TEAMS
def test_a_layer_follows_every_parameter(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: Plan(team, 2, 1))
    monkeypatch.setattr(weight_cache, "_SHARED", 0)
    rnn, x = ln.PeepholeLSTM(3, 40, seed=0, dtype=np.float64), np.ones((4, 8, 3))
    seen = [rnn(x)[0]]
    for name, parameter in rnn.params.items():
        for place in (0, parameter.size // 2, parameter.size - 1):
            parameter.reshape(-1)[place] += 0.5
            seen.append(rnn(x)[0])
            kept = rnn(x)[0]
            expected, _, _ = rnn.forward(x)  # packs anew every time
            np.testing.assert_array_equal(seen[-1], expected, err_msg=name)
            np.testing.assert_array_equal(kept, expected, err_msg=name)
            assert not np.array_equal(seen[-1], seen[-2]), (name, place)


def test_other_numbers_of_threads_in_turns() -> None:
    rnn, x = ln.LSTM(64, 64, seed=0), np.ones((40, 64, 64), np.float32)
    for threads in (1, numba.config.NUMBA_NUM_THREADS, 1):
        numba.set_num_threads(threads)
        for _ in range(2):
            before, _ = rnn(x)
            np.testing.assert_array_equal(before, rnn.forward(x)[0])
            rnn.params["weight_hh_l0"] *= 0.5
            changed, _ = rnn(x)
            assert not np.array_equal(changed, before)
            np.testing.assert_array_equal(changed, rnn.forward(x)[0])


def test_threads_that_find_the_weights_changed_at_the_same_time() -> None:
    rnn, x = ln.PeepholeLSTM(8, 24, seed=0, dtype=np.float64), np.ones((2, 1, 8))
    rounds, workers, results = 200, 4, {}
    weights = np.random.default_rng(0).standard_normal((rounds, *rnn.params["weight_hh_l0"].shape))
    together = threading.Barrier(workers)

    def work(number: int) -> None:
        for n in range(rounds):
            if together.wait() == 0:
                rnn.params["weight_hh_l0"][...] = weights[n]
            together.wait()
            results[n, number] = rnn(x)[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(rounds):
        rnn.params["weight_hh_l0"][...] = weights[n]
        expected = rnn.forward(x)[0]
        for number in range(workers):
            np.testing.assert_array_equal(results[n, number], expected)


def test_parameters_may_be_any_arrays_of_their_shape_and_type() -> None:
    rnn, x = ln.LSTM(3, 20, seed=0), np.ones((4, 2, 3), np.float32)
    expected, _ = rnn(x)
    weight = rnn.params["weight_hh_l0"]
    wide = np.zeros((80, 41), np.float32)
    for view in (np.asfortranarray(weight), wide[:, ::2][:, :20]):
        view[...] = weight
        rnn.params["weight_hh_l0"] = view
        np.testing.assert_array_equal(rnn(x)[0], expected)
        view[70, 19] += 1
        assert not np.array_equal(rnn(x)[0], expected)
    for wrong, error, operand in (
        (weight.astype(np.float64), TypeError, r"weight_hh\w*: expected (dtype )?float32, got float64"),
        (weight[:, :19], ValueError, r"weight_hh: expected shape \(80, 20\), got \(80, 19\)"),
    ):
        rnn.params["weight_hh_l0"] = wrong
        for run in (rnn, rnn.forward, lambda _: ln.Stream(rnn)):
            with pytest.raises(error, match=operand):
                run(x)
