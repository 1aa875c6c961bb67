"""Trainings that ``mpiexec`` starts: losses, bits, checkpoints, and every way to end.

Skipped without mpi4py and a launcher. Each start of two processes takes seconds, so that one run is looked at
from several sides.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from repository import ROOT
from tolerances import assert_close

from lstm_numba.training import checkpoint
from lstm_numba.training.run import Run

pytest.importorskip("mpi4py")
_beside = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_beside) if _beside.exists() else shutil.which("mpiexec")
if MPIEXEC is None:
    pytest.skip("mpiexec is not installed", allow_module_level=True)

_version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout
OPEN_MPI = "Open MPI" in _version

SUPPORT = ROOT / "tests" / "support"
#: 188 images to train on: the last batch of an epoch has 8, one of two ranks 4 of them.
SETTINGS = (
    "train digits --images 200 --hidden 6 --layers 2 --dropout 0.3 --batch-size 9 --validation 12 --seed 2"
)


class Answer(NamedTuple):
    """What a launch gave back."""

    status: int
    out: str
    err: str


def environment(folder: Path, **more: str) -> dict[str, str]:
    """As a user's; root may launch, and more ranks than cores."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    allowed["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe"
    return {**os.environ, **allowed, "READS": str(folder / "reads"), **more}


def begin(folder: Path, ranks: int, words: str, **more: str) -> subprocess.Popen[str]:
    """Start a training on so many ranks and leave it running."""
    assert MPIEXEC is not None
    command = [MPIEXEC, "-n", str(ranks), sys.executable, str(SUPPORT / "counted_train.py"), *words.split()]
    return subprocess.Popen(
        command, cwd=folder, env=environment(folder, **more), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def launch(folder: Path, ranks: int, words: str, **more: str) -> Answer:
    """Train on so many ranks."""
    process = begin(folder, ranks, words, **more)
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of two ranks, `two`, and what it said, `said`."""
    folder = tmp_path_factory.mktemp("ranks")
    answer = launch(
        folder, 2, f"{SETTINGS} --epochs 2 --threads 1 --out two", READS=str(folder / "reads-of-two")
    )
    assert answer.status == 0, answer.err
    (folder / "said").write_text(answer.err)
    assert answer.out.count("test: loss") == 1
    return folder


def tensors_of(folder: Path) -> dict[str, object]:
    """What the last checkpoint of a run holds."""
    return dict(checkpoint.load(folder / "checkpoint.safetensors")[0])


def test_one_rank_speaks_and_one_reads(place: Path) -> None:
    said = (place / "said").read_text()
    assert said.count("2 ranks, 1 thread each; run folder two") == 1
    assert said.count("epoch 2/2") == 1
    assert sorted((place / "reads-of-two").read_text().split()) == ["test", "train"]


def test_two_ranks_train_what_one_does(place: Path) -> None:
    """Parameters after 42 steps in float32, masks of dropout included, to the tolerance of one gradient."""
    answer = launch(place, 1, f"{SETTINGS} --epochs 2 --threads 1 --out one")
    assert answer.status == 0, answer.err
    wanted, found = tensors_of(place / "one"), tensors_of(place / "two")
    for name, array in wanted.items():
        assert_close(found[name], array, "backward", name)
    lines = [run.metrics() for run in (Run.open(place / "one"), Run.open(place / "two"))]
    assert [line["loss"] for line in lines[1]] == pytest.approx([line["loss"] for line in lines[0]], rel=1e-6)
    assert "accuracy" in lines[1][-1]
    assert lines[1][-1]["accuracy"] == lines[0][-1]["accuracy"]


def test_the_same_bits_again(place: Path) -> None:
    """And ``config.json`` does not tell how many ranks there were."""
    answer = launch(place, 2, f"{SETTINGS} --epochs 2 --threads 1 --out again")
    assert answer.status == 0, answer.err
    for name in ("checkpoint.safetensors", "best.safetensors", "config.json"):
        assert (place / "again" / name).read_bytes() == (place / "two" / name).read_bytes()


def test_a_signal_saves_and_one_rank_goes_on(place: Path) -> None:
    """Two ranks, stopped amid the training; then one, which ends the epoch that it finds."""
    process = begin(place, 2, f"{SETTINGS} --epochs 400 --schedule constant --out stopped")
    wait_for_lines(process, 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    hint = "resume with: lstm-numba train digits --resume stopped"
    assert f"saved in stopped/checkpoint.safetensors\n{hint}\n" in err
    assert err.count("stopped after step") == 1
    meta = checkpoint.load(place / "stopped" / "checkpoint.safetensors")[1]
    assert meta["steps"] > 0
    epochs, config = meta["epoch"] + 1, place / "stopped" / "config.json"
    config.write_text(config.read_text().replace('"epochs": 400', f'"epochs": {epochs}'))
    answer = launch(place, 1, "train digits --resume stopped")
    assert answer.status == 0, answer.err
    losses = [line["loss"] for line in Run.open(place / "stopped").metrics() if line["kind"] == "epoch"]
    assert len(losses) == 2 * epochs
    assert losses[-2] < losses[0]


def wait_for_lines(process: subprocess.Popen[str], epochs: int) -> None:
    """Until that many epochs are done."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"epoch {epochs}/"):
            return
    raise AssertionError("ended before that")


def processes_with(text: str) -> dict[int, dict[bytes, bytes]]:
    """Processes of Python with a word in their command line, and their environments."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                pairs = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if text.encode() in words and words[0] == sys.executable.encode():
                found[int(folder.name)] = dict(pair.partition(b"=")[::2] for pair in pairs)
    return found


@pytest.fixture
def killed_name() -> Iterator[str]:
    """A name that no other process has in its command line; what is left of it is killed."""
    name = f"killed-{os.getpid()}"
    yield name
    for left in processes_with(name):
        os.kill(left, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes as Linux shows them")
def test_a_killed_rank_ends_all_and_the_checkpoint_is_whole(place: Path, killed_name: str) -> None:
    """MPICH's launcher says itself which process was killed, and ends the others before they can say it."""
    process = begin(place, 2, f"{SETTINGS} --epochs 400 --checkpoint-every 0.2 --out {killed_name}")
    wait_for_lines(process, 2)
    (second,) = (
        number
        for number, variables in processes_with(killed_name).items()
        if b"1" in (variables.get(b"PMI_RANK"), variables.get(b"OMPI_COMM_WORLD_RANK"))
    )
    os.kill(second, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "rank 1 of 2 has ended without a message" in err or "Killed (signal 9)" in out + err
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while processes_with(killed_name) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_with(killed_name)
    _, meta = checkpoint.load(place / killed_name / "checkpoint.safetensors")
    assert meta["steps"] > 0


def test_an_error_on_one_rank_is_one_line(place: Path) -> None:
    answer = launch(place, 2, f"{SETTINGS} --epochs 3 --out failed", FAIL="1:15")
    assert answer.status == 1
    (line,) = (line for line in answer.err.splitlines() if "error:" in line)
    assert line == "rank 1 of 2: error: /data/images: Input/output error"
    assert checkpoint.load(place / "failed" / "checkpoint.safetensors")[1]["steps"] == 0


def test_sums_and_exchanges(tmp_path: Path) -> None:
    assert MPIEXEC is not None
    done = subprocess.run(
        [MPIEXEC, "-n", "4", sys.executable, str(SUPPORT / "rank_checks.py"), str(tmp_path)],
        env=environment(tmp_path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr
    made = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("made-*")}
    wanted = {"2/made-0": "0\n", "2/made-1": "2\n"} | {f"4/made-{k}": f"{k}\n" for k in range(4)}
    assert made == wanted  # one rank of each machine
