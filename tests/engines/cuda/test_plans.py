"""Which kernels sequences ran in, and why."""

from __future__ import annotations

import pytest
from engine_problems import EngineProblem

from lstm_numba.cells import find_cell
from lstm_numba.engines.cuda import plans


def test_the_plans_of_a_block_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setenv(plans.VARIABLE, "general")
    problem = EngineProblem(find_cell("rnn"))
    with plans.reasons() as outer:
        problem.run("cuda")
        with plans.reasons() as inner:
            problem.run("cuda")  # planned already
        before = list(inner)
        monkeypatch.setenv(plans.VARIABLE, "persistent")
        problem.run("cuda")
    by_pass: dict[str, list[str]] = {}
    for (backward, *_), plan in plans._plans.items():
        by_pass.setdefault("backward" if backward else "forward", []).append(plan.reason)
    general, persistent = ([f"{name}: {found[n]}" for name, found in by_pass.items()] for n in (0, 1))
    assert general[0].startswith("forward: general: ")
    assert persistent[1].startswith("backward: persistent: ")
    assert inner == before == general
    assert outer == [*general, *persistent]
    assert plans._listening == []


def test_nothing_listens_after_an_error() -> None:
    with pytest.raises(KeyError), plans.reasons():
        raise KeyError
    assert plans._listening == []
