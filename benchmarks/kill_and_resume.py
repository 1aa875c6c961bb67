"""Checks that a run that is killed at random and resumed ends with the same bits as an uninterrupted run.

Trains ``digits`` once without interruption. Then, in every round, starts the same run in another folder,
kills it (SIGKILL) at a random time, start-up included, resumes it, and so on until it ends. The final
checkpoint and that of the best epoch must equal those of the first run, byte for byte.

    python benchmarks/kill_and_resume.py --rounds 20
    python benchmarks/kill_and_resume.py --rounds 2 --kills 3 -- --images 500 --hidden 16 --epochs 2

With ``--cold`` every round begins with an empty kernel cache: the killed process compiles, and those that
resume load what it cached. Otherwise kernels are compiled once, beforehand.

Arguments after ``--`` are passed to ``lstm-numba train digits``. The exit status is 1 if any
checkpoint differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Round(NamedTuple):
    """One run that was killed and resumed.

    Attributes
    ----------
    kill_times : list of float
        Seconds after each start at which the program was killed.
    before_folder : int
        Kills before the run folder existed, so that the run was started again.
    digest : str
        SHA-256 of the final checkpoints.
    """

    kill_times: list[float]
    before_folder: int
    digest: str


def digest(folder: Path) -> str:
    """SHA-256 of a run's checkpoints, the last and the best."""
    names = ("checkpoint.safetensors", "best.safetensors")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


def command(folder: Path, settings: list[str]) -> list[str]:
    """The command that starts the run, or resumes it if its folder contains one."""
    program = [sys.executable, "-m", "lstm_numba", "train", "digits"]
    if (folder / "config.json").exists():
        return [*program, "--resume", str(folder)]
    if folder.exists():  # killed between making the folder and its first file
        shutil.rmtree(folder)
    return [*program, *settings, "--out", str(folder)]


def train(folder: Path, kernels: Path, settings: list[str], kill_after: float | None) -> bool:
    """Start or resume the run; kill it after some seconds. Returns whether it ended by itself."""
    process = subprocess.Popen(
        command(folder, settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "NUMBA_CACHE_DIR": str(kernels)},
    )
    try:
        _, messages = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode != 0:
        raise SystemExit(
            f"training ended with status {process.returncode}: {messages.decode(errors='replace')[-500:]}"
        )
    return True


def one_round(
    folder: Path, kernels: Path, settings: list[str], rng: random.Random, kills: int, longest: float
) -> Round:
    """Kill and resume a run until it ends.

    Parameters
    ----------
    folder, kernels : Path
        Folders for the run and for the kernel cache.
    kills : int
        Largest number of kills.
    longest : float
        Seconds; kill times are drawn uniformly between 0 and this.
    """
    kill_times: list[float] = []
    before_folder = 0
    while True:
        kill_after = rng.uniform(0.0, longest) if len(kill_times) < kills else None
        if train(folder, kernels, settings, kill_after):
            return Round(kill_times, before_folder, digest(folder))
        assert kill_after is not None
        kill_times.append(kill_after)
        before_folder += not (folder / "config.json").exists()


def warm_up_settings(settings: list[str]) -> list[str]:
    """The same options for one epoch."""
    kept = list(settings)
    while "--epochs" in kept:
        place = kept.index("--epochs")
        del kept[place : place + 2]
    return [*kept, "--epochs", "1"]


def main() -> int:
    """Run the experiment and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="runs to kill  [default: 20]")
    parser.add_argument("--kills", type=int, default=1, help="most kills per run  [default: 1]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kill times  [default: 0]")
    parser.add_argument("--cold", action="store_true", help="begin every round with an empty kernel cache")
    parser.add_argument("settings", nargs="*", help="options of lstm-numba train digits, after --")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        kernels = base / "kernels"
        if not arguments.cold:
            train(base / "warm-up", kernels, warm_up_settings(arguments.settings), None)
        started = time.perf_counter()
        train(base / "whole", kernels, arguments.settings, None)
        seconds = time.perf_counter() - started
        expected = digest(base / "whole")
        print(f"uninterrupted: {seconds:.1f} s, checkpoint {expected[:16]}", flush=True)
        different = killed = 0
        print(f"{'round':>5}  {'killed after (s)':<28} {'before the run folder':>21}  final checkpoint")
        for number in range(1, arguments.rounds + 1):
            folder = base / f"round-{number}"
            if arguments.cold:
                kernels = base / f"kernels-{number}"
            result = one_round(folder, kernels, arguments.settings, rng, arguments.kills, seconds)
            same = result.digest == expected
            different += not same
            killed += len(result.kill_times)
            times = ", ".join(f"{after:.2f}" for after in result.kill_times) or "not killed"
            verdict = "identical" if same else f"DIFFERENT: {result.digest[:16]}"
            print(f"{number:>5}  {times:<28} {result.before_folder:>21}  {verdict}", flush=True)
    same_count = arguments.rounds - different
    print(f"killed {killed} times; {same_count} of {arguments.rounds} final checkpoints identical")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
