"""Seconds per epoch of `lstm-numba train` and of the same model in plain PyTorch, alternating.

Every run is a process of its own: one of the command line, then one of `pytorch_epochs.py`, and so on. The
first epoch of a process does not count if there are more (it may include compilation and warm-up).

    python benchmarks/epochs.py mnist --cell lstm --epochs 3 --rounds 2 --data-dir DATA --json out.json
    python benchmarks/epochs.py ptb --preset small --epochs 1 --rounds 2 --data-dir DATA
    python benchmarks/epochs.py ptb --preset medium --epochs 2 --rounds 1 --device cuda --data-dir DATA

The JSON file has the seconds of the epochs that count (``seconds``), and for every epoch of every run
(``lines``) its mean loss, ten points of its loss curve (``curve``: step, mean since the last point) and the
evaluations after it.
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


def _options(args: argparse.Namespace) -> list[str]:
    """Command-line arguments for both programs."""
    words = [args.task, "--epochs", str(args.epochs), "--threads", str(args.threads)]
    words += ["--device", args.device]
    words += ["--preset", args.preset] if args.task == "ptb" else ["--cell", args.cell]
    return words + (["--data-dir", args.data_dir] if args.data_dir and args.task != "digits" else [])


def ours(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Epochs of a run of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lstm_numba", "train", *_options(args), "--out", f"{folder}/run"]
        if args.task != "ptb":  # the other program trains on all images
            command += ["--validation", "0"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        text = (Path(folder) / "run" / "metrics.jsonl").read_text()
    return epoch_lines([json.loads(line) for line in text.splitlines()])


def epoch_lines(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One object per epoch, with its curve and evaluations, from the lines of ``metrics.jsonl``."""
    found = []
    for line in metrics:
        if line["kind"] != "epoch" or line["split"] != "train":
            continue
        of_epoch = [other for other in metrics if other["epoch"] == line["epoch"] and other is not line]
        curve = [[other["step"], other["loss"]] for other in of_epoch if other["kind"] == "step"]
        evaluations = [other for other in of_epoch if other["kind"] == "epoch"]
        found.append({**line, "curve": curve, "evaluations": evaluations})
    return found


def theirs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Epochs of the PyTorch program."""
    command = [sys.executable, str(HERE / "pytorch_epochs.py"), *_options(args)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Read the arguments, run both programs, print and write the seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "digits", "ptb"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="[default: cpu]")
    parser.add_argument("--cell", default="lstm", help="recurrent cell of mnist and digits  [default: lstm]")
    parser.add_argument("--preset", default="small", help="settings of ptb  [default: small]")
    parser.add_argument("--epochs", type=int, default=2, help="epochs per run  [default: 2]")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each program  [default: 2]")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads  [default: 2]")
    parser.add_argument("--data-dir", help="folder with the files of MNIST and PTB")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    programs = {"lstm_numba": ours}
    if args.task == "ptb" or args.cell in {"lstm", "gru", "rnn"}:
        programs["pytorch"] = theirs
    lines: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in programs}
    for _ in range(args.rounds):
        for name, run in programs.items():
            lines[name].append(run(args))
    seconds = {
        name: [line["seconds"] for run in runs for line in run[1 if args.epochs > 1 else 0 :]]
        for name, runs in lines.items()
    }
    what = args.preset if args.task == "ptb" else args.cell
    what += f" on {args.device}"
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"{args.task} {what} {name}: {middle:.2f} s per epoch ({min(values):.2f}-{max(values):.2f})",
            flush=True,
        )
    if args.json:
        from lstm_numba.benchmarks.results import machine

        words = ["DATA" if word == args.data_dir else word for word in sys.argv[1:]]
        result = {
            "machine": {**machine(), "threads": args.threads},
            "device": args.device,
            "command": " ".join(["python benchmarks/epochs.py", *words]),
            "seconds": seconds,
            "lines": lines,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
