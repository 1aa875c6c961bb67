"""The scripts for a machine with a GPU, as far as a machine without one can run them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from backends import simulated

from lstm_numba.benchmarks import device_parity, epochs, on_gpu
from lstm_numba.benchmarks.gpu import schedule
from lstm_numba.benchmarks.gpu.sections import BENCHMARKS, Section
from lstm_numba.training.config import make_config

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="signals and groups of processes as POSIX has them"
)

#: A result as a section's program keeps it.
SAY = "from lstm_numba.benchmarks.gpu.record import say, finish; "
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"


def program(code: str, name: str = "program", **more: Any) -> schedule.Job:
    """A program of a line of Python."""
    return schedule.Job([sys.executable, "-c", code], name, **more)


def sections(monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Sections that run a line of Python each."""
    made = {
        name: Section(name, 60, lambda args, code=code: [program(code)]) for name, code in programs.items()
    }
    monkeypatch.setattr(on_gpu, "SECTIONS", made)


def results(folder: Path) -> list[dict[str, Any]]:
    """All results; each line is whole, but for one that a program was killed at."""
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line != "{half"]


def ends(folder: Path) -> dict[str, list[str]]:
    """Problems of the sections that were run, in their order."""
    return {line["section"]: line["problems"] for line in results(folder) if line["kind"] == "section ends"}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@posix
def test_sections_are_run_in_order_and_kept_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = (
        f"{SAY}\nimport time\n"
        "try:\n say('begun')\n time.sleep(60)\n"
        "except KeyboardInterrupt:\n say('results all the same')"
    )
    sections(
        monkeypatch,
        good=f"{SAY} print('fine'); say('number', value=float('nan'))",
        bad="raise SystemExit(3)",
        slow=patient,
        wrong=f"{SAY} say('compared', right=False); finish()",
        last="import os; open(os.environ['ON_GPU_RESULTS'], 'a').write('{half\\n'); os.abort()",
    )
    assert on_gpu.main([str(tmp_path), "--limit", "4"]) == 1
    assert ends(tmp_path) == {
        "good": [],
        "bad": ["program: exit status 3"],
        "slow": ["program: its time was over"],
        "wrong": ["program: exit status 1", "compared: wrong"],
        "last": ["program: exit status -6"],
    }
    assert [
        (line["section"], line["kind"]) for line in results(tmp_path) if "section " not in line["kind"]
    ] == [
        ("", "begin"),
        ("good", "number"),
        ("slow", "begun"),
        ("slow", "results all the same"),
        ("wrong", "compared"),
    ]
    log = (tmp_path / "log.txt").read_text()
    assert "[program] fine\n" in log
    table = capsys.readouterr().out.splitlines()[-5:]
    assert log.splitlines()[-5:] == table
    assert [line.split()[0] for line in table] == list(on_gpu.SECTIONS)
    assert [line.split()[2] for line in table] == ["1", "0", "2", "1", "0"]
    assert table[0].endswith("nothing")
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "log.txt"}
    assert on_gpu.main([str(tmp_path), "good", "--limit", "20"]) == 0


@posix
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not list processes")
def test_budget_is_kept_and_nothing_stays_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # In a session of its own, so that no signal to a group reaches it; it holds the pipe open, too.
    escaped = (
        f"{SAY} import subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {DEAF!r}], start_new_session=True); "
        "say('child', pid=child.pid)"
    )
    sections(monkeypatch, escape=escaped, deaf=DEAF, late="print('never')")
    began = time.monotonic()
    assert on_gpu.main([str(tmp_path), "--budget", "6"]) == 1
    assert time.monotonic() - began < 50, "the programs, which take a minute, were waited for"
    (pid,) = [line["pid"] for line in results(tmp_path) if line["kind"] == "child"]
    assert not alive(pid)
    assert ends(tmp_path) == {"escape": [], "deaf": ["program: its time was over"]}
    assert "left out: no time left" in (tmp_path / "log.txt").read_text()


