"""Seconds an epoch of `lstm-numba train` beside the same model in plain PyTorch, taking turns.

Each turn is a process of its own: one run of the command line, then one of `pytorch_epochs.py`. The first
epoch of a process is left out where there are more (it may hold compilation and warm-up).

    python benchmarks/epochs.py mnist --cell lstm --epochs 3 --rounds 2 --data-dir DATA --json out.json
    python benchmarks/epochs.py ptb --preset small --epochs 1 --rounds 2 --data-dir DATA
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def ours(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Epoch lines of a run of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lstm_numba", "train", args.task, "--epochs", str(args.epochs)]
        command += ["--out", f"{folder}/run", "--threads", str(args.threads)]
        command += ["--cell", args.cell] if args.task == "mnist" else ["--preset", args.preset]
        command += ["--data-dir", args.data_dir] if args.data_dir else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = [
            json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        ]
    return [line for line in lines if line["kind"] == "epoch" and line["split"] == "train"]


def theirs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Epoch lines of the PyTorch program."""
    command = [sys.executable, str(HERE / "pytorch_epochs.py"), args.task, "--epochs", str(args.epochs)]
    command += ["--threads", str(args.threads)]
    command += ["--cell", args.cell] if args.task == "mnist" else ["--preset", args.preset]
    command += ["--data-dir", args.data_dir] if args.data_dir else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Read the arguments, take turns, print and write the seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "ptb"])
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    contestants = {"lstm_numba": ours}
    if args.task == "ptb" or args.cell in {"lstm", "gru", "rnn"}:
        contestants["pytorch"] = theirs
    lines: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, run in contestants.items():
            lines[name].append(run(args))
    seconds = {
        name: [line["seconds"] for run in runs for line in run[1 if args.epochs > 1 else 0 :]]
        for name, runs in lines.items()
    }
    what = args.cell if args.task == "mnist" else args.preset
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"{args.task} {what} {name}: {middle:.2f} s an epoch ({min(values):.2f}-{max(values):.2f})",
            flush=True,
        )
    if args.json:
        from lstm_numba.benchmarks.results import machine

        words = ["DATA" if word == args.data_dir else word for word in sys.argv[1:]]
        result = {
            "machine": {**machine(), "threads": args.threads},
            "command": " ".join(["python benchmarks/epochs.py", *words]),
            "seconds": seconds,
            "lines": lines,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
