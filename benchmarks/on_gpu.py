"""Everything that wants an NVIDIA GPU, in one call: versions, tests, checks of memory and races, comparisons.

    python benchmarks/on_gpu.py OUTPUT --data-dir DATA
    python benchmarks/on_gpu.py OUTPUT tests sanitizer
    python benchmarks/on_gpu.py OUTPUT epochs-medium --epochs 2 --rounds 1 --data-dir DATA
    python benchmarks/on_gpu.py --list

Raw output goes into the folder OUTPUT: NAME.txt is what section NAME printed, NAME.json what it measured.
Every section ends by its time limit, whatever it does, and what it wrote until then stays; the others are run
all the same. The exit status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Seconds that a program gets to write its results after SIGINT.
_GRACE = 20.0

Command = list[str]


class Section(NamedTuple):
    """A part that can be run alone.

    Attributes
    ----------
    about : str
    seconds : int
        Time limit, all commands together.
    commands : callable
        The options -> commands, run one after the other.
    """

    about: str
    seconds: int
    commands: Callable[[argparse.Namespace], list[Command]]


def _script(name: str, *words: object) -> Command:
    return [sys.executable, str(HERE / name), *map(str, words)]


def _program(*words: object) -> Command:
    return [sys.executable, "-m", "lstm_numba", *map(str, words)]


def _data(args: argparse.Namespace) -> list[str]:
    return ["--data-dir", args.data_dir] if args.data_dir else []


def _versions(args: argparse.Namespace) -> list[Command]:
    smi = [["nvidia-smi"]] if shutil.which("nvidia-smi") else []
    return [*smi, _program("info", *_data(args)), [sys.executable, "-m", "pip", "list"]]


def _tests(args: argparse.Namespace) -> list[Command]:
    options = ["-m", "gpu", "-q", "--durations=15", "-p", "no:cacheprovider"]
    if args.workers and importlib.util.find_spec("xdist"):  # compilation takes most of the time
        options += ["-n", str(args.workers), "--dist", "loadfile"]
    return [[sys.executable, "-m", "pytest", str(ROOT / "tests"), *options, *args.pytest]]


def _sanitizer(args: argparse.Namespace) -> list[Command]:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        print("compute-sanitizer is not on PATH: left out", flush=True)
        return []
    sequences = _script("small_sequences.py", *(word for cell in args.cell for word in ("--cell", cell)))
    # The first run compiles, so that the tools watch kernels and not the compiler.
    watched = [[tool, "--tool", name, "--error-exitcode", "9", *sequences] for name in args.tool]
    return [sequences, *watched]


def _same_loss(args: argparse.Namespace) -> list[Command]:
    common = ["--steps", args.steps, "--device", args.device, *_data(args)]
    return [
        _script("same_loss.py", task, *common, "--json", f"same-loss-{task}.json")
        for task in ("mnist", "ptb")
    ]


def _bench(axis: str) -> Callable[[argparse.Namespace], list[Command]]:
    def commands(args: argparse.Namespace) -> list[Command]:
        cells = [word for cell in args.cell for word in ("--cell", cell)]
        sweep = f"{axis}={args.batches if axis == 'batch' else args.hiddens}"
        tasks = ["--task", "inference", "--task", "training", "--turns", args.turns]
        files = ["--json", f"{axis}.json"]
        return [_program("bench", "--sweep", sweep, "--shape", args.shape, *cells, *tasks, *files)]

    return commands


def _streams(args: argparse.Namespace) -> list[Command]:
    return [_script("streams_on_gpu.py", "--turns", args.turns, "--json", "streams.json")]


def _epochs(name: str, *words: str) -> Callable[[argparse.Namespace], list[Command]]:
    def commands(args: argparse.Namespace) -> list[Command]:
        size = ["--epochs", args.epochs, "--rounds", args.rounds, "--threads", args.threads]
        files = ["--json", f"epochs-{name}.json"]
        return [_script("epochs.py", *words, "--device", args.device, *size, *_data(args), *files)]

    return commands


SECTIONS: dict[str, Section] = {
    "versions": Section("device, driver, packages", 90, _versions),
    "tests": Section("pytest -m gpu", 560, _tests),
    "sanitizer": Section("compute-sanitizer on small sequences", 400, _sanitizer),
    "same-loss": Section("the same training on cpu and cuda, losses side by side", 240, _same_loss),
    "batch": Section("lstm-numba bench over batch sizes", 480, _bench("batch")),
    "hidden": Section("lstm-numba bench over hidden sizes", 480, _bench("hidden")),
    "streams": Section("10,000 small LSTMs, stepped in a kernel of one's own", 120, _streams),
    "epochs-mnist": Section("epochs of MNIST beside PyTorch", 240, _epochs("mnist", "mnist")),
    "epochs-small": Section("epochs of PTB small", 300, _epochs("small", "ptb", "--preset", "small")),
    "epochs-medium": Section("epochs of PTB medium", 480, _epochs("medium", "ptb", "--preset", "medium")),
}


def _run(command: Sequence[str], seconds: float, log: Path, names: Mapping[str, str]) -> str:
    """Run a command in the folder of `log`, add what it prints there; return what went wrong, or nothing.

    Folders of this machine are called by the names that they have in `names`.
    """

    def named(text: str) -> str:
        for path, name in names.items():
            text = text.replace(path, name)
        return text

    heading = named(f"$ {shlex.join(command)}\n")
    print(heading, end="", flush=True)
    problem = ""
    before = log.read_text(encoding="utf-8") + heading
    with log.open("w+b") as file:
        file.write(before.encode())
        file.flush()
        start = file.tell()
        # A group of its own, so that what it starts ends with it.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, start_new_session=True
        )
        try:
            status = process.wait(timeout=max(seconds, 0.1))
            problem = f"exit status {status}" if status else ""
        except subprocess.TimeoutExpired:
            problem = f"stopped after {seconds:.0f} s"
            _stop(process)
        except KeyboardInterrupt:
            _stop(process)
            raise
        file.seek(start)
        text = named(file.read().decode(errors="replace"))
    print(text, end="", flush=True)
    log.write_text(before + text + (f"{problem}\n" if problem else ""), encoding="utf-8")
    return problem


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt, for results to be written; then kill."""
    for number, patience in ((signal.SIGINT, _GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            continue


def run_section(name: str, args: argparse.Namespace) -> str:
    """Run a section's commands until one fails or the time is over; return what went wrong, or nothing."""
    section = SECTIONS[name]
    log = args.output / f"{name}.txt"
    log.write_text(f"{section.about}; {platform.platform()}\n", encoding="utf-8")
    end = time.monotonic() + (args.limit or section.seconds)
    names = {sys.executable: "python", str(HERE): "benchmarks", str(args.output): "OUTPUT", str(ROOT): "."}
    if args.data_dir:
        names = {args.data_dir: "DATA", **names}
    problems = []
    for command in section.commands(args):
        left = end - time.monotonic()
        problem = _run(list(map(str, command)), left, log, names) if left > 0 else "no time left"
        if problem:
            problems.append(f"{' '.join(Path(str(word)).name for word in command[:3])}: {problem}")
    return "; ".join(problems)


def _processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, nargs="?", help="folder for raw output")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="[default: all, in order]")
    parser.add_argument("--list", action="store_true", help="name the sections and their limits, run nothing")
    parser.add_argument("--data-dir", help="where MNIST and PTB lie")
    parser.add_argument("--limit", type=float, help="seconds for a section, instead of its own")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda", help="cpu tries the scripts only"
    )
    parser.add_argument("--cell", action="append", help="of bench and sanitizer  [default: lstm, gru]")
    parser.add_argument("--tool", action="append", help="of sanitizer  [default: memcheck, racecheck]")
    parser.add_argument("--pytest", action="append", default=[], help="a word more for pytest")
    parser.add_argument("--workers", type=int, default=4, help="processes of pytest; 0: this one")
    parser.add_argument("--steps", type=int, default=100, help="of same-loss")
    parser.add_argument("--turns", type=int, default=5, help="of bench")
    parser.add_argument("--shape", default="mnist", help="of bench")
    parser.add_argument("--batches", default="1,4,16,64,256")
    parser.add_argument("--hiddens", default="64,128,256,512,1024")
    parser.add_argument("--threads", type=int, default=_processors(), help="of the processor, for epochs")
    parser.add_argument("--epochs", type=int, default=2, help="the first of several does not count")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args(words)
    args.cell, args.tool = args.cell or ["lstm", "gru"], args.tool or ["memcheck", "racecheck"]
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected {', '.join(SECTIONS)}")
    if args.output is None and not args.list:
        parser.error("OUTPUT: the folder for raw output is missing")
    if args.output is not None:  # programs run there
        args.output = args.output.absolute()
    args.data_dir = args.data_dir and os.path.abspath(args.data_dir)
    return args


def main(words: Sequence[str] | None = None) -> int:
    """Run the sections; return the exit status."""
    args = parse(words)
    if args.list:
        for name, section in SECTIONS.items():
            print(f"{name:14} {section.seconds:4} s  {section.about}")
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    summary = []
    for name in args.sections or SECTIONS:
        print(f"\n== {name}: {SECTIONS[name].about}", flush=True)
        began = time.monotonic()
        problem = run_section(name, args)
        summary.append((name, time.monotonic() - began, problem))
    print()
    for name, seconds, problem in summary:
        print(f"{name:14} {seconds:6.1f} s  {problem or 'done'}")
    return int(any(problem for *_, problem in summary))


if __name__ == "__main__":
    sys.exit(main())
