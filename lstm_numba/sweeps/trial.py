"""One trial: an ordinary run in the sweep's folder, whose losses the study gets after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba.engines.cpu.threads import set_thread_count
from lstm_numba.errors import CheckpointError, TrainingDiverged, UserError
from lstm_numba.sweeps.ranges import SweepError
from lstm_numba.sweeps.study import Claim, Sweep
from lstm_numba.sweeps.trials import COMPLETE, DIVERGED, FAILED, PRUNED, best_epoch
from lstm_numba.training.callbacks import EpochInfo, Evaluation, Outcome, Reporter, StartInfo, StepInfo
from lstm_numba.training.config import ConfigError
from lstm_numba.training.run import Run
from lstm_numba.training.task import Task
from lstm_numba.training.tasks import build_task
from lstm_numba.training.trainer import Interrupted, Trainer

#: What may differ between a trial's run and what the file says now: where things are, and this machine's.
_FREE = ("version", "threads", "device", "checkpoint_every", "log")


class Surroundings(NamedTuple):
    """What a trial needs to know beside its settings.

    Attributes
    ----------
    threads : int
    device : {"cpu", "cuda"}
    data_dir : str, optional
        Where the data are on this machine.
    complete : callable
        Adds to a configuration what follows from it: the equations of a user's own cell.
    fits : callable
        Called with a configuration and the time steps of a batch; raises an error if memory does not suffice.
    """

    threads: int
    device: str
    data_dir: str | None
    complete: Callable[[dict[str, Any]], dict[str, Any]]
    fits: Callable[[Mapping[str, Any], int], None]


class Result(NamedTuple):
    """What came of a trial.

    Attributes
    ----------
    state : str
        See `lstm_numba.sweeps.trials`.
    value : float, optional
        Of its best epoch so far.
    best_epoch, epochs : int
    reason : str
    """

    state: str
    value: float | None
    best_epoch: int
    epochs: int
    reason: str = ""


class _Pruned(Exception):
    """Raised after an epoch, whose checkpoint is written, when the pruner gives the trial up."""


def run_trial(sweep: Sweep, claim: Claim, around: Surroundings, reporter: Reporter) -> Result:
    """Train a trial to its end, or until it is given up.

    Parameters
    ----------
    sweep : Sweep
    claim : Claim
    around : Surroundings
    reporter : Reporter
        Receives the events of the training.

    Raises
    ------
    Interrupted
        A signal came; the trial goes on another time.
    UserError, OSError
        What is wrong with data, disk or run folder, and not with the trial's settings; it goes on another
        time.
    """
    watch = _Watch(sweep, claim, reporter)
    try:
        state, reason = _train(sweep, claim, around, watch), ""
    except Interrupted:
        sweep.leave(claim)
        raise
    except _Pruned:
        state, reason = PRUNED, ""
    except TrainingDiverged as error:
        state, reason = DIVERGED, str(error)
    except (ConfigError, MemoryError, _DoesNotFit) as error:
        state, reason = FAILED, str(error) or "out of memory"
    if state != COMPLETE:
        sweep.give_up(claim, state, reason)
    best = best_epoch(watch.curve, sweep.config.maximizes)
    return Result(state, watch.curve.get(best), best, max(watch.curve, default=0), reason)


class _DoesNotFit(Exception):
    """A network is too large for this machine."""


def _train(sweep: Sweep, claim: Claim, around: Surroundings, watch: _Watch) -> str:
    """Train to the end, and say so to the study."""
    run, config = _run_of(sweep, claim, around)
    threads = around.threads if run is None else min(config["threads"] or around.threads, around.threads)
    set_thread_count(threads)
    task = build_task(config, data_dir=around.data_dir, device=around.device)
    try:
        around.fits(config, task.sequence_steps)
    except UserError as error:
        raise _DoesNotFit(str(error)) from None
    if run is None:
        run = Run.create(claim.folder, config)
    watch.begin(task, run)
    outcome = Trainer(task, run, watch).train()
    watch.catch_up(outcome.epochs)
    test = outcome.evaluations["test"].as_dict()
    sweep.complete(claim, {name: value for name, value in test.items() if isinstance(value, float)})
    return COMPLETE


def _run_of(sweep: Sweep, claim: Claim, around: Surroundings) -> tuple[Run | None, dict[str, Any]]:
    """The run in a trial's folder, if there is one, and the configuration to train with."""
    more = {"threads": around.threads, "device": around.device}
    config = around.complete(sweep.config.run_config(claim.params, **more))
    if not (claim.folder / "config.json").exists():
        return None, config
    run = Run.open(claim.folder)
    other = next(
        (name for name, value in config.items() if _differs(name, run.config.get(name), value)), None
    )
    if other is not None:
        raise CheckpointError(
            f"{claim.folder}: holds another run than trial {claim.number} ({other}: "
            f"{run.config.get(other)!r}, expected {config[other]!r}); move it away"
        )
    run.config["data"] = config["data"]  # files may be elsewhere now; a checksum tells whether they are those
    return run, run.config


