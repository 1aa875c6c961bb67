"""One model over ranks: speed of 2 ranks against 2 threads, a trace of the overlap, a model of many ranks.

    python -m lstm_numba.benchmarks.ranks --data-dir ~/ptb --json OUTPUT.json
    python -m lstm_numba.benchmarks.ranks --data-dir ~/ptb --latency 2e-6 --bandwidth 1e10

Needs mpi4py and mpiexec (the extra "mpi"). One process of two threads and two ranks of one take turns, a new
start each time. The trace shows one step: when gradients were final, and when each sum was under way. The
model is stated in `rank_model.py`; its latency and bandwidth are those of MPI's messages between two ranks of
this machine, or of a network that you give.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.benchmarks.markdown import table
from lstm_numba.benchmarks.rank_model import Line, Messages, Prediction, fit_line, fit_work, predict
from lstm_numba.benchmarks.results import machine

RANKS = (2, 8, 16, 32, 64)
#: Characters of a line of the trace.
_WIDTH = 60


def mpiexec() -> str:
    """The launcher: that of the environment which this Python is in, else the machine's."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise SystemExit("mpiexec: not found; pip install 'lstm_numba[mpi]' mpich, or use the machine's MPI")
    return found


def run(ranks: int, what: str, args: argparse.Namespace, *more: str) -> dict[str, Any]:
    """What the first of so many processes found."""
    command = [sys.executable, "-m", "lstm_numba.benchmarks.rank_worker", what, *more]
    if args.data_dir:
        command += ["--data-dir", args.data_dir, "--preset", args.preset]
    if ranks > 1:
        command = [mpiexec(), "-n", str(ranks), *command]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **root})
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(args: argparse.Namespace) -> dict[str, list[float]]:
    """Median seconds of a step in each repeat, of all backends in turn."""
    steps = ("--steps", str(args.steps))
    backends: dict[str, tuple[int, tuple[str, ...]]] = {
        "2 threads": (1, ("--threads", "2")),
        "2 ranks": (2, ("--threads", "1")),
        "1 thread": (1, ("--threads", "1")),
        "1 thread, half the rows": (1, ("--threads", "1", "--share", "2")),
    }
    found: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(args.repeats):
        for name, (ranks, more) in backends.items():
            found[name].append(float(np.median(run(ranks, "speed", args, *more, *steps)["seconds"])))
    return found


def spread(seconds: Sequence[float]) -> str:
    """Median and range, in milliseconds."""
    low, middle, high = (1e3 * x for x in np.quantile(seconds, (0, 0.5, 1)))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def ratio(times: Mapping[str, Sequence[float]]) -> float:
    """Speed of two ranks over that of two threads: the median of the repeats."""
    pairs = zip(times["2 threads"], times["2 ranks"], strict=True)
    return float(np.median([threads / ranks for threads, ranks in pairs]))


def timeline(step: Mapping[str, Any]) -> list[str]:
    """Lines of text that show one step of one rank: what was under way when."""
    scale = _WIDTH / step["seconds"]
    lines = []
    for event in step["events"]:
        first = int(event["begin"] * scale)
        last = max(int(event["end"] * scale), first + 1)
        bar = (" " * first + ("=" if event["kind"] == "backward" else "#") * (last - first)).ljust(_WIDTH)
        name = event["name"].split(", ")[0]
        size = f"{event['size'] / 1e6:6.2f} MB" if event["size"] else " " * 9
        when = f"{1e3 * event['begin']:.2f} to {1e3 * event['end']:.2f} ms"
        lines.append(f"{event['kind']:9}{name:22}{size} |{bar}| {when}")
    return lines