def start(folder: Path, *codes: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own, whose sections are lines of Python."""
    script = (
        "import sys\n"
        "from lstm_numba.benchmarks import on_gpu\n"
        "from lstm_numba.benchmarks.gpu import schedule, sections\n"
        "for n, code in enumerate(sys.argv[2:]):\n"
        "    job = schedule.Job([sys.executable, '-c', code], 'program')\n"
        "    on_gpu.SECTIONS[f's{n}'] = sections.Section('', 60, lambda args, job=job: [job])\n"
        "names = [f's{n}' for n in range(len(sys.argv[2:]))]\n"
        "sys.exit(on_gpu.main([sys.argv[1], *names]))\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(folder), *codes], stdout=subprocess.DEVNULL)


def waited_for(folder: Path, kind: str) -> dict[str, Any]:
    """A result as soon as it is there."""
    for _ in range(600):
        with contextlib.suppress(OSError, ValueError):
            for line in results(folder):
                if line["kind"] == kind:
                    return line
        time.sleep(0.05)
    raise AssertionError(f"{kind}: has not come")


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_results_outlive_the_program(tmp_path: Path, number: signal.Signals) -> None:
    waiting = f"{SAY} import os; say('waits', pid=os.getpid()); {DEAF}"
    process = start(tmp_path, f"{SAY} say('first', value=1)", waiting)
    pid = waited_for(tmp_path, "waits")["pid"]
    process.send_signal(number)
    assert process.wait(timeout=20) == (-9 if number == signal.SIGKILL else 130)
    assert [line["value"] for line in results(tmp_path) if line["kind"] == "first"] == [1]
    if number == signal.SIGKILL:
        os.kill(pid, signal.SIGKILL)
    else:
        assert not alive(pid)
        assert ends(tmp_path) == {"s0": [], "s1": ["program: its time was over"]}
        assert "what failed" in (tmp_path / "log.txt").read_text()


def test_without_a_device_nothing_else_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = {
        "versions": Section("", 60, lambda args: [program("raise SystemExit(1)")], needed=True),
        "rest": Section("", 60, lambda args: [program("pass")]),
    }
    monkeypatch.setattr(on_gpu, "SECTIONS", made)
    assert on_gpu.main([str(tmp_path)]) == 1
    assert list(ends(tmp_path)) == ["versions"]
    assert on_gpu.main([str(tmp_path / "rest"), "rest"]) == 0


def test_files_and_names_of_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "import json, os, sys; from pathlib import Path; print(os.getcwd(), sys.executable); "
        "Path('out.json').write_text(json.dumps({'where': os.getcwd()}))"
    )
    job = program(code, "names", file="out.json")
    monkeypatch.setattr(on_gpu, "SECTIONS", {"names": Section("", 60, lambda args: [job])})
    assert on_gpu.main([str(tmp_path / "out")]) == 0
    assert "[names] TEMPORARY python\n" in (tmp_path / "out" / "log.txt").read_text()
    (file,) = [line for line in results(tmp_path / "out") if line["kind"] == "file"]
    assert (file["name"], file["content"], file["computed"]) == ("out.json", {"where": "TEMPORARY"}, True)


def test_programs_find_what_this_one_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "found_nearby.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "here")
    job = program("import found_nearby")
    monkeypatch.setattr(on_gpu, "SECTIONS", {"path": Section("", 60, lambda args: [job])})
    assert on_gpu.main(["out"]) == 0


def test_programs_of_a_section_run_at_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    code = (
        "import time; from pathlib import Path; Path({mine!r}).touch()\n"
        "while not Path({other!r}).exists(): time.sleep(0.01)"
    )
    pairs = (("a", "b"), ("b", "a"))
    jobs = [program(code.format(mine=mine, other=other), mine) for mine, other in pairs]
    programs = schedule.Programs(tmp_path / "log", tmp_path, os.environ)
    ended: list[str] = []
    programs.run(jobs, time.monotonic() + 30, lambda job: ended.append(job.name))
    assert (programs.problems, sorted(ended)) == ([], ["a", "b"])


def test_commands_follow_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path("DATA").absolute()
    words = "--data-dir DATA --steps 7 --repeats 3 --batches 1,2 --epochs 4 --rounds 5 --cell rnn --workers 6"

    def commands(name: str, *more: str) -> list[str]:
        args = on_gpu.parse([str(tmp_path), *words.split(), *more])
        return [" ".join(job.command) for job in on_gpu.SECTIONS[name].jobs(args)]

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert [
        "device_parity grammar --preset small --dtype float64 --steps 7" in command
        for command in commands("training")
    ] == [
        False,
        True,
        False,
    ]
    (crossover,) = commands("crossover")
    assert all(part in crossover for part in ("--batches 1,2", "--cell rnn", "--repeats 3"))
    (medium,) = commands("epochs-medium")
    assert "ptb --preset medium --device cuda --epochs 4 --rounds 5" in medium
    assert f"--data-dir {data}" in medium
    assert "left out" in " ".join(commands("epochs-medium", "--data-dir", ""))
    tests, *watched = commands("tests")
    assert "-m gpu" in tests
    assert [command.split(" /")[0] for command in watched] == [
        "/bin/compute-sanitizer --error-exitcode 9 --tool memcheck",
        "/bin/compute-sanitizer --error-exitcode 9 --tool racecheck",
    ]
    assert "--collect-only" in commands("tests", "--dry-run")[0]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not on PATH" in commands("tests")[1]


def test_programs_know_their_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    args = on_gpu.parse([str(tmp_path), "--data-dir", "DATA"])
    seen = set()
    for section in on_gpu.SECTIONS.values():
        for job in section.jobs(args):
            module = next((word for word in job.command if word.startswith("lstm_numba.benchmarks.")), None)
            if module is None or "pytest" in job.command:
                continue
            seen.add(module)
            text = (
                BENCHMARKS / (module.removeprefix("lstm_numba.benchmarks.").replace(".", "/") + ".py")
            ).read_text()
            options = [word for word in job.command[job.command.index(module) :] if word.startswith("--")]
            assert all(f'"{option}"' in text for option in options), job.command
    assert len(seen) == 10


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="the stand-in driver needs cc"
)
@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="could not import numba_cuda")
@pytest.mark.skipif(simulated(), reason="the simulator has no driver")
def test_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = program(
        "import runpy, sys; sys.argv[1:] = ['around']; "
        "runpy.run_module('lstm_numba.benchmarks.gpu.smoke', run_name='__main__')"
    )
    around = Section("", 120, lambda args: [job])
    monkeypatch.setattr(on_gpu, "SECTIONS", {"versions": on_gpu.SECTIONS["versions"], "around": around})
    assert on_gpu.main([str(tmp_path), "--dry-run", "--limit", "200"]) == 0
    assert ends(tmp_path) == {"versions": [], "around": []}
    found = results(tmp_path)
    (versions,) = [line for line in found if line["kind"] == "versions"]
    assert "stand-in driver" in versions["cuda"]["device"]
    verdicts = {line["kind"]: line["right"] for line in found if "right" in line}
    assert verdicts == dict.fromkeys(("products", "masks", "side stream", "fetch"), "not compared")


def test_wrong_usage() -> None:
    for words in ([], ["out", "nothing"], ["out", "--budget", "many"]):
        with pytest.raises(SystemExit) as stop:
            on_gpu.parse(words)
        assert stop.value.code == 2


def test_device_parity_is_the_training_of_the_command_line(tmp_path: Path) -> None:
    from lstm_numba.training.run import Run
    from lstm_numba.training.tasks import build_task
    from lstm_numba.training.trainer import Trainer

    options = {"hidden": 12, "batch_size": 10, "epochs": 1, "threads": 1}
    for task, size in (("digits", {"count": 100}), ("grammar", {"tokens": 2000})):
        config = make_config(task, options, data=size)
        run = Run.create(tmp_path / task, config)
        Trainer(build_task(config), run).train()
        steps = [line for line in run.metrics() if line["kind"] == "step"]
        (epoch,) = [line for line in run.metrics() if line["kind"] == "epoch" and line["split"] == "train"]
        found = device_parity.losses(config, "cpu", epoch["step"], None)
        every = steps[0]["step"]
        for line in steps:
            mean = math.fsum(found[line["step"] - every : line["step"]]) / every
            assert mean == pytest.approx(line["loss"], rel=1e-12)


def test_device_parity_takes_drawn_data_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LSTM_NUMBA_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert device_parity.configuration("mnist", "small", None, "float32")["dataset"] == "digits"
    config = device_parity.configuration("ptb", "small", None, "float64")
    ptb = make_config("ptb", preset="small")
    assert config["dataset"] == "grammar"
    assert config["dtype"] == "float64"
    assert all(
        config[name] == ptb[name]
        for name in ("hidden", "layers", "bptt", "batch_size", "optimizer", "lr", "clip", "init_range")
    )
    assert "ptb: files not found, using grammar" in capsys.readouterr().err
    assert device_parity.differences([2.0, 4.0], [2.0, 3.0]) == [0.0, 0.25]


def test_epoch_lines_gather_curve_and_evaluations() -> None:
    def line(kind: str, split: str, step: int, epoch: int, loss: float) -> dict[str, Any]:
        return {"kind": kind, "split": split, "step": step, "epoch": epoch, "loss": loss}

    metrics = [
        line("step", "train", 5, 1, 3.0),
        line("epoch", "train", 8, 1, 2.5),
        line("epoch", "test", 8, 1, 2.4),
        line("step", "train", 13, 2, 2.0),
        line("epoch", "train", 16, 2, 1.9),
        line("epoch", "test", 16, 2, 1.8),
        line("final", "test", 16, 2, 1.8),
    ]
    first, second = epochs.epoch_lines(metrics)
    assert (first["loss"], first["curve"]) == (2.5, [[5, 3.0]])
    assert (second["loss"], second["curve"]) == (1.9, [[13, 2.0]])
    assert [one["loss"] for one in second["evaluations"]] == [1.8]


def test_pytorch_epochs_report_the_same_curve(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from lstm_numba.benchmarks.pytorch_epochs import Losses

    losses = Losses("cpu", 100, 20)
    for step in range(20):
        losses.add(torch.tensor(float(step)), 3 if step < 19 else 1)
    assert losses.curve[:2] == [(102, 0.5), (104, 2.5)]
    assert losses.curve[-1] == (120, pytest.approx((3 * 18 + 19) / 4))
    assert losses.mean == pytest.approx((3 * sum(range(19)) + 19) / 58)


def test_list_names_the_sections() -> None:
    script = Path(on_gpu.__file__)
    done = subprocess.run([sys.executable, script, "--list"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(on_gpu.SECTIONS)
    assert done.stderr == ""
