"""The file of a set of runs: what is written is read, and what is damaged is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lstm_numba.errors import CheckpointError
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import FILE, GROUPS, SEEDS, Member, RunSet, folder_names, is_set


def seeds(folder: Path) -> RunSet:
    """Two cells, two seeds."""
    members = [
        Member(
            f"{cell}/seed-{seed}",
            str(seed),
            make_config("digits", {"cell": cell, "seed": seed, "threads": 1}),
        )
        for cell in ("lstm", "gru")
        for seed in (0, 1)
    ]
    return RunSet(folder, SEEDS, tuple(members))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = seeds(tmp_path / "set")
    found.write()
    assert RunSet.open(tmp_path / "set") == found
    written = json.loads((tmp_path / "set" / FILE).read_text())
    assert written["config"]["hidden"] == 128
    assert not {"cell", "seed"} & written["config"].keys()
    assert written["members"][2] == {
        "folder": "gru/seed-0", "name": "0", "settings": {"cell": "gru", "seed": 0}
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="already holds a set of runs"):
        found.write()


def test_groups_differ_in_their_data(tmp_path: Path) -> None:
    base = make_config("series", {"threads": 1}, data={"files": ["a.csv"], "group": "g"})
    members = [
        Member(name, name, {**base, "data": {**base["data"], "only": name}}) for name in ("a", "ü / 1")
    ]
    found = RunSet(tmp_path, GROUPS, tuple(members), "g", {"b": "too short"})
    found.write()
    assert RunSet.open(tmp_path) == found
    written = json.loads((tmp_path / FILE).read_text())
    assert [one["settings"] for one in written["members"]] == [
        {"data": {"only": "a"}},
        {"data": {"only": "ü / 1"}},
    ]


def test_a_set_is_no_run(tmp_path: Path) -> None:
    assert not is_set(tmp_path)
    seeds(tmp_path).write()
    assert is_set(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        Run.open(tmp_path)
    shown = [str(tmp_path / name) for name in ("lstm/seed-0", "lstm/seed-1", "gru/seed-0", "gru/seed-1")]
    assert str(refused.value) == (
        f"{tmp_path}: is a set of 4 runs, name one of them: {', '.join(shown[:3])} ... {shown[3]}"
    )
    Run.create(tmp_path, make_config("digits"))
    assert not is_set(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("format",), 2, "format 1"),
        (("kind",), "cells", "kind: expected one of seeds, groups"),
        (("column",), 3, "column"),
        (("config",), [], "config"),
        (("config", "hidden"), 0, "hidden: expected a whole number from 1"),
        (("members",), [], "members: expected a list of at least one"),
        (("skipped",), {"a": 1}, "skipped"),
        (("members", 0, "folder"), "../elsewhere", "member 1: folder: expected one within the set's"),
        (("members", 0, "folder"), "/tmp", "member 1: folder"),
        (("members", 1, "folder"), "lstm/seed-0", "a folder appears twice"),
        (("members", 1, "name"), "0", "a name appears twice"),
        (("members", 1, "settings"), {"seed": -1, "cell": "lstm"}, "seed: expected"),
        (("members", 1, "settings"), None, "member 2: expected an object with settings"),
    ],
)
def test_damage_is_named(tmp_path: Path, place: tuple[Any, ...], value: Any, said: str) -> None:
    seeds(tmp_path).write()
    found = inner = json.loads((tmp_path / FILE).read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / FILE).write_text(json.dumps(found))
    with pytest.raises(CheckpointError) as refused:
        RunSet.open(tmp_path)
    assert str(tmp_path / FILE) in str(refused.value)
    assert said in str(refused.value)


def test_folder_names() -> None:
    names = folder_names(
        ["lstm", "lstm,f=Sigmoid", "my:Cell", "a/b", "a b", "A-B", "..", "", "CON", "set.json"]
    )
    assert [*names.values()] == [
        "lstm", "lstm-f-Sigmoid", "my-Cell", "a-b", "a-b-5", "A-B-6", "run", "run-8", "CON-9", "set.json-10"
    ]  # fmt: skip
    assert folder_names(["é" * 200])["é" * 200] == "é" * 60
    clash = folder_names(["a", "a-3", "A", "a!"])  # a number that is taken already
    assert len({folder.casefold() for folder in clash.values()}) == 4
