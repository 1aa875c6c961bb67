"""Trainings of every cell and option of the recurrent layers: they learn, and go on with the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cli_tools import invoke

OPTIONS = {
    "everything in the step": (
        "--cell", "gru", "--zoneout", "0.1", "--recurrent-dropout", "0.2", "--weight-drop", "0.2",
        "--layers", "2", "--dropout", "0.1",
    ),
    "projection": ("--proj-size", "8", "--bidirectional"),
    "heads": ("--cell", "slstm", "--heads", "2", "--init", "orthogonal"),
    "clockwork": ("--cell", "clockwork", "--periods", "1,3"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_it_learns_and_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    words = "train digits --images 512 --hidden 16 --batch-size 32 --lr 0.01 --seed 1 --schedule constant"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    trained = invoke(words, *OPTIONS[name], "--epochs", 2, "--out", whole, "--json").json()
    assert trained["loss"] < math.log(10) - 0.1
    assert invoke(words, *OPTIONS[name], "--epochs", 1, "--out", stopped).status == 0
    assert invoke("train digits", "--resume", stopped, "--epochs", 2).status == 0
    first, second = (invoke("evaluate", folder, "--json").json() for folder in (whole, stopped))
    assert (first["loss"], first["accuracy"]) == (second["loss"], second["accuracy"])
