"""Ranges by themselves: values, conditions, combinations."""

from __future__ import annotations

import pytest

from lstm_numba.sweeps.ranges import Domain, SweepError, combinations, read_domain, some_combinations
from lstm_numba.training.settings import SETTINGS

OPTIMIZER = Domain("optimizer", ("sgd", "adam"))
MOMENTUM = Domain("momentum", low=0.0, high=0.6, step=0.3, when={"optimizer": ("sgd",)})


def test_values_of_steps_are_round_numbers_and_both_ends_are_among_them() -> None:
    assert Domain("dropout", low=0.0, high=0.3, step=0.1).values() == [0.0, 0.1, 0.2, 0.3]
    assert Domain("hidden", low=16, high=64, step=16, whole=True).values() == [16, 32, 48, 64]
    assert Domain("layers", low=1, high=3, whole=True).values() == [1, 2, 3]
    assert Domain("lr", low=0.1, high=0.3).values() is None


def test_combinations_leave_out_what_has_no_condition_fulfilled() -> None:
    domains = {"optimizer": OPTIMIZER, "momentum": MOMENTUM}
    points = {name: one.values() or [] for name, one in domains.items()}
    assert list(combinations(domains, points)) == [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "momentum": 0.3},
        {"optimizer": "sgd", "momentum": 0.6},
        {"optimizer": "adam"},
    ]


def test_combinations_to_check_are_all_or_as_many_as_are_wanted() -> None:
    hidden = Domain("hidden", low=1, high=1000, whole=True)
    few = list(some_combinations({"hidden": hidden, "optimizer": OPTIMIZER}, 100))
    assert [one["hidden"] for one in few] == [1, 1, 2, 2, 1000, 1000]
    domains = {f"n{k}": Domain(f"n{k}", tuple(range(16))) for k in range(4)}
    drawn = list(some_combinations(domains, 50))
    assert len(drawn) == 50
    assert len({tuple(one.values()) for one in drawn}) > 40
    assert drawn == list(some_combinations(domains, 50))


def test_kinds_of_ranges() -> None:
    lr = read_domain("lr", SETTINGS["lr"], {"low": 1, "high": 2})
    assert (lr.low, lr.high, lr.whole, lr.log, lr.choices) == (1.0, 2.0, False, False, ())
    assert isinstance(lr.low, float)
    assert read_domain("lr", SETTINGS["lr"], [1, 0.5]).choices == (1.0, 0.5)
    assert read_domain("hidden", SETTINGS["hidden"], {"low": 1, "high": 9, "log": True}).whole
    clip = read_domain("clip", SETTINGS["clip"], [0, 1])  # 0 stands for none, as on the command line
    assert clip.choices == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("lr", {"low": 1}, "high"),
        ("lr", {"low": 2, "high": 1}, "high"),
        ("lr", {"low": 0, "high": 1}, "low"),
        ("lr", {"low": 0.1, "high": 1, "step": 0.4}, "high"),
        ("lr", {"low": 0.1, "high": 1, "step": -0.1}, "step"),
        ("lr", {"low": 0.1, "high": 1, "step": 0.1, "log": True}, "step"),
        ("lr", {"low": 0.1, "high": 1, "log": 1}, "log"),
        ("dropout", {"low": 0, "high": 0.5, "log": True}, "low"),
        ("dropout", {"low": 0, "high": 1}, "high"),
        ("hidden", {"low": 1, "high": 2.0}, "high"),
        ("hidden", {"low": True, "high": 2}, "low"),
        ("lr", {"choices": [0.1, 0.2], "high": 2}, "high"),
        ("lr", {"low": 0.1, "hihg": 2}, "hihg"),
        ("lr", [0.1, -0.1], ""),
        ("lr", [0.1, "0.2"], ""),
        ("lr", [1, 1.0], ""),
        ("lr", 0.1, ""),
        ("optimizer", {"low": 1, "high": 2}, ""),
        ("optimizer", ["sgd", "adm"], ""),
        ("tie", [True, 1], ""),
    ],
)
def test_refused(name: str, value: object, word: str) -> None:
    with pytest.raises(SweepError) as caught:
        read_domain(name, SETTINGS[name], value)
    assert caught.value.word == word
