"""The pages of the experiments: what runs printed."""

from __future__ import annotations

import json
import re

import pytest
from repository import ROOT

from lstm_numba.benchmarks import experiments
from lstm_numba.cli.experiments.experiment import EXPERIMENTS

FOLDER = ROOT / "benchmarks" / "results" / "experiments"
PAGE = (ROOT / "lstm_numba" / "experiments" / "README.md").read_text(encoding="utf-8")


def test_the_page_has_what_the_runs_printed() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"<!-- experiment {name} -->\n" in text for name in EXPERIMENTS)
    assert experiments.with_tables(text, FOLDER) == text
    assert text.count("\n- held: ") + text.count("\n- **did not hold**: ") > len(EXPERIMENTS)


def test_a_block_gets_table_and_claims() -> None:
    document = {
        "settings": {"seed": 3, "cells": list("abcdef")},
        "columns": ["cell", "share", "seen"],
        "rows": [
            {"cell": "lstm", "share": 0.123456, "seen": True, "more": 1},
            {"cell": "gru", "seen": False},
        ],
        "claims": [{"text": "all is well", "held": False, "because": "it is not"}],
        "machine": {"cpu": "C", "threads": 2, "vector_unit": "V", "numpy": "1", "numba": "2", "commit": "c"},
    }
    lines = experiments.lines_of_document(document)
    assert lines[0] == "C, 2 threads, V; numpy 1, numba 2, commit c; seed 3, cells 6 of them."
    assert lines[2:] == [
        "| cell | share | seen |",
        "| --- | --- | --- |",
        "| lstm | 0.1235 | yes |",
        "| gru |  | no |",
        "",
        "- **did not hold**: all is well (it is not)",
    ]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_says_whether_claims_held(name: str) -> None:
    claims = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["claims"]
    (row,) = re.findall(rf"^\| `{name}` \| [^|]* \| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert row.startswith("held") == claims[-1]["held"]
    assert row.startswith("did not hold") != claims[-1]["held"]