def middle_step(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of all ranks, the step whose time is the median of the slowest rank's."""
    slowest = [max(step["seconds"] for step in steps) for steps in zip(*found["ranks"], strict=True)]
    chosen = int(np.argsort(slowest)[len(slowest) // 2])
    return [steps[chosen] for steps in found["ranks"]]


def messages_of(step: Mapping[str, Any], rows: int) -> Messages:
    """What the step of one of two ranks with so many rows sent."""
    sums = [event for event in step["events"] if event["kind"] in ("sum", "rest")]
    gathered = [event["size"] for event in step["events"] if event["kind"] == "rows"]
    backward = max(event["end"] for event in step["events"] if event["kind"] == "backward")
    overlap = max(0.0, backward - sums[0]["begin"]) / rows
    return Messages(tuple(event["size"] for event in sums), sum(gathered) // 2 // rows, overlap)


def model_table(predictions: Sequence[Prediction]) -> list[str]:
    """The model's numbers as Markdown."""
    head = ["ranks", "rows a rank", "step, ms", "with overlap, ms", "efficiency", "with overlap"]
    return table(
        head,
        [
            [
                one.ranks, one.rows, f"{1e3 * one.apart:.2f}", f"{1e3 * one.overlapped:.2f}",
                *(f"{100 * share:.0f} %" for share in one.efficiency),
            ]
            for one in predictions
        ],
    )  # fmt: skip


def main() -> None:
    """Measure, model, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder with PTB's files")
    parser.add_argument("--preset", default="small", help="  [default: %(default)s]")
    parser.add_argument("--repeats", type=int, default=7, help="starts of each  [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=40, help="of each start  [default: %(default)s]")
    parser.add_argument("--latency", type=float, help="of a network, seconds  [default: measured]")
    parser.add_argument("--bandwidth", type=float, help="of a network, bytes per second  [default: measured]")
    parser.add_argument(
        "--batch", type=int, default=640, help="rows that many ranks share  [default: %(default)s]"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()

    times = compare(args)
    print("milliseconds per step, median (least to most) of the starts:")
    for name, seconds in times.items():
        print(f"  {name:24} {spread(seconds)}")
    print(f"2 ranks of 1 thread over 2 threads: {ratio(times):.3f} of the speed")

    traced = run(2, "trace", args, "--threads", "1", "--steps", "20")
    shown = middle_step(traced)
    for rank, step in enumerate(shown):
        print(f"rank {rank}, a step of {1e3 * step['seconds']:.2f} ms:")
        print("\n".join(timeline(step)))

    sent = run(2, "messages", args, "--steps", "100")
    line = fit_line({int(size): seconds for size, seconds in sent["seconds"].items()})
    line = Line(args.latency or line.latency, args.bandwidth or line.bandwidth)
    rows = traced["rows"]
    work = fit_work(
        {
            rows: float(np.median(times["1 thread"])),
            rows // 2: float(np.median(times["1 thread, half the rows"])),
        }
    )
    messages = messages_of(shown[0], rows // 2)
    print(f"a sum over 2 ranks: {1e6 * line.latency:.1f} us + bytes / {line.bandwidth / 1e9:.2f} GB/s")
    print(f"a step of one rank: {1e3 * work.fixed:.2f} ms + {1e3 * work.row:.3f} ms per row")
    weak = predict(line, work, messages, RANKS, rows // 2, 0)
    strong = predict(line, work, messages, RANKS, None, args.batch)
    print("A MODEL, not measured. As many rows a rank as two ranks have:")
    print("\n".join(model_table(weak)))
    print(f"A MODEL, not measured. A batch of {args.batch} rows:")
    print("\n".join(model_table(strong)))
    if args.json:
        found = {
            "command": shlex.join(["python", "-m", "lstm_numba.benchmarks.ranks", *sys.argv[1:]]),
            "seconds": times, "ratio": ratio(times), "trace": shown, "messages": sent["seconds"],
            "line": line._asdict(), "work": work._asdict(), "sent": messages._asdict(),
            "model": {"weak": [one._asdict() for one in weak], "strong": [one._asdict() for one in strong]},
            "machine": machine(),
        }  # fmt: skip
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
