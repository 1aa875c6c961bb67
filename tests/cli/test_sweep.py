"""``lstm-numba sweep`` as a user calls it: one process after the other, and several at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_tools import PROGRAM, invoke
from sweep_tools import LR, QUICK, need_toml, sweep_file

from lstm_numba.sweeps.example import EXAMPLE

need_toml()
#: Epochs of a trial that is stopped in its midst.
MANY = 40
LONG = QUICK.replace("epochs = 3", f"epochs = {MANY}").replace("checkpoint_every = 0\n", "")


def test_example_and_usage() -> None:
    assert invoke("sweep --example").out == EXAMPLE
    answer = invoke("sweep")
    assert answer.status == 2
    assert "Missing argument 'FILE'" in answer.err
    answer = invoke("sweep nowhere.toml")
    assert (answer.status, answer.err) == (1, "error: nowhere.toml: no such file\n")


def test_bad_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep_file(tmp_path, QUICK + LR.replace("1e-1", "1e-4"))
    answer = invoke("sweep sweep.toml")
    expected = "error: sweep.toml: ranges.lr.high: expected more than low, 0.001, got 0.0001\n"
    assert (answer.status, answer.err) == (1, expected)
    sweep_file(tmp_path, QUICK + LR)
    answer = invoke("sweep sweep.toml --storage study.db")
    assert answer.status == 2
    assert "--storage: expected a URL such as sqlite:///study.db, got 'study.db'" in answer.err
    sweep_file(tmp_path, 'command = "train text"\n[fixed]\nfile = "no.txt"\n' + LR)
    answer = invoke("sweep sweep.toml")
    assert answer.status == 1
    assert "fixed.file: " in answer.err
    assert " does not exist" in answer.err
    assert not (tmp_path / "sweeps").exists()


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("opening", "study", "samplers"):
        monkeypatch.delitem(sys.modules, f"lstm_numba.sweeps.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    answer = invoke("sweep", sweep_file(tmp_path, QUICK + LR), "--out", tmp_path / "out")
    assert answer.status == 1
    assert answer.err == "error: sweep needs Optuna: pip install 'lstm_numba[sweep]'\n"


# -- with Optuna -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a small sweep's file."""
    pytest.importorskip("optuna")
    pytest.importorskip("fcntl")
    monkeypatch.chdir(tmp_path)
    if "pictures" not in request.node.name:  # which take seconds
        monkeypatch.setattr("lstm_numba.cli.sweeping._draw", lambda found: [])
    sweep_file(tmp_path, f"trials = 4\n{QUICK}{LR}")
    return tmp_path


def test_table_pictures_and_the_command_of_the_best(folder: Path) -> None:
    answer = invoke("sweep sweep.toml")
    assert answer.status == 0, answer.err
    assert re.findall(r"^trial (\d): ", answer.err, re.MULTILINE) == [n for n in "0123" for _ in range(2)]
    assert "Warning" not in answer.err
    assert "[I " not in answer.err  # Optuna's own lines
    found = invoke("sweep sweep.toml --report --json").json()
    values = [row["value"] for row in found["trials"]]
    assert values == sorted(values)
    lines = answer.out.splitlines()
    assert lines[0] == "4 of 4 trials: 4 complete"
    assert lines[2].split() == ["trial", "loss", "epoch", "lr"]
    assert [line.split()[0] for line in lines[3:7]] == [str(row["trial"]) for row in found["trials"]]
    assert float(lines[3].split()[1]) == pytest.approx(values[0], rel=1e-3)
    assert lines[10].split()[:3] == ["lr", "100.0", "%"]
    for name in ("history", "what-mattered"):
        for form in ("png", "svg"):
            path = f"sweeps/sweep/plots/{name}.{form}"
            assert path in lines
            assert Path(path).stat().st_size > 1000
    assert f"{' '.join(found['command'])}" in lines
    again = invoke(" ".join(found["command"][1:]), "--json").json()
    assert again["best"]["loss"] == found["best"]["value"]
    assert again["loss"] == found["best"]["test"]["loss"]
    best = found["best"]["run"]
    assert invoke("evaluate", best, "--json").json()["loss"] == pytest.approx(again["loss"], rel=1e-6)


