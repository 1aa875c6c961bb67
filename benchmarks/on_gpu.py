"""Runs all checks and benchmarks that need an NVIDIA GPU, most important first, within a time budget.

    python benchmarks/on_gpu.py OUTPUT --budget 400 --data-dir DATA
    python benchmarks/on_gpu.py OUTPUT smoke tests
    python benchmarks/on_gpu.py OUTPUT epochs-medium --epochs 2 --budget 600 --data-dir DATA
    python benchmarks/on_gpu.py OUTPUT --dry-run
    python benchmarks/on_gpu.py --list

Every result is appended to OUTPUT/results.jsonl at once, as a line of JSON, and all output to OUTPUT/log.txt:
whenever this program ends, the results so far are kept. A section is stopped at its own time limit and at the
end of the budget; the rest of it is skipped. The exit status is 1 if something failed. A dry run computes
nothing: with the stand-in driver it tests that every section starts and writes results.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lstm_numba.benchmarks import stand_in
from lstm_numba.benchmarks.gpu import record
from lstm_numba.benchmarks.gpu.schedule import Job, Programs, processors
from lstm_numba.benchmarks.gpu.sections import BENCHMARKS, ROOT, SECTIONS

#: Seconds at the end of the budget for the summary.
_RESERVE = 2.0
#: Seconds that must be left (or its limit, if shorter) for a section to be started.
_MINIMUM = 3.0


class Done(NamedTuple):
    """The outcome of a section."""

    name: str
    seconds: float
    results: int
    problems: list[str]


class Run:
    """One run of sections.

    Parameters
    ----------
    args : Namespace
        From `parse`.
    folder : Path
        Where the sections' programs run; nothing in it is kept.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args, self._folder = args, folder
        self._end = time.monotonic() + args.budget - min(_RESERVE, args.budget / 10)
        self._results, self._log = args.output / "results.jsonl", args.output / "log.txt"
        self._read_up_to = self._results.stat().st_size if self._results.exists() else 0
        names = {sys.executable: "python", str(folder): "TEMPORARY", str(args.output): "OUTPUT"}
        names |= {args.data_dir: "DATA"} if args.data_dir else {}
        names |= {str(BENCHMARKS): "benchmarks", str(ROOT): "."}
        self._environment = {
            "NUMBA_CACHE_DIR": _cache_folder(),
            **os.environ,
            **_absolute("PYTHONPATH", "NUMBA_CACHE_DIR"),
            **(stand_in.environment() if args.dry_run else {}),
            record.RESULTS: str(self._results),
            record.BEGAN: repr(time.time()),
            record.NAMES: json.dumps(names),
        }
        self.done: list[Done] = []

    def everything(self) -> None:
        """Run the sections, as far as the time allows."""
        self._keep(
            "begin",
            command=shlex.join(sys.argv[1:]),
            budget=self._args.budget,
            computes=not self._args.dry_run,
        )
        for name in self._args.sections or SECTIONS:
            section = SECTIONS[name]
            cap = self._args.limit or section.seconds
            now = time.monotonic()
            if self._end - now < min(_MINIMUM, cap):
                self.done.append(Done(name, 0.0, 0, ["left out: no time left"]))
                continue
            self._run_section(name, min(now + cap, self._end))
            if section.needed and self.done[-1].problems:
                break

    def _run_section(self, name: str, end: float) -> None:
        print(f"\n== {name}: {SECTIONS[name].about}", flush=True)
        began = time.monotonic()
        self._environment[record.SECTION] = name
        self._environment[record.END] = repr(time.time() + end - began - 1)
        self._keep("section begins", seconds=round(end - began, 1))
        programs = Programs(self._log, self._folder, self._environment)
        try:
            programs.run(SECTIONS[name].jobs(self._args), end, self._keep_file)
        finally:
            found, failures = self._new_results()
            problems = programs.problems + failures
            self.done.append(Done(name, time.monotonic() - began, found, problems))
            self._keep("section ends", seconds=round(self.done[-1].seconds, 1), problems=problems)

    def _keep(self, kind: str, **facts: object) -> None:
        record.keep(self._environment, kind, facts)

    def _keep_file(self, job: Job) -> None:
        path = self._folder / (job.file or "")
        if path.is_file():
            with contextlib.suppress(ValueError):  # it was stopped while it wrote
                content = json.loads(path.read_text(encoding="utf-8"))
                self._keep("file", name=path.name, computed=not self._args.dry_run, content=content)

    def _new_results(self) -> tuple[int, list[str]]:
        """Number of results since the last call, and the failures among them."""
        with self._results.open("rb") as file:
            file.seek(self._read_up_to)
            texts = file.read().splitlines()
            self._read_up_to = file.tell()
        lines = []
        for text in texts:
            with contextlib.suppress(ValueError):  # its writer was killed
                lines.append(json.loads(text))
        results = [line for line in lines if not line["kind"].startswith(("begin", "section "))]
        failures = [line for line in results if record.is_failure(line)]
        short = [f"{line['kind']}: {line.get('failed', 'wrong')}"[:90] for line in failures]
        return len(results), short

    def table(self) -> str:
        """The outcome of all sections as a table."""
        rows = [f"{'section':14} {'seconds':>8} {'results':>8}  what failed"]
        for name, seconds, results, problems in self.done:
            shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if problems[4:] else "")
            rows.append(f"{name:14} {seconds:8.1f} {results:8}  {shown or 'nothing'}")
        return "\n".join(rows)


