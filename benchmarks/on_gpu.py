"""Everything that wants an NVIDIA GPU, what matters most first, in as many seconds as there are.

    python benchmarks/on_gpu.py OUTPUT --budget 400 --data-dir DATA
    python benchmarks/on_gpu.py OUTPUT smoke tests
    python benchmarks/on_gpu.py OUTPUT epochs-medium --epochs 2 --budget 600 --data-dir DATA
    python benchmarks/on_gpu.py OUTPUT --dry-run
    python benchmarks/on_gpu.py --list

Every result is a line of JSON in OUTPUT/results.jsonl as soon as it is there, and all that is printed stands
in OUTPUT/log.txt: whenever this program ends, what was found until then is kept. A section ends by its own
limit and by the end of the budget, whatever it does; what it has not come to is left out. The exit status is
1 if something failed. A dry run computes nothing: it shows with a stand-in for the driver that every section
starts and writes.
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

#: Seconds at the end of the budget for the last words.
_RESERVE = 2.0
#: A section with less time than this, or than its limit, is not begun.
_LEAST = 3.0


class Done(NamedTuple):
    """What came of a section."""

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
        self._place = self._results.stat().st_size if self._results.exists() else 0
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
        """Run the sections that there is time for."""
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
            if self._end - now < min(_LEAST, cap):
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
        """How many results there are since the last call, and which of them are failures."""
        with self._results.open("rb") as file:
            file.seek(self._place)
            texts = file.read().splitlines()
            self._place = file.tell()
        lines = []
        for text in texts:
            with contextlib.suppress(ValueError):  # whoever wrote it was killed
                lines.append(json.loads(text))
        results = [line for line in lines if not line["kind"].startswith(("begin", "section "))]
        failures = [line for line in results if record.is_failure(line)]
        short = [f"{line['kind']}: {line.get('failed', 'wrong')}"[:90] for line in failures]
        return len(results), short

    def table(self) -> str:
        """What came of the sections."""
        rows = [f"{'section':14} {'seconds':>8} {'results':>8}  what failed"]
        for name, seconds, results, problems in self.done:
            shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if problems[4:] else "")
            rows.append(f"{name:14} {seconds:8.1f} {results:8}  {shown or 'nothing'}")
        return "\n".join(rows)


def _absolute(*variables: str) -> dict[str, str]:
    """Environment variables that name folders, for programs that run elsewhere."""
    given = {name: os.environ[name].split(os.pathsep) for name in variables if os.environ.get(name)}
    return {name: os.pathsep.join(map(os.path.abspath, folders)) for name, folders in given.items()}


def _cache_folder() -> str:
    """Where Numba keeps compiled kernels: a folder for these sources, of which it looks at some only."""
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
    parser.add_argument("output", type=Path, nargs="?", help="folder for results and log")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="[default: all, in order]")
    parser.add_argument("--list", action="store_true", help="name the sections and their limits, run nothing")
    parser.add_argument("--budget", type=float, default=400, help="seconds for everything  [default: 400]")
    parser.add_argument("--limit", type=float, help="seconds for a section, instead of its own")
    parser.add_argument("--dry-run", action="store_true", help="with a stand-in for the driver")
    parser.add_argument("--data-dir", help="where MNIST and PTB lie, for epochs")
    parser.add_argument("--cell", action="append", help="of kernels and bench  [default: lstm, gru]")
    parser.add_argument(
        "--tool", action="append", help="of compute-sanitizer  [default: memcheck, racecheck]"
    )
    parser.add_argument("--pytest", action="append", default=[], help="a word more for pytest")
    parser.add_argument("--workers", type=int, default=processors(), help="processes of pytest; 0: one")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--allowed", type=float, default=1e-2, help="relative difference of its losses")
    parser.add_argument("--turns", type=int, default=3, help="of bench and crossover")
    parser.add_argument("--shape", default="mnist", help="of crossover")
    parser.add_argument("--batches", default="1,4,16,64,256")
    parser.add_argument("--hiddens", default="64,128,256,512,1024")
    parser.add_argument(
        "--threads", type=int, default=processors(), help="of the processor, where it is timed"
    )
    parser.add_argument("--epochs", type=int, default=2, help="the first of several does not count")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args(words)
    args.cell, args.tool = args.cell or ["lstm", "gru"], args.tool or ["memcheck", "racecheck"]
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected {', '.join(SECTIONS)}")
    if args.output is None and not args.list:
        parser.error("OUTPUT: the folder for results and log is missing")
    if args.output is not None:  # programs run elsewhere
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