def _differs(name: str, kept: Any, now: Any) -> bool:
    if name == "data":
        places = ("data_dir", "file", "files")
        kept, now = ({n: v for n, v in data.items() if n not in places} for data in (kept, now))
    return name not in _FREE and kept != now


class _Watch(Reporter):
    """Tells the study what the trainer reports, and passes the events on."""

    def __init__(self, sweep: Sweep, claim: Claim, reporter: Reporter) -> None:
        self.curve: dict[int, float] = {}
        self._sweep = sweep
        self._claim = claim
        self._shown = reporter
        self._metric = sweep.config.metric
        self._run: Run | None = None
        self._split = "train"

    def begin(self, task: Task, run: Run) -> None:
        """A training will begin."""
        self._run = run
        self._split = task.watched or "train"

    def catch_up(self, epochs: int) -> None:
        """Take the epochs up to this one from the run folder, and tell those that the study does not know."""
        assert self._run is not None
        lines = [line for line in self._run.metrics() if line["kind"] == "epoch"]
        for line in lines:
            if line["split"] == self._split and line["epoch"] <= epochs and self._metric in line:
                value = line[self._metric]
                self.curve[line["epoch"]] = float("inf") if value is None else value
        self._sweep.report(self._claim, self.curve)

    def on_start(self, info: StartInfo) -> None:
        """Training starts or resumes: an epoch's end may not have reached the study."""
        self._shown.on_start(info)
        if info.epoch:
            self.catch_up(info.epoch)
            self._ask(info.epoch, info.epochs)

    def on_epoch(self, info: EpochInfo) -> None:
        """An epoch is done, and its checkpoint written."""
        self._shown.on_epoch(info)
        watched = info.train if self._split == "train" else info.evaluations[self._split]
        self.curve[info.epoch] = self._value(watched)
        self._ask(info.epoch, info.epochs)

    def _value(self, watched: Evaluation) -> float:
        values = watched.as_dict()
        if self._metric not in values:
            known = [name for name, value in values.items() if isinstance(value, float)]
            raise SweepError(f"metric: these runs have no {self._metric}; they have {', '.join(known)}")
        return float(values[self._metric])

    def _ask(self, epoch: int, epochs: int) -> None:
        """Report, and give up; not after the last epoch, when only the test is left."""
        if self._sweep.report(self._claim, self.curve) and epoch < epochs:
            raise _Pruned

    # -- passed on -------------------------------------------------------------------------------

    def on_compile_begin(self) -> None:
        """Numba starts to compile."""
        self._shown.on_compile_begin()

    def on_compile_end(self, seconds: float) -> None:
        """Compilation is done."""
        self._shown.on_compile_end(seconds)

    def on_step(self, info: StepInfo) -> None:
        """A step is done."""
        self._shown.on_step(info)

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """Progress of an evaluation."""
        self._shown.on_evaluation(split, done, total)

    def on_checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint is on disk."""
        self._shown.on_checkpoint(path, step)

    def on_message(self, text: str) -> None:
        """A message for the user."""
        self._shown.on_message(text)

    def on_finish(self, outcome: Outcome) -> None:
        """Training is complete."""
        self._shown.on_finish(outcome)
