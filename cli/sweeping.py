"""Trains the trials of ``lstm-numba sweep``, in this process or in several, and prints what came of them."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from lstm_numba.cli.console import Terminal, metrics_text, print_json, warn
from lstm_numba.cli.custom_cells import equations_of, load_own_cells
from lstm_numba.cli.experiments.common import table
from lstm_numba.cli.plot import require_matplotlib
from lstm_numba.cli.resources import check_memory, choose_device, set_threads
from lstm_numba.errors import UserError
from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.reading import read_sweep
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from lstm_numba.sweeps.study import Claim, Sweep
    from lstm_numba.sweeps.trial import Result
    from lstm_numba.training.callbacks import EpochInfo, StartInfo, StepInfo
    from lstm_numba.training.signals import SignalWatch

#: Trials in the table.
_SHOWN = 10
#: Exit status after SIGTERM.
_TERMINATED = 128 + signal.SIGTERM
#: Seconds between looks at the process that began this one.
_LOOK = 1.0


class Options(NamedTuple):
    """What the command line says beside the file; one process hands it to others."""

    file: str
    folder: str
    storage: str | None
    data_dir: str | None
    device: str
    threads: int | None


class _Shown(Terminal):
    """A line for each trial that begins and ends; between them the progress."""

    def __init__(self) -> None:
        super().__init__()
        self._head = ""
        self._looked = time.monotonic()

    def begin(self, config: SweepConfig, claim: Claim) -> None:
        """A trial begins."""
        self._head = f"trial {claim.number}"
        self._prefix = f"{self._head}: "
        again = " again, from its checkpoint" if claim.again else ""
        self.say(f"{self._head}{again}: {settings_text(config, claim.params)}")

    def end(self, config: SweepConfig, result: Result) -> None:
        """A trial has ended."""
        reached = f"{result.epochs}" if result.epochs else "no"
        value = (
            f"{config.metric} {result.value:.4g} (epoch {result.best_epoch} of {reached})"
            if result.value
            else ""
        )
        state = "" if result.state == "complete" else f"{result.state} after {plural(result.epochs, 'epoch')}"
        self.say(f"{self._head}: {'; '.join(filter(None, (state, value, result.reason)))}")

    def on_start(self, info: StartInfo) -> None:
        """Training starts or resumes; the settings were said."""
        self._metric, self._unit = info.metric, info.unit

    def on_step(self, info: StepInfo) -> None:
        """Update the progress line; end with the process that began this one."""
        super().on_step(info)
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked = now
            stop_if_orphaned()

    def on_epoch(self, info: EpochInfo) -> None:
        """The trial's line says what came of its epochs."""


def settings_text(config: SweepConfig, params: Mapping[str, Any]) -> str:
    """Drawn settings: ``lr 0.0123, cell gru``."""
    return ", ".join(f"{config.option(name)} {number_text(value)}" for name, value in params.items())


def number_text(value: Any) -> str:
    """A value of a setting."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def stop_if_orphaned() -> None:
    """End as by SIGTERM, after the step and with a checkpoint, if the process that began this one is gone."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None and not parent.is_alive():
        os.kill(os.getpid(), signal.SIGTERM)


# -- training ----------------------------------------------------------------------------------------


def train_sweep(config: SweepConfig, options: Options, jobs: int) -> None:
    """Train until no trial is left to begin.

    Parameters
    ----------
    config : SweepConfig
    options : Options
    jobs : int
        Processes.

    Raises
    ------
    click.exceptions.Exit
        A signal came, and what was under way is saved.
    """
    config.check_files()
    device, threads = choose_device(options.device), set_threads(options.threads)
    load_own_cells(*config.cells())
    if jobs > threads:
        there = plural(threads, "thread")
        raise click.UsageError(f"--jobs: expected at most the {there} there are, got {jobs}")
    opened(config, options, begin=True).close()  # what can be refused is refused here, and once
    if config.watched == "train":
        warn("no data are held out (validation = 0): trials are compared by their training metrics")
    if jobs == 1:
        status = _train(config, options._replace(device=device, threads=threads))
    else:
        status = _train_beside(options._replace(device=device, threads=threads // jobs), jobs)
    if status:
        out = [] if Path(options.folder) == Path("sweeps", config.name) else ["--out", options.folder]
        storage = " --storage ..." if options.storage else ""
        warn(f"resume with: {shlex.join(['lstm-numba', 'sweep', options.file, *out])}{storage}")
        raise click.exceptions.Exit(status)


def opened(config: SweepConfig, options: Options, begin: bool) -> Sweep:
    """Open the study, see `lstm_numba.sweeps.opening.open_sweep`."""
    from lstm_numba.sweeps.opening import open_sweep

    return open_sweep(config, Path(options.folder), options.storage, begin)


def _train(config: SweepConfig, options: Options) -> int:
    """Train one trial after the other in this process; the exit status of a signal, or 0."""
    from lstm_numba.sweeps.trial import Surroundings, run_trial
    from lstm_numba.training.trainer import Interrupted

    assert options.threads is not None
    around = Surroundings(options.threads, options.device, options.data_dir, _complete, check_memory)
    terminal = _Shown()
    sweep = opened(config, options, begin=True)
    try:
        while (claim := sweep.begin()) is not None:
            stop_if_orphaned()
            terminal.begin(config, claim)
            terminal.end(config, run_trial(sweep, claim, around, terminal))
    except Interrupted as stop:
        terminal.say(str(stop))
        return stop.exit_status
    finally:
        terminal.clear()
        sweep.close()
    return 0


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """Add what follows from the cell."""
    equations = equations_of(config["cell"])
    return config if equations is None else {**config, "equations": equations}


def _train_beside(options: Options, jobs: int) -> int:
    """Train in several processes, and wait for all of them; the exit status of a signal, or 0."""
    import multiprocessing

    from lstm_numba.training.signals import SignalWatch

    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(options,)) for _ in range(jobs)]
    with SignalWatch() as signals:
        for worker in workers:
            worker.start()
        _wait(workers, signals)
    received = 0 if signals.received is None else 128 + signals.received
    ends = [worker.exitcode for worker in workers if worker.exitcode]
    if received or ends == [_TERMINATED] * len(ends) != []:
        return received or _TERMINATED
    if ends:
        raise UserError(
            f"{len(ends)} of {jobs} processes ended early (exit status {', '.join(map(str, ends))}); "
            "run the same command again to resume their trials"
        )
    return 0


