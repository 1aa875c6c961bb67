"""The program as a process: exit statuses, signals, closed pipes, a terminal, bits after an interruption."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import PROGRAM, call

posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")

SETTINGS = "train digits --images 2000 --hidden 12 --batch-size 20 --epochs 5 --seed 2 --threads 1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final checkpoint of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("process")
    answer = call(*SETTINGS.split(), "--out", "whole", cwd=folder)
    assert answer.status == 0, answer.err
    return (folder / "whole" / "checkpoint.safetensors").read_bytes()


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start the program and leave it running."""
    return subprocess.Popen(
        [*PROGRAM, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to a line with a text in it."""
    assert process.stderr is not None
    lines = ""
    for line in process.stderr:
        lines += line
        if text in line:
            return lines
    raise AssertionError(f"ended without {text!r}: {lines}")


def resumed(folder: Path) -> bytes:
    """Let the run end and return its checkpoint."""
    answer = call("train", "digits", "--resume", "run", cwd=folder)
    assert answer.status == 0, answer.err
    return (folder / "run" / "checkpoint.safetensors").read_bytes()


def test_exit_statuses(tmp_path: Path) -> None:
    assert call("--version", cwd=tmp_path).status == 0
    assert call("evaluate", "nowhere", cwd=tmp_path).status == 1
    assert call("train", "digits", "--hidden", "x", cwd=tmp_path).status == 2
    assert call(cwd=tmp_path).status == 2


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_says_where_and_resumes_to_the_same_bits(
    number: signal.Signals, status: int, whole: bytes, tmp_path: Path
) -> None:
    process = start(tmp_path, *SETTINGS.split(), "--out", "run")
    read_until(process, "epoch 1/5")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert out == ""
    assert "Traceback" not in err
    saved, last = err.splitlines()[-2:]
    assert saved.endswith("saved in run/checkpoint.safetensors")
    assert last == "resume with: lstm-numba train digits --resume run"
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() != whole
    assert resumed(tmp_path) == whole


@posix
def test_interrupt_ends_a_compilation(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "empty")}
    words = [*SETTINGS.split(), "--out", "run"]
    process = subprocess.Popen(
        [*PROGRAM, *words], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    read_until(process, "compiling kernels")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "stopped after step 0, saved in run/checkpoint.safetensors" in err.splitlines()[-2]
    assert not list((tmp_path / "empty").rglob("task.backward_task*"))  # a step compiles it last


@posix
def test_interrupt_at_start_up_is_quiet(tmp_path: Path) -> None:
    """While the program imports what it needs; before that, Python itself answers."""
    code = "from lstm_numba.cli.main import main; print('begun', flush=True); main()"
    for delay in (0.2, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "train", "digits", "--out", f"run-{delay}"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err


@posix
def test_reader_that_leaves(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    for words in (["data", "list"], ["info"], ["-h"]):
        done = subprocess.run(
            [*PROGRAM, *words], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True
        )
        assert done.stderr == "", words
        assert done.returncode in (0, 1)
    os.close(write)


@posix
def test_closed_standard_streams(tmp_path: Path) -> None:
    program = " ".join(PROGRAM)
    small = "train digits --images 60 --hidden 3 --epochs 1 --threads 1"
    for number, redirection in enumerate((">&- 2>&-", "2>/dev/full")):
        line = f"{program} {small} --out run-{number} {redirection}"
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (redirection, done.stderr)
        assert "Traceback" not in done.stderr
        assert (tmp_path / f"run-{number}" / "checkpoint.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_under_standard_output(tmp_path: Path) -> None:
    line = f"{' '.join(PROGRAM)} data list > /dev/full"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: No space left on device"]


@posix
def test_terminal_has_a_moving_line(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    termios, fcntl = pytest.importorskip("termios"), pytest.importorskip("fcntl")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    # Steps enough for more than one refresh, however fast the processor.
    words = "train digits --images 3000 --hidden 24 --batch-size 1 --epochs 1 --threads 1 --out run"
    process = subprocess.Popen([*PROGRAM, *words.split()], cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    process.communicate()
    os.close(master)
    assert process.returncode == 0
    text = seen.decode()
    assert "\r" in text.replace("\r\n", "\n")
    for part in ("[#", " %", "loss", "accuracy", "images/s", "left"):
        assert part in text
    assert "epoch 1/1  train: loss" in text.replace("\r\n", "\n").split("\r")[-1]


def test_python_m_and_the_console_script_are_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("lstm-numba")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([str(script), "-h"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == call("-h", cwd=tmp_path).out