def start(*words: str) -> subprocess.Popen[str]:
    """The program in a process of its own, on one thread."""
    command = [*PROGRAM, "sweep", "sweep.toml", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait until something is so while a process runs."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def halt(process: subprocess.Popen[str], folder: Path) -> None:
    """Stop a process while it does not hold the study, for which others would wait."""
    from lstm_numba.sweeps.lock import _STUDY, SweepLock

    # Opened first: it waits for the study itself, which a stopped process may hold for good.
    with SweepLock(folder, "sweep") as lock:
        while True:
            process.send_signal(signal.SIGSTOP)
            if lock._try(_STUDY):
                return
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)


def epochs(folder: Path) -> list[int]:
    """Epochs of a trial that were measured on valid."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    content = path.read_text()
    lines = map(json.loads, content[: content.rfind("\n") + 1].splitlines())
    return [line["epoch"] for line in lines if line["kind"] == "epoch" and line["split"] == "valid"]


def test_two_processes_after_an_interrupt_and_a_kill(folder: Path) -> None:
    """Nothing is lost, and nothing is done twice."""
    sweep_file(folder, f'trials = 3\npruner = "none"\n{LONG}{LR}')
    first = folder / "sweeps" / "sweep" / "trial-0000"
    process = start("--threads", "1")
    wait_for(lambda: len(epochs(first)) > 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "resume with: lstm-numba sweep sweep.toml"
    assert "Traceback" not in err
    so_far = len(epochs(first))
    assert 2 < so_far < MANY, "the trial is too short to be stopped in its midst"

    process = start("--threads", "1")
    wait_for(lambda: len(epochs(first)) > so_far + 2, process)
    halt(process, first.parent)
    report = invoke("sweep sweep.toml --report --json").json()
    assert report["counts"] == {"running": 1}
    assert report["trials"][0]["epochs"] > so_far
    process.kill()
    process.communicate()
    assert len(epochs(first)) < MANY
    assert invoke("sweep sweep.toml --report --json").json()["counts"] == {"abandoned": 1}

    processes = [start("--threads", "1", "--json") for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    begun = [re.findall(r"^trial (\d)(?: again, from its checkpoint)?: lr", err, re.M) for _, err in answers]
    assert sorted(begun[0] + begun[1]) == ["0", "1", "2"]
    assert sum("trial 0 again, from its checkpoint" in err for _, err in answers) == 1
    found = max((json.loads(out) for out, _ in answers), key=lambda one: one["counts"].get("complete", 0))
    assert found["counts"] == {"complete": 3}
    for row in found["trials"]:
        assert [epoch for epoch, _ in row["curve"]] == list(range(1, MANY + 1))
        assert epochs(folder / row["run"]) == list(range(1, MANY + 1))
    assert len({row["params"]["lr"] for row in found["trials"]}) == 3
    assert sorted(path.name for path in first.parent.glob("trial-*")) == [f"trial-000{n}" for n in range(3)]


def test_jobs_share_the_trials_and_end_with_the_first_process(folder: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one core")
    sweep_file(folder, f'trials = 2\npruner = "none"\n{LONG}{LR}')
    runs = [folder / "sweeps" / "sweep" / f"trial-000{n}" for n in range(2)]
    process = start("--threads", "2", "--jobs", "2")
    wait_for(lambda: all(path.exists() for path in runs), process)
    process.kill()  # and no process of its own may go on
    _, err = process.communicate()  # ends when nobody writes to it any more
    stopped = sum(
        len(epochs(run)) < MANY for run in runs
    )  # where one began long before the other, it may be done
    assert stopped >= 1
    assert err.count("SIGTERM: stopped after step") == stopped
    counts = invoke("sweep sweep.toml --report --json").json()["counts"]
    assert counts == {"abandoned": stopped} | ({"complete": 1} if stopped < 2 else {})
    assert invoke("sweep sweep.toml --json").json()["counts"] == {"complete": 2}
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    assert [config["threads"] for config in configs] == [1, 1]  # each its share


def test_more_trials_and_another_range(folder: Path) -> None:
    sweep_file(folder, f"trials = 1\n{QUICK}{LR}")
    assert invoke("sweep sweep.toml --json").json()["counts"] == {"complete": 1}
    sweep_file(folder, f"trials = 2\n{QUICK}{LR}")
    assert invoke("sweep sweep.toml --json").json()["counts"] == {"complete": 2}
    sweep_file(folder, f"trials = 3\n{QUICK}{LR.replace('1e-1', '2e-1')}")
    answer = invoke("sweep sweep.toml")
    assert answer.status == 1
    assert answer.err.startswith(
        "error: sweep.toml: ranges.lr: was {low = 0.001, high = 0.1, log = true}, is "
    )
