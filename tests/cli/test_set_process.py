"""Sets of runs in processes: signals, the death of the parent, bits after an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_tools import PROGRAM, invoke

from lstm_numba.errors import CheckpointError
from lstm_numba.training.run import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")

SMALL = "train digits --images 1000 --hidden 12 --batch-size 10 --epochs 4 --threads"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final checkpoint of one run of the set, trained alone."""
    folder = tmp_path_factory.mktemp("alone")
    answer = invoke(f"{SMALL} 1 --seed 1 --out", folder / "run")
    assert answer.status == 0, answer.err
    return (folder / "run" / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_all_runs_save_and_go_on_to_the_same_bits(
    number: signal.Signals, status: int, whole: bytes, tmp_path: Path
) -> None:
    """SIGINT goes to all processes, as a terminal sends it."""
    process = subprocess.Popen(
        [*PROGRAM, *f"{SMALL} 2 --seeds 2 --out set".split()],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    second = tmp_path / "set" / "seed-1"
    until((second / "best.safetensors").exists)  # its first epoch is done
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert out == ""
    assert "Traceback" not in err
    if status > 0:
        saved, last = err.splitlines()[-2:]
        assert saved.endswith("stopped and saved")
        assert last == "resume with: lstm-numba train digits --resume set"
        assert free(second)
    until(lambda: free(second))
    assert (second / "checkpoint.safetensors").read_bytes() != whole
    answer = invoke("train digits --resume", second)
    assert answer.status == 0, answer.err
    assert (second / "checkpoint.safetensors").read_bytes() == whole


def free(folder: Path) -> bool:
    """Whether no process trains in a run folder."""
    try:
        with Run.open(folder).locked():
            return True
    except CheckpointError:
        return False


def until(done: object) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 120
    assert callable(done)
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
