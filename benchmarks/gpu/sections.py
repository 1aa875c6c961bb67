"""The sections of `lstm_numba.benchmarks.on_gpu` in order of their worth, and the programs of each."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lstm_numba.benchmarks.gpu.schedule import Job
from lstm_numba.cells import BUILT_IN

#: The cells, each with kernels of its own, and what lies around them.
SMOKE = (*BUILT_IN, "around")
BENCHMARKS = Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent


class Section(NamedTuple):
    """A part that can be run alone.

    Attributes
    ----------
    about : str
    seconds : float
        Time limit, all programs together.
    jobs : callable
        The options -> programs, which run at the same time.
    needed : bool
        Whether nothing else is worth running when it fails.
    """

    about: str
    seconds: float
    jobs: Callable[[argparse.Namespace], list[Job]]
    needed: bool = False


def _module(name: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"lstm_numba.benchmarks.{name}", *map(str, words)]


def _cells(args: argparse.Namespace) -> list[str]:
    return [word for cell in args.cell for word in ("--cell", cell)]


def _data(args: argparse.Namespace) -> list[str]:
    return ["--data-dir", args.data_dir] if args.data_dir else []


def _versions(args: argparse.Namespace) -> list[Job]:
    return [Job(_module("gpu.versions"), "versions")]


def _smoke(args: argparse.Namespace) -> list[Job]:
    return [Job(_module("gpu.smoke", part), part) for part in SMOKE]


def _kernels(args: argparse.Namespace) -> list[Job]:
    return [Job(_module("gpu.kernels", *_cells(args)), "kernels")]


def _bench(args: argparse.Namespace) -> list[Job]:
    words = ("six", "--repeats", args.repeats, *_cells(args))
    return [Job(_module("gpu.rows", *words), "bench", args.threads)]


def _tests(args: argparse.Namespace) -> list[Job]:
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "-p", "lstm_numba.benchmarks.gpu.pytest_results"]
    if args.workers and importlib.util.find_spec("xdist"):  # compilation takes most of the time
        options += ["-n", str(args.workers), "--dist", "worksteal"]
    if args.dry_run:
        options += ["--collect-only"]
    tests = [sys.executable, "-m", "pytest", str(ROOT / "tests"), *options, *args.pytest]
    return [Job(tests, "tests", args.threads), *_sanitizer(args)]


def _sanitizer(args: argparse.Namespace) -> list[Job]:
    tool = shutil.which("compute-sanitizer")
    sequences = _module("small_sequences", *_cells(args)[:2])
    if tool is None or args.dry_run:
        words = "compute-sanitizer is not on PATH" if tool is None else "a dry run"
        return [Job([sys.executable, "-c", f"print('left out: {words}')"], "sanitizer")]
    watch = [tool, "--error-exitcode", "9"]
    return [Job([*watch, "--tool", name, *sequences], name) for name in args.tool]


def _training(args: argparse.Namespace) -> list[Job]:
    def job(name: str, *task: str) -> Job:
        steps = 2 if args.dry_run else args.steps
        file = f"{name}.json"
        words = (*task, "--steps", steps, "--allowed", args.allowed, "--json", file)
        return Job(_module("device_parity", *words), name, file=file)

    return [
        job("digits", "digits"),
        # In float32 the rounding of two devices grows to another training within a hundred steps.
        job("grammar-small", "grammar", "--preset", "small", "--dtype", "float64"),
        job("grammar-medium", "grammar", "--preset", "medium", "--dtype", "float64"),
    ]


def _overhead(args: argparse.Namespace) -> list[Job]:
    command = _module("launch_overhead", "--steps", 30, "--json", "overhead.json")
    return [Job(command, "overhead", file="overhead.json")]


def _graph(graph: int) -> Callable[[argparse.Namespace], list[Job]]:
    """A recorded step needs our own products; it is measured beside the same step as it comes."""
    name = ("no-graph", "graph")[graph]

    def jobs(args: argparse.Namespace) -> list[Job]:
        tasks = [word for task in ("mnist", "ptb-small", "ptb-medium") for word in ("--task", task)]
        words = ("--products", "numba", *tasks, "--steps", 30, "--json", f"{name}.json")
        command = ["env", f"LSTM_NUMBA_CUDA_GRAPH={graph}", *_module("launch_overhead", *words)]
        return [Job(command, name, file=f"{name}.json")]

    return jobs


def _crossover(args: argparse.Namespace) -> list[Job]:
    sizes = ("--shape", args.shape, "--batches", args.batches, "--hiddens", args.hiddens)
    words = ("crossover", "--repeats", args.repeats, *sizes, *_cells(args)[:2])
    return [Job(_module("gpu.rows", *words), "crossover", args.threads)]


def _streams(args: argparse.Namespace) -> list[Job]:
    file = "streams.json"
    return [Job(_module("streams_on_gpu", "--repeats", args.repeats, "--json", file), "streams", file=file)]


def _models(args: argparse.Namespace) -> list[Job]:
    return [Job(_module("gpu.many_models"), "models")]


def _epochs(name: str, *words: str) -> Callable[[argparse.Namespace], list[Job]]:
    def jobs(args: argparse.Namespace) -> list[Job]:
        if not args.data_dir:
            return [Job([sys.executable, "-c", "print('left out: it needs --data-dir')"], name)]
        size = ("--epochs", args.epochs, "--rounds", args.rounds, "--threads", args.threads)
        file = f"{name}.json"
        command = _module("epochs", *words, "--device", "cuda", *size, *_data(args), "--json", file)
        return [Job(command, name, args.threads, file)]

    return jobs


SECTIONS: dict[str, Section] = {
    "versions": Section("device, driver, packages", 15, _versions, needed=True),
    "smoke": Section("every cell against the reference, the same bits again; products, masks", 90, _smoke),
    "kernels": Section(
        "device time at the six shapes, all choices, barrier, enqueueing, cuDNN", 160, _kernels
    ),
    "bench": Section("calls at the six shapes: cuda, cuDNN, the processor", 80, _bench),
    "tests": Section("pytest -m gpu beside compute-sanitizer on one cell", 150, _tests),
    "training": Section("the same training on cpu and cuda, losses side by side", 40, _training),
    "overhead": Section("the host's time of training steps and calls", 30, _overhead),
    "no-graph": Section("training steps with our own products", 20, _graph(0)),
    "graph": Section("the same, recorded as a CUDA graph", 20, _graph(1)),
    "crossover": Section("batch and hidden sizes where cuda overtakes the processor", 120, _crossover),
    "streams": Section("10,000 small LSTMs, stepped in a kernel of one's own", 30, _streams),
    "models": Section("256 small LSTMs in one layer, and one after the other", 20, _models),
    "epochs-mnist": Section("epochs of MNIST beside PyTorch", 90, _epochs("mnist", "mnist")),
    "epochs-small": Section("epochs of PTB small", 200, _epochs("small", "ptb", "--preset", "small")),
    "epochs-medium": Section("epochs of PTB medium", 300, _epochs("medium", "ptb", "--preset", "medium")),
}