def _absolute(*variables: str) -> dict[str, str]:
    """Environment variables with folders, made absolute for programs that run in another folder."""
    given = {name: os.environ[name].split(os.pathsep) for name in variables if os.environ.get(name)}
    return {name: os.pathsep.join(map(os.path.abspath, folders)) for name, folders in given.items()}


def _cache_folder() -> str:
    """A cache folder for exactly these sources: Numba does not notice changes in called functions."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.glob("*/**/*.py")):
        digest.update(path.read_bytes())
    return str(Path(tempfile.gettempdir()) / f"lstm-numba-on-gpu-{digest.hexdigest()[:16]}")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, nargs="?", help="folder for the results and the log")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help="sections to run  [default: all, in order]"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the sections and their time limits, run nothing"
    )
    parser.add_argument("--budget", type=float, default=400, help="seconds in all  [default: 400]")
    parser.add_argument("--limit", type=float, help="seconds per section  [default: see --list]")
    parser.add_argument("--dry-run", action="store_true", help="compute nothing, with the stand-in driver")
    parser.add_argument("--data-dir", help="folder with the files of MNIST and PTB, for epochs")
    parser.add_argument(
        "--cell", action="append", help="cell for kernels and bench; may be repeated  [default: lstm, gru]"
    )
    parser.add_argument(
        "--tool",
        action="append",
        help="tool of compute-sanitizer; may be repeated  [default: memcheck, racecheck]",
    )
    parser.add_argument(
        "--pytest", action="append", default=[], help="additional argument for pytest; may be repeated"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=processors(),
        help="pytest processes; 0: without xdist  [default: cores]",
    )
    parser.add_argument("--steps", type=int, default=100, help="steps of training  [default: 100]")
    parser.add_argument(
        "--allowed", type=float, default=1e-2, help="relative difference of losses  [default: 0.01]"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of bench, crossover, streams  [default: 3]")
    parser.add_argument("--shape", default="mnist", help="shape varied by crossover  [default: mnist]")
    parser.add_argument("--batches", default="1,4,16,64,256", help="batch sizes of crossover")
    parser.add_argument("--hiddens", default="64,128,256,512,1024", help="hidden sizes of crossover")
    parser.add_argument(
        "--threads", type=int, default=processors(), help="CPU threads where it is timed  [default: cores]"
    )
    parser.add_argument(
        "--epochs", type=int, default=2, help="epochs; the first of several does not count  [default: 2]"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="runs of each program, for epochs  [default: 1]"
    )
    args = parser.parse_args(words)
    args.cell, args.tool = args.cell or ["lstm", "gru"], args.tool or ["memcheck", "racecheck"]
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected {', '.join(SECTIONS)}")
    if args.output is None and not args.list:
        parser.error("OUTPUT: the folder for results and log is missing")
    if args.output is not None:  # programs run in another folder
        args.output = args.output.absolute()
    args.data_dir = args.data_dir and os.path.abspath(args.data_dir)
    return args


def main(words: Sequence[str] | None = None) -> int:
    """Run the sections; return the exit status."""
    args = parse(words)
    if args.list:
        for name, section in SECTIONS.items():
            print(f"{name:14} {section.seconds:4.0f} s  {section.about}")
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    interrupted = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Run(args, Path(folder))
        with _terminated_as_interrupted():
            try:
                run.everything()
            except KeyboardInterrupt:
                interrupted = True
        record.append(args.output / "log.txt", run.table() + "\n")
        print(f"\n{run.table()}", flush=True)
    return 130 if interrupted else int(any(done.problems for done in run.done))


if __name__ == "__main__":
    sys.exit(main())
