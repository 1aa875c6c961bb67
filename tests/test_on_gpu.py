"""The scripts for a machine with a GPU, as far as a machine without one can run them."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lstm_numba.benchmarks import epochs, on_gpu, same_loss
from lstm_numba.training.config import make_config

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def sections(monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Sections that run a line of Python each."""
    made = {
        name: on_gpu.Section(name, 60, lambda args, code=code: [[sys.executable, "-u", "-c", code]])
        for name, code in programs.items()
    }
    monkeypatch.setattr(on_gpu, "SECTIONS", made)


@posix
def test_sections_are_run_and_kept_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = (
        "import time\n"
        "try:\n print('waiting')\n time.sleep(60)\n"
        "except KeyboardInterrupt:\n print('results all the same')"
    )
    sections(monkeypatch, good="print('fine')", bad="raise SystemExit(3)", slow=patient, last="print('end')")
    assert on_gpu.main([str(tmp_path / "out"), "--limit", "2"]) == 1
    texts = {path.stem: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert set(texts) == {"good", "bad", "slow", "last"}
    assert "\nfine\n" in texts["good"]
    assert "exit status 3" in texts["bad"]
    assert "waiting\nresults all the same\nstopped after 2 s" in texts["slow"]
    assert "\nend\n" in texts["last"]
    ends = [line.split(maxsplit=3)[3] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert (ends[0], ends[3]) == ("done", "done")
    assert "exit status 3" in ends[1]
    assert "stopped after 2 s" in ends[2]
    assert on_gpu.main([str(tmp_path / "again"), "last", "good"]) == 0
    assert {path.stem for path in (tmp_path / "again").iterdir()} == {"good", "last"}


@posix
def test_who_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    sections(monkeypatch, deaf=deaf)
    monkeypatch.setattr(on_gpu, "_GRACE", 0.2)
    assert on_gpu.main([str(tmp_path), "--limit", "1"]) == 1


def test_raw_output_does_not_name_folders_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sections(monkeypatch, where="import os, sys; print(os.getcwd(), sys.executable)")
    assert on_gpu.main([str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "where.txt").read_text()
    assert text.endswith("\nOUTPUT python\n")
    assert "$ python -u -c" in text


def test_commands_follow_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path("DATA").absolute()
    words = "--data-dir DATA --steps 7 --turns 3 --batches 1,2 --epochs 4 --rounds 5 --device cpu --cell rnn"
    args = on_gpu.parse([str(tmp_path), *words.split()])

    def commands(name: str) -> list[str]:
        found = on_gpu.SECTIONS[name].commands(args)
        return [" ".join(str(word) for word in command) for command in found]

    assert all(
        part in commands("same-loss")[1]
        for part in ("ptb", "--steps 7", "--device cpu", f"--data-dir {data}")
    )
    (batch,) = commands("batch")
    assert "bench --sweep batch=1,2" in batch
    assert "--cell rnn" in batch
    assert "--turns 3" in batch
    (medium,) = commands("epochs-medium")
    assert "ptb --preset medium" in medium
    assert "--epochs 4 --rounds 5" in medium
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert [line.split(" --error")[0] for line in commands("sanitizer")[1:]] == [
        "/bin/compute-sanitizer --tool memcheck",
        "/bin/compute-sanitizer --tool racecheck",
    ]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert commands("sanitizer") == []


def test_every_section_fits_a_call_and_its_programs_know_their_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    args = on_gpu.parse([str(tmp_path)])
    for section in on_gpu.SECTIONS.values():
        assert section.seconds < 600
        for command in section.commands(args):
            scripts = [Path(word) for word in map(str, command) if word.endswith(".py")]
            assert all(script.is_file() for script in scripts), command
            for script in scripts:
                text = script.read_text()
                options = [word for word in map(str, command) if word.startswith("--")]
                own = options[2:] if "sanitizer" in command[0] else options
                assert all(f'"{option}"' in text for option in own), command


def test_wrong_usage() -> None:
    for words in ([], ["out", "nothing"], ["out", "--device", "tpu"]):
        with pytest.raises(SystemExit) as stop:
            on_gpu.parse(words)
        assert stop.value.code == 2


def test_same_loss_is_the_training_of_the_command_line(tmp_path: Path) -> None:
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
        found = same_loss.losses(config, "cpu", epoch["step"], None)
        every = steps[0]["step"]
        for line in steps:
            mean = math.fsum(found[line["step"] - every : line["step"]]) / every
            assert mean == pytest.approx(line["loss"], rel=1e-12)


def test_same_loss_takes_drawn_data_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LSTM_NUMBA_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert same_loss.configuration("mnist", "small", None, "float32")["dataset"] == "digits"
    config = same_loss.configuration("ptb", "small", None, "float64")
    ptb = make_config("ptb", preset="small")
    assert config["dataset"] == "grammar"
    assert config["dtype"] == "float64"
    assert all(
        config[name] == ptb[name]
        for name in ("hidden", "layers", "bptt", "batch_size", "optimizer", "lr", "clip", "init_range")
    )
    assert "ptb: no files here, grammar instead" in capsys.readouterr().err
    assert same_loss.differences([2.0, 4.0], [2.0, 3.0]) == [0.0, 0.25]


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