def _wait(workers: Sequence[BaseProcess], signals: SignalWatch) -> None:
    """Wait for processes to end; a signal that came is passed on."""
    passed = False
    while any(worker.is_alive() for worker in workers):
        for worker in workers:
            worker.join(0.1)
        if signals.received is not None and not passed:
            passed = True
            for worker in workers:
                worker.terminate()


def work(options: Options) -> NoReturn:
    """One of several processes: as a call of the program without a report.

    Ctrl-C, which the terminal sends to all of them, is the first one's to pass on.
    """
    from lstm_numba.cli.main import guarded

    def train() -> int:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_threads(options.threads)
        config = read_sweep(options.file)
        load_own_cells(*config.cells())
        return _train(config, options)

    sys.exit(guarded(train))


# -- the report --------------------------------------------------------------------------------------


def report_sweep(config: SweepConfig, options: Options, as_json: bool) -> None:
    """Print the best trials and what mattered, and draw it."""
    from lstm_numba.sweeps.report import document

    sweep = opened(config, options, begin=False)
    try:
        found = document(sweep)
    finally:
        sweep.close()
    found["files"] = _draw(found)
    if as_json:
        print_json(found)
        return
    click.echo(report_text(found))


def _draw(found: Mapping[str, Any]) -> list[str]:
    if not any(row["curve"] for row in found["trials"]):
        return []
    try:
        require_matplotlib("a picture")
    except UserError as error:
        warn(str(error))
        return []
    from lstm_numba.plots.style import save
    from lstm_numba.plots.sweep import figures

    folder = Path(found["folder"], "plots")
    folder.mkdir(parents=True, exist_ok=True)
    return [str(path) for name, figure in figures(found).items() for path in save(figure, folder / name)]


def report_text(found: Mapping[str, Any]) -> str:
    """The report as text: the best trials, what mattered, and how to train the best again."""
    there = ", ".join(f"{count} {state}" for state, count in found["counts"].items())
    total = sum(found["counts"].values())
    parts = [f"{total} of {plural(found['wanted'], 'trial')}" + (f": {there}" if there else "")]
    complete = [row for row in found["trials"] if row["value"] is not None]
    if complete:
        parts.append(_trials_table(found, complete))
    if any(row["importance"] is not None for row in found["settings"]):
        parts.append(_settings_table(found, len(complete)))
    elif complete:
        parts.append(f"importances cannot be estimated from {plural(len(complete), 'complete trial')}")
    if found["best"] is not None:
        parts.append(_best_text(found))
    if found["files"]:
        parts.append("\n".join(found["files"]))
    return "\n\n".join(parts)


def _trials_table(found: Mapping[str, Any], complete: Sequence[Mapping[str, Any]]) -> str:
    names = [name for row in found["trials"] for name in row["params"]]
    names = [row["name"] for row in found["settings"] if row["name"] in names]
    rows = [
        {
            "trial": row["trial"],
            found["metric"]: row["value"],
            "epoch": f"{row['best_epoch']} of {row['epochs']}",
            **{name: row["params"].get(name) for name in names},
        }
        for row in complete[:_SHOWN]
    ]
    text = table(("trial", found["metric"], "epoch", *names), rows)
    more = len(complete) - len(rows)
    return f"{text}\nand {plural(more, 'more complete trial')}; --json has all" if more else text


def _settings_table(found: Mapping[str, Any], count: int) -> str:
    heading = f"importances from {plural(count, 'complete trial')} (PED-ANOVA; correlation by rank)"
    columns = ("setting", "importance", f"correlation with {found['metric']}", f"in the best {found['top']}")
    rows = [
        dict(zip(columns, (row["name"], _percent(row), _correlation(row), _values_text(row)), strict=True))
        for row in found["settings"]
    ]
    return f"{heading}\n{table(columns, rows)}"


def _percent(row: Mapping[str, Any]) -> str:
    return "-" if row["importance"] is None else f"{100 * row['importance']:.1f} %"


def _correlation(row: Mapping[str, Any]) -> str:
    return "-" if row["correlation"] is None else f"{row['correlation']:+.2f}"


def _values_text(row: Mapping[str, Any]) -> str:
    if not row["best"]:
        return "-"
    between = ", " if "choices" in row["range"] else " to "
    return between.join(dict.fromkeys(map(number_text, row["best"])))


def _best_text(found: Mapping[str, Any]) -> str:
    best, metric = found["best"], found["metric"]
    text = f"best: trial {best['trial']}, {metric} {best['value']:.4g} on {found['watched']}"
    test = f"; test: {metrics_text(best['test'])}" if "loss" in best["test"] else ""
    return f"{text}{test}; {best['run']}\n{shlex.join(found['command'])}"
