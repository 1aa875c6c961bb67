"""Processes that want the same name at the same moment: one has it, the others are told or take another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numba
import pytest
from cli_tools import invoke
from training_tools import Crash, CrashAt, few_digits, small_config, train

from lstm_numba.data import digits, file_io
from lstm_numba.errors import CheckpointError
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import Reporter, StartInfo
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.tasks import build_task
from lstm_numba.training.trainer import Trainer

#: Processes wait for a file before they race; what they do is in the last argument.
_RACER = """
import json, sys
from pathlib import Path
from lstm_numba.cli.run_folder import claimed
from lstm_numba.errors import UserError
from lstm_numba.data.file_io import atomic_write
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run

def make(path, content):
    with claimed(str(path)):
        atomic_write(path, content)

number, rounds, start = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
for n, (name, what) in enumerate(json.loads(sys.argv[4])):
    folder = start / name
    for k in range(rounds):
        (start / f"ready-{n * rounds + k}-{number}").touch()
        while not (start / f"go-{n * rounds + k}").exists():
            pass
        try:
            print(eval(what), flush=True)
        except UserError:
            print("refused", flush=True)
"""
RACERS, ROUNDS = 3, 12
#: What is raced for: a run folder's name, the next free number, a file that is not there yet, one that is.
_RACES = {
    "folder": (
        "Run.create(folder / f'run-{k}', make_config('digits', {'hidden': 1 + number})).config['hidden'] - 1"
    ),
    "number": "Run.create_next(folder / 'digits', make_config('digits', {'seed': number})).folder.name",
    "file": "make(folder / f'f-{k}', bytes([number])) or number",
    "replaced": "atomic_write(folder / 'file', bytes([number]) * 3_000_000)",
}


class Race(NamedTuple):
    """Where processes raced, and what each printed in each round: ``[round][process]``."""

    folder: Path
    said: list[list[str]]


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Race]:
    """All races, one after the other, by the same processes."""
    start, total = tmp_path_factory.mktemp("races"), ROUNDS * len(_RACES)
    for name in _RACES:
        (start / name).mkdir()
    (start / "number" / "digits-2").mkdir()
    words = [str(ROUNDS), str(start), json.dumps(list(_RACES.items()))]
    processes = [
        subprocess.Popen([sys.executable, "-c", _RACER, str(n), *words], stdout=subprocess.PIPE, text=True)
        for n in range(RACERS)
    ]
    for k in range(total):
        while not all((start / f"ready-{k}-{n}").exists() for n in range(RACERS)):
            assert all(process.poll() in (None, 0) for process in processes)
            time.sleep(0.001)
        (start / f"go-{k}").touch()
    said = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert all(len(lines) == total for lines in said)
    rounds = [list(lines) for lines in zip(*said, strict=True)]
    return {name: Race(start / name, rounds[n * ROUNDS :][:ROUNDS]) for n, name in enumerate(_RACES)}


def test_one_of_several_gets_a_run_folder(races: dict[str, Race]) -> None:
    folder, rounds = races["folder"]
    for k, said in enumerate(rounds):
        (winner,) = set(said) - {"refused"}
        assert said.count("refused") == RACERS - 1
        run = Run.open(folder / f"run-{k}")
        assert run.config["hidden"] - 1 == int(winner)
        assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_several_runs_take_several_numbers(races: dict[str, Race]) -> None:
    place, rounds = races["number"]
    names = [name for said in rounds for name in said]
    assert sorted(names) == sorted(f"digits-{k}" for k in range(1, 2 + RACERS * ROUNDS) if k != 2)
    for folder in place.iterdir():
        assert folder.name == "digits-2" or Run.open(folder).config["dataset"] == "digits"


def test_one_of_several_makes_a_file(races: dict[str, Race]) -> None:
    folder, rounds = races["file"]
    for k, said in enumerate(rounds):
        (winner,) = set(said) - {"refused"}
        assert said.count("refused") == RACERS - 1
        assert (folder / f"f-{k}").read_bytes() == bytes([int(winner)])


def test_writers_of_the_same_file_do_not_mix(races: dict[str, Race]) -> None:
    folder = races["replaced"].folder
    content = (folder / "file").read_bytes()
    assert content in [bytes([n]) * 3_000_000 for n in range(RACERS)]
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("links", [True, False])
def test_a_fresh_file_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def none(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:  # as FAT
        monkeypatch.setattr(os, "link", none)
    file_io.atomic_write(tmp_path / "f", b"first", fresh=True)
    with pytest.raises(FileExistsError) as caught:
        file_io.atomic_write(tmp_path / "f", b"second", fresh=True)
    assert caught.value.filename == str(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


# -- trainings ---------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few images, one thread."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    monkeypatch.setattr(digits, "load", few_digits)
    yield
    numba.set_num_threads(threads)


class When(Reporter):
    """Calls something when the training has the lock."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def on_start(self, info: StartInfo) -> None:
        """Now."""
        self.act()


