"""The choices that are timed on a GPU are what their names say; what the checks there say."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from lstm_numba.benchmarks import correctness
from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.gpu import choices, kernels, smoke
from lstm_numba.benchmarks.implementations import Cuda, Problem
from lstm_numba.engines.cuda import persistent_layout, plans

SHAPE = Shape("tiny", 3, 3, 2, 3)


def a_call(cell: str) -> Cuda:
    return Cuda(Problem(cell, SHAPE, "training", "float32"), 1)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a program says."""
    lines: list[dict[str, Any]] = []
    for module in (smoke, kernels):
        monkeypatch.setattr(module, "say", lambda kind, **facts: lines.append({"kind": kind, **facts}))
    return lines


def test_a_choice_is_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plans.VARIABLE, "general")
    before, layouts = plans._plans, persistent_layout.layouts
    makers = (choices.kernel_candidates, choices.layout_candidates)
    kinds, layouts_found = (make("rnn", SHAPE) for make in makers)
    assert list(kinds) == ["persistent", "general"]
    assert len(layouts_found) == choices.NEXT_LAYOUTS
    seen = []
    call = a_call("rnn")
    for name, choose in {**kinds, **layouts_found}.items():
        with choose():
            lines = call.kernels()
            made = {key[0]: plan for key, plan in plans._plans.items()}
        forward, backward = (line.split(": ", 2) for line in lines)
        assert (forward[0], backward[0]) == ("forward", "backward")
        kernel = name if name in choices.KERNELS else "persistent"
        assert (forward[1], backward[1]) == (kernel, kernel)
        if name not in choices.KERNELS:
            threads = [f"{made[way].block[0]} x {made[way].block[1]} threads" for way in (False, True)]
            words = f"forward {forward[2]}, {threads[0]}; backward {backward[2]}, {threads[1]}"
            assert name.split(": ", 1)[1] == words
        seen.append(tuple((made[way].kernel, made[way].block, type(made[way].tile)) for way in (False, True)))
    assert len(set(seen)) == len(seen)
    assert os.environ[plans.VARIABLE] == "general"
    assert plans._plans is before
    assert persistent_layout.layouts is layouts


def test_a_general_kernel_does_not_pass_for_a_persistent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plans.VARIABLE, raising=False)
    for cell, way, why in (
        ("layer-norm-lstm", lambda: choices.kernel("persistent"), "means"),
        ("rnn", lambda: choices.layout(10_000), "fits"),
    ):
        call = a_call(cell)
        with pytest.raises(choices.NotSelectable, match=why), way():
            call.kernels()
    assert plans.VARIABLE not in os.environ


@pytest.mark.parametrize("spoilt", ["", "other bits", "other numbers"])
def test_all_ways_are_compared(
    spoilt: str, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, runs = correctness.compute, [0]

    def spoiling(implementation: Any, problem: Problem) -> dict[str, Any]:
        arrays = compute(implementation, problem)
        if os.environ.get(plans.VARIABLE) == "persistent":
            runs[0] += 1
            if spoilt == "other numbers":
                arrays["dx"] = arrays["dx"] * np.float32(1.001)
            if spoilt == "other bits" and runs[0] == 3:
                arrays["dx"] = np.nextafter(arrays["dx"], np.float32(9))
        return arrays

    monkeypatch.setattr(correctness, "compute", spoiling)
    monkeypatch.setattr(smoke, "_REPEATS", 3)
    monkeypatch.setattr(smoke, "HIDDENS", (3,))
    monkeypatch.setattr(smoke, "BATCHES", (2,))
    monkeypatch.delenv(plans.VARIABLE, raising=False)
    smoke.run_cell("rnn")
    reference, bits, alike = said
    assert (reference["kind"], reference["right"]) == ("reference", True)
    others = {"SingleBlock": 0, "CooperativeGrid": 0, "persistent": int(spoilt == "other bits")}
    assert (bits["kind"], bits["runs_with_other_bits"]) == ("same bits", others)
    assert bits["right"] == (spoilt != "other bits")
    assert (alike["kind"], alike["right"]) == ("kernels alike", spoilt != "other numbers")
    assert ("dx" in alike["worst"]) == (spoilt == "other numbers")


def test_the_program_says_which_kernels_it_times(
    said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(plans.VARIABLE, raising=False)
    monkeypatch.setattr(kernels, "wall_us", lambda call: {"us": 1.0})
    monkeypatch.setattr(kernels, "device_us", lambda call: {"device_us": 2.0})
    monkeypatch.setattr(kernels, "by_kernel", lambda call: {"persistent_forward_kernel": (1, 3.0)})
    kernels.engine("rnn", SHAPE)
    inference, training = (line for line in said if line["kind"] == "plans")
    assert [line.split(": ")[:2] for line in training["reasons"]] == [
        ["forward", "persistent"],
        ["backward", "persistent"],
    ]
    assert inference["reasons"] == training["reasons"][:1]
    said.clear()
    kernels.both_kernels("layer-norm-lstm", SHAPE)
    by_name = {line["choice"]: line for line in said}
    assert "means" in by_name["persistent"]["not_selectable"]
    assert by_name["general"]["us"] == {
        task: {"persistent_forward_kernel": 3.0} for task in ("inference", "training")
    }
    assert by_name["general"]["reasons"][0].startswith("forward: general: ")