def test_a_folder_that_is_trained_in_stays_locked(small: None, tmp_path: Path) -> None:
    """Even if config.json, on which the lock once was, is replaced."""
    pytest.importorskip("fcntl")
    config = small_config("images", tmp_path, epochs=1)
    run = Run.create(tmp_path / "run", config)
    refusals = []

    def intrude() -> None:
        path = tmp_path / "run" / "config.json"
        (tmp_path / "other.json").write_text(json.dumps({**json.loads(path.read_text()), "epochs": 3}))
        (tmp_path / "other.json").replace(path)
        with pytest.raises(CheckpointError, match="another process is training") as caught:
            Trainer(build_task(config), Run.open(tmp_path / "run")).train()
        refusals.append(caught.value)

    Trainer(build_task(config), run, When(intrude)).train()
    assert len(refusals) == 1


def test_what_another_process_did_meanwhile_is_seen(small: None, tmp_path: Path) -> None:
    """A training that was prepared while another one ran goes on from its end."""
    config = small_config("images", tmp_path, epochs=2)
    with pytest.raises(Crash):
        train(tmp_path / "run", config, CrashAt(3))
    late, steps = Run.open(tmp_path / "run"), []

    class Count(Reporter):
        def on_step(self, info: Any) -> None:
            steps.append(info.step)

    trainer = Trainer(build_task(config), late, Count())
    outcome = train(tmp_path / "run", config)
    assert trainer.train() == outcome._replace(already_complete=True)
    assert steps == []
    # Not if it has other settings now.
    first, second = Run.open(tmp_path / "run"), Run.open(tmp_path / "run")
    first.config["epochs"], second.config["epochs"] = 4, 3
    Trainer(build_task(first.config), first).train()
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    with pytest.raises(CheckpointError, match=r"config\.json: another process has changed it"):
        Trainer(build_task(second.config), second).train()
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


def test_what_a_killed_process_left_is_swept(small: None, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    config = small_config("images", tmp_path, epochs=1)
    run = Run.create(tmp_path / "run", config)
    left = file_io.unique_name(run.checkpoint_path)
    left.write_bytes(b"half")
    theirs = run.folder / "notes.tmp"
    theirs.write_bytes(b"thesis")
    train(run.folder, config)
    assert not left.exists()
    assert theirs.exists()


def test_commands_at_once(tmp_path: Path) -> None:
    """The issue's cases: two that name the same folder for other networks, two that name none."""
    words = "train digits --images 40 --epochs 1 --batch-size 40 --threads 1 --hidden"
    command = [sys.executable, "-m", "lstm_numba", *words.split()]
    named = {hidden: [*command, str(hidden), "--out", "r"] for hidden in (3, 5)}
    processes = {
        key: subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for key, words in {**named, "one": [*command, "4"], "other": [*command, "4"]}.items()
    }
    told = {key: process.communicate(timeout=120)[1] for key, process in processes.items()}
    status = {key: process.returncode for key, process in processes.items()}
    assert (status["one"], status["other"]) == (0, 0), told
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["digits-1", "digits-2"]
    assert sorted(status[hidden] for hidden in named) == [0, 1], told
    (winner,) = (hidden for hidden in named if status[hidden] == 0)
    (loser,) = set(named) - {winner}
    assert told[loser].splitlines()[-1].startswith("error: ")
    assert json.loads((tmp_path / "r" / "config.json").read_text())["hidden"] == winner
    _, meta = checkpoint.load(tmp_path / "r" / "checkpoint.safetensors")
    assert meta["model"]["hidden"] == winner


def test_a_file_is_exported_once(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", make_config("digits"))
    (tmp_path / "out.npz").symlink_to("nowhere")  # taken, though nothing is there
    answer = invoke("export", tmp_path / "run", "--format", "npz", "--out", tmp_path / "out.npz")
    assert answer.status == 1
    assert "already exists" in answer.err
