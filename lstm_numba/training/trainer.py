"""The training loop: epochs, evaluations, checkpoints, and every way to stop.

A run is reproducible to the bit, also if it was stopped anywhere and resumed: a checkpoint holds all that the
next step depends on, and nothing that depends on time or on interruptions.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba.data import file_io
from lstm_numba.engines.base import NORM
from lstm_numba.errors import CheckpointError, TrainingDiverged
from lstm_numba.models.base import State, StepResult
from lstm_numba.optim.nt_asgd import NTASGD
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.optim.schedules import make_schedule
from lstm_numba.training import checkpoint
from lstm_numba.training.callbacks import (
    Best,
    EpochInfo,
    Evaluation,
    Outcome,
    Reporter,
    StartInfo,
    StepInfo,
)
from lstm_numba.training.compile_watch import CompilationStopped, CompileWatch
from lstm_numba.training.logs import Logs
from lstm_numba.training.position import (
    Sums,
    check_state,
    natural,
    pack_evaluation,
    rows_of_state,
    unpack_best,
    unpack_evaluation,
)
from lstm_numba.training.run import Run
from lstm_numba.training.run_consistency import bound_settings, check_belongs
from lstm_numba.training.shared_step import SharedStep
from lstm_numba.training.signals import Interrupted, SignalWatch
from lstm_numba.training.task import Task
from lstm_numba.training.tasks import best_parameters, load_model, pack_state, unpack_state
from lstm_numba.training.team import Team
from lstm_numba.training.throughput import Pace

__all__ = ["Interrupted", "Outcome", "Trainer"]

#: Before the names of parameters whose averages are the checkpoint's model.
_RAW = "raw."
#: Lines about single steps in ``metrics.jsonl``, an epoch.
_LINES_PER_EPOCH = 10


class _Step(NamedTuple):
    """A step whose results may not have arrived from the device yet."""

    result: StepResult
    number: int  # as the optimizer counts
    epoch: int
    rate: float
    place: int  # in its epoch


class _Stop(Exception):
    """Raised inside an evaluation when a signal has come."""


class Trainer:
    """Trains a task in a run folder; resumes from its checkpoint if there is one.

    Parameters
    ----------
    task : Task
        From `lstm_numba.training.tasks.build_task` with the run's configuration.
    run : Run
    reporter : Reporter, optional
        Receives the events.
    fingerprint : str, optional
        Checksum of the training data if known; otherwise the task's, which loads them.

    Notes
    -----
    Of several ranks, the task's, each makes a trainer, and the first alone reads and writes the run folder.
    """

    def __init__(
        self, task: Task, run: Run, reporter: Reporter | None = None, fingerprint: str | None = None
    ) -> None:
        config = task.config
        self.task = task
        self.ranks = task.ranks
        self.run = run
        self.reporter = Reporter() if reporter is None else reporter
        self.epochs: int = config["epochs"]
        self.patience: int | None = config["early_stopping"]
        self.accumulate: int = config["accumulate"]  # batches of a step
        self.optimizer = make_optimizer(
            config["optimizer"],
            task.model.params,
            config["lr"],
            momentum=config["momentum"],
            nesterov=config["nesterov"],
            weight_decay=config["weight_decay"],
            nonmono=config["nonmono"],
        )
        self.schedule = make_schedule(
            config["schedule"], config["lr"], self.epochs, config["schedule_options"]
        )
        self._team = Team(task.ranks)
        self._compute_step = self._team.training_step(
            task.model, self.optimizer, config["clip_value"], config["clip"], task.carries_state
        )
        self.epoch = 0  # epochs done
        self.step = 0  # steps done in this epoch
        self.state: State = None
        self.sums = Sums()  # of this epoch
        self.recent = Sums()  # since the last line of metrics
        self.lines = 0
        self.train_result: Evaluation | None = None  # of the last epoch
        self.evaluations: dict[str, Evaluation] = {}  # of the parameters as they were at its end
        self.complete = False
        self.fingerprint = self.ranks.once(task.fingerprint) if fingerprint is None else fingerprint
        self.resumed = False
        self.start: float | None = None  # loss before training
        self.best: Best | None = None
        self._settings = bound_settings(run.config)
        self._vocabulary = task.vocabulary_digest()
        self._log: Logs | None = None
        self._signals = SignalWatch()
        self._compiling = CompileWatch(self.reporter)
        self._pace = Pace()
        self._norm = math.nan  # of the last step's gradient
        self._loss: float | None = None  # of the last step
        self._saved = ""  # what the last checkpoint is of
        self._under_way: deque[_Step] = deque()
        self._stepping = False  # inside a step: the parameters must not be saved
        self._saved_steps = self.optimizer.steps
        self._saved_at = time.monotonic()

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Train until the configured epochs are done.

        Returns
        -------
        Outcome

        Raises
        ------
        Interrupted
            SIGINT or SIGTERM came; the step was finished and a checkpoint written. A step whose kernels were
            still being compiled is abandoned, and the last checkpoint stays.
        TrainingDiverged
            The loss, the gradient's norm or a parameter is NaN or infinite; the last checkpoint stays.
        RanksDiffer
            Ranks have different parameters; the last checkpoint stays.
        CheckpointError
            Another process trains in the folder; the checkpoint is damaged or does not fit the task; the text
            is not the run's.
        OSError
            A file cannot be written; the last checkpoint stays.
        """
        with ExitStack() as open_:
            if self.ranks.first:
                open_.enter_context(self.run.locked())
            self.resumed = self.ranks.once(self.run.checkpoint_path.exists)
            if self.resumed:
                self._restore(*self._load(self.run.checkpoint_path))
                self._saved_steps = self.optimizer.steps
            if self.ranks.first:
                self.run.keep_config()
                self.task.keep_with(self.run)
            self._signals = open_.enter_context(SignalWatch(self.reporter.on_message))
            watch = CompileWatch(self.reporter, lambda: self._signals.received is not None)
            self._compiling = open_.enter_context(watch)
            if self.ranks.first:
                self._log = open_.enter_context(Logs(self.run, self.lines))
            return self._train()

    def _train(self) -> Outcome:
        if self.complete:
            return self._outcome(already_complete=True)
        self._announce()
        if not self.resumed:
            self.save()  # from now on the folder can be resumed, evaluated and sampled from
        try:
            while not self._done:
                self._train_epoch()
                self._end_epoch()
            self._finish()
        except _Stop:
            self._interrupt()
        except CompilationStopped:
            # Other ranks may not have got the signal, and wait: nothing can be saved with them.
            self._interrupt(saved=self._stepping or self.ranks.size > 1, alone=self.ranks.size > 1)
        return self._outcome(already_complete=False)

    @property
    def _done(self) -> bool:
        """No epoch is left, or the best one is too long ago; never within an epoch."""
        stale = self.best is not None and self.best.is_stale(self.epoch, self.patience)
        return self.step == 0 and (self.epoch >= self.epochs or stale)

    @property
    def _kept_epoch(self) -> int:
        """The epoch whose parameters the training ends with."""
        best = self.best if self.task.config["keep"] == "best" else None
        return self.epoch if best is None else best.epoch

    @property
    def steps_per_epoch(self) -> int:
        """Updates of the parameters in an epoch."""
        return -(-self.task.steps_per_epoch // self.accumulate)

    def _announce(self) -> None:
        steps = self.steps_per_epoch
        self.reporter.on_start(
            StartInfo(
                self.epochs,
                self.epoch,
                self.step,
                steps,
                self.task.model.parameter_count,
                self.task.unit,
                self.task.metric,
                self.task.floor,
                self.resumed,
            )
        )
        if self.resumed and not self._done:
            self.reporter.on_message(f"going on in epoch {self.epoch + 1}, after step {self.step} of {steps}")

    def _train_epoch(self) -> None:
        steps = self.steps_per_epoch
        self._pace.begin_epoch()
        while self.step < steps:
            compiled = self._compiling.seconds
            self._take_step(self.schedule.rate(self.epoch, self.step, steps))
            self._compiling.flush()
            self._pace.note_step(self._under_way[-1].result.count, self._compiling.seconds > compiled)
            while len(self._under_way) > self.task.model.engine.in_flight:
                self._settle()
            if self._signum is not None:
                self._interrupt()
            if self._team.save if self.ranks.size > 1 else self._due:
                self.save()
        self._settle_all()

    @property
    def _due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        due: bool = time.monotonic() - self._saved_at >= self.task.config["checkpoint_every"]
        return due

    @property
    def _signum(self) -> int | None:
        """The signal that stops the training, on which all ranks have agreed."""
        return self._signals.received if self.ranks.size == 1 else self._team.signum

    def _take_step(self, rate: float) -> None:
        """Compute the gradients of one batch or more, and update the parameters if they are finite."""
        first = self.step * self.accumulate
        last = min(first + self.accumulate, self.task.steps_per_epoch)
        numbers = range(first, last)
        self._stepping = True
        if isinstance(self._compute_step, SharedStep):
            shares = [self.task.share(self.epoch, number) for number in numbers]
            votes = self._team.votes(self._signals.received, self._due)
            result, votes = self._compute_step.take(shares, self.state, rate, votes)
            self._team.count(votes)
        elif self.accumulate == 1:
            result = self._compute_step(self.task.batch(self.epoch, first), self.state, rate)
        else:
            batches = [self.task.batch(self.epoch, number) for number in numbers]
            result = self._compute_step.several(batches, self.state, rate)
        self._stepping = False
        self.state = result.state if self.task.carries_state else None
        self.step += 1
        self._under_way.append(_Step(result, self.optimizer.steps, self.epoch, rate, self.step))

    def _settle(self) -> None:
        """Wait for the results of the earliest pending step, and count it."""
        step, steps = self._under_way.popleft(), self.steps_per_epoch
        norm = step.result.number(NORM)
        # The update was skipped: the parameters are those of the last finite step.
        if not (math.isfinite(step.result.objective) and math.isfinite(norm)):
            self._diverge(step.number, f"the loss is {step.result.objective:g}", step.rate, norm)
        self._norm = norm
        self._loss = step.result.loss_sum / max(step.result.count, 1)
        if step.number == 1:
            self.start = max(self._loss, self.task.chance)
        self.sums = self.sums.plus(step.result)
        self.recent = self.recent.plus(step.result)
        if step.place % max(1, steps // _LINES_PER_EPOCH) == 0 and step.place < steps:
            self._write_step_line(step)
        self._report_step(step)

    def _settle_all(self) -> None:
        """Settle all pending steps."""
        while self._under_way:
            self._settle()

    def _end_epoch(self) -> None:
        """Evaluate, write the epoch's lines and move on to the next epoch.

        A checkpoint made before this is done says "all steps done", so that resuming evaluates again.
        """
        train = self._mean(self.sums)
        seconds, speed = self._pace.end_epoch()
        split = self.task.watched
        with self.optimizer.using_averages():
            evaluations: dict[str, Evaluation] = {} if split is None else {split: self._evaluate(split)}
        steps = self.steps_per_epoch
        rate = self.schedule.rate(self.epoch, steps - 1, steps)
        self.epoch += 1
        # The seconds of an epoch that was stopped and resumed are those since the last resumption.
        self._write_line("epoch", train, lr=rate, seconds=round(seconds, 3), rate=round(speed, 1))
        for result in evaluations.values():
            self._write_line("epoch", result)
        watched = train if split is None else evaluations[split]
        self.schedule.end_epoch(watched.loss)
        if split is not None and self.optimizer.end_evaluation(watched.loss):
            self._compute_step.forget_records()
            self._write_line("averaging", watched)
            self.reporter.on_message(
                f"the loss on {split} has stopped falling: averaging after step {self.optimizer.steps}"
            )
        self.step = 0
        self.state = None
        self.sums = Sums()
        self.recent = Sums()
        self.train_result = train
        self.evaluations = evaluations
        now = Best(self.epoch, watched.split, watched.loss)
        better = self.best is None or now.loss < self.best.loss
        if better:
            self.best = now
        self.save(best=better)
        self.reporter.on_epoch(EpochInfo(self.epoch, self.epochs, rate, seconds, speed, train, evaluations))
        # A signal that came since the last step; after the last epoch there is little left to do.
        self._team.agree(self._signals.received)
        if self._signum is not None and not self._done:
            self._interrupt(saved=True)

    def _finish(self) -> None:
        if self.epoch < self.epochs and self.best is not None:
            self.reporter.on_message(
                f"stopped early: the loss on {self.best.split} was lowest after epoch {self.best.epoch}"
            )
        if isinstance(self.optimizer, NTASGD) and not self.optimizer.averages:
            trigger = f"the loss on {self.task.watched} never rose as --nonmono {self.optimizer.nonmono} asks"
            self.reporter.on_message(f"nt-asgd never averaged, and trained as sgd does: {trigger}")
        epoch = self._kept_epoch
        if epoch < self.epoch:
            with best_parameters(self.task, self.run, self._load):
                splits = dict.fromkeys((*self.evaluations, "test"))
                self.evaluations = {split: self._evaluate(split) for split in splits}
        elif "test" not in self.evaluations:
            with self.optimizer.using_averages():
                self.evaluations = {**self.evaluations, "test": self._evaluate("test")}
        step = epoch * self.steps_per_epoch
        self._write_line("final", self.evaluations["test"], step=step, epoch=epoch)
        self.complete = True
        self.save()
        self.reporter.on_finish(self._outcome(already_complete=False))

    def _evaluate(self, split: str) -> Evaluation:
        def progress(done: int, total: int) -> None:
            self._compiling.flush()
            self.reporter.on_evaluation(split, done, total)
            self._team.agree(self._signals.received)
            if self._signum is not None:
                raise _Stop

        began = time.monotonic()
        result = self.task.evaluate(split, progress)
        self._pace.note_evaluation(time.monotonic() - began)
        if not math.isfinite(result.loss):  # before it is written
            rate = self.optimizer.lr
            self._diverge(self.optimizer.steps, f"the loss on {split} is {result.loss:g}", rate, self._norm)
        return result

    # -- ends ------------------------------------------------------------------------------------

    def _interrupt(self, saved: bool = False, alone: bool = False) -> None:
        if not saved:
            self.save()
        signum = self._signals.received if alone else self._signum
        assert signum is not None
        raise Interrupted(signum, self.run.checkpoint_path, self._saved_steps, alone)

    def _diverge(self, step: int, what: str, rate: float, norm: float) -> None:
        best = "" if self.best is None else f"; the best, of epoch {self.best.epoch}: {self.run.best_path}"
        raise TrainingDiverged(
            f"training diverged at step {step} (epoch {self.epoch + 1}): {what}, "
            f"learning rate {rate:g}, gradient norm {norm:g}; the last checkpoint of finite numbers"
            f"{self._saved}: {self.run.checkpoint_path}{best}"
        )

    def _outcome(self, already_complete: bool) -> Outcome:
        assert self.train_result is not None
        return Outcome(
            self.epoch,
            self.optimizer.steps,
            self.train_result,
            dict(self.evaluations),
            self.run.path_of(),
            already_complete,
            self.best,
            self.start,
            self.epoch < self.epochs,
            self._kept_epoch,
        )

    # -- reporting -------------------------------------------------------------------------------

    def _mean(self, sums: Sums) -> Evaluation:
        return self.task.summary("train", sums.loss, sums.correct, sums.count)

    def _report_step(self, step: _Step) -> None:
        steps = self.steps_per_epoch
        so_far = self._mean(self.sums)
        metric = so_far.perplexity if so_far.accuracy is None else so_far.accuracy
        left = (self.epochs - self.epoch) * steps - step.place
        self.reporter.on_step(
            StepInfo(
                self.epoch + 1,
                self.epochs,
                step.place,
                steps,
                so_far.loss,
                so_far.loss if metric is None else metric,
                step.rate,
                self._norm,
                self._pace.rate,
                self._pace.remaining(left, self.epochs - self.epoch),
            )
        )

    def _write_step_line(self, step: _Step) -> None:
        recent = self._mean(self.recent)
        self.recent = Sums()
        more = {"lr": step.rate, "norm": self._norm, "step": step.number, "epoch": step.epoch + 1}
        self._write_line("step", recent, **more)

    def _write_line(self, kind: str, result: Evaluation, **more: Any) -> None:
        if not self.ranks.first:
            return
        assert self._log is not None
        values = result.as_dict()
        del values["count"]
        split = values.pop("split")
        position = {
            "step": more.pop("step", self.optimizer.steps),
            "epoch": more.pop("epoch", self.epoch),
        }
        self._log.append({"kind": kind, "split": split, **position, **values, **more})
        self.lines = self._log.lines

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, best: bool = False) -> None:
        """Write a checkpoint of the current state; never one with NaN or infinity.

        Parameters
        ----------
        best : bool
            It is the best so far, and is stored as the best too.
        """
        self._settle_all()
        tensors = self._tensors()
        unfit = checkpoint.not_finite(tensors)
        if unfit is not None:
            name = unfit.removeprefix("model.")
            self._diverge(self.optimizer.steps, f"{name} is not finite", self.optimizer.lr, self._norm)
        if self._log is not None:
            self._log.sync()  # the checkpoint counts its lines: they must be there whenever it is
        if self.ranks.first:
            content = checkpoint.encode(tensors, self._meta())
            if best:  # first: one killed between the two writes repeats the epoch's end and writes the same
                file_io.atomic_write(self.run.best_path, content)
            file_io.atomic_write(self.run.checkpoint_path, content)
        self._saved_at = time.monotonic()
        self._saved, self._saved_steps = self._describe_moment(), self.optimizer.steps
        self.reporter.on_checkpoint(self.run.checkpoint_path, self.optimizer.steps)

    def _tensors(self) -> dict[str, Any]:
        """What a checkpoint holds; the recurrent state is that of all rows, whatever ranks there are.

        Where the optimizer averages, the model is the averages, which whoever reads a checkpoint wants; the
        parameters that the training goes on with lie beside it.
        """
        params, engine = self.task.model.params, self.task.model.engine
        averages = self.optimizer.averages
        named = {f"model.{name}": averages.get(name, array) for name, array in params.items()}
        named |= {f"{_RAW}{name}": params[name] for name in averages}
        kinds = {} if averages else self.optimizer.state_arrays()
        named |= {f"optimizer.{name}": array for name, array in kinds.items()}
        tensors = {name: engine.download(array) for name, array in named.items()}
        self._team.compare(tensors)
        for name, array in pack_state(self.state).items():
            tensors[name] = self.ranks.join(engine.download(array), axis=1)
        return tensors

    def _load(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a checkpoint, for all ranks."""
        return self.ranks.once(lambda: checkpoint.load(path))

    def _describe_moment(self) -> str:
        """Step and loss, to choose between checkpoints: finite parameters may still be bad."""
        moment = f", of step {self.optimizer.steps}"
        if self._loss is None or self.start is None:
            return moment
        return f"{moment}, loss {self._loss:.4g} ({self.start:.4g} at the start)"

    def _meta(self) -> dict[str, Any]:
        return {
            "model": self.task.model.config(),
            "settings": self._settings,
            "vocabulary": self._vocabulary,
            "data": self.fingerprint,
            "start": self.start,
            "best": self.best,
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.optimizer.steps,
            "lines": self.lines,
            "complete": self.complete,
            "sums": astuple(self.sums),
            "recent": astuple(self.recent),
            "rng": self.task.model.rng_state(),
            "schedule": self.schedule.state_dict(),
            "optimizer": self.optimizer.history(),
            "train": None if self.train_result is None else pack_evaluation(self.train_result),
            "evaluations": {split: pack_evaluation(result) for split, result in self.evaluations.items()},
        }

    def _restore(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        path: Path = self.run.checkpoint_path
        check_belongs(self.run, path, meta)
        if meta.get("data") != self.fingerprint:
            raise CheckpointError(f"{path}: the training data are not those that the run started with")
        load_model(self.task.model, tensors, meta, self.run, path)
        prefix = "optimizer."
        moments = {n[len(prefix) :]: array for n, array in tensors.items() if n.startswith(prefix)}
        raw = {n[len(_RAW) :]: array for n, array in tensors.items() if n.startswith(_RAW)}
        moments |= {f"average.{name}": tensors.get(f"model.{name}") for name in raw}
        try:
            if raw:
                self.task.model.load_params(raw)
            numbers = {"steps": meta["steps"], "lr": self.optimizer.lr, **meta.get("optimizer", {})}
            self.optimizer.load_state_dict({**moments, **numbers})
            self.task.model.set_rng_state(meta["rng"])
            self.schedule.load_state_dict(meta["schedule"])
            self.state = unpack_state(tensors)
            rows = self.task.config["batch_size"]
            check_state(self.state, self.task.model.zero_state(rows))
            self.state = rows_of_state(self.state, self.ranks.part(rows))
            self.epoch, self.step, self.lines = (natural(meta[name]) for name in ("epoch", "step", "lines"))
            self.sums, self.recent = Sums.unpack(meta["sums"]), Sums.unpack(meta["recent"])
            metric, train = self.task.metric, meta["train"]
            self.train_result = None if train is None else unpack_evaluation(train, metric)
            self.evaluations = {s: unpack_evaluation(e, metric) for s, e in meta["evaluations"].items()}
            lacking = self.task.watched is not None and self.task.watched not in self.evaluations
            if self.epoch and (self.train_result is None or lacking):
                raise ValueError(f"no result of epoch {self.epoch}")
            # Checkpoints of the first versions have neither.
            self.best = unpack_best(meta.get("best"))
            self.start = None if meta.get("start") is None else float(meta["start"])
            # A run that was given more epochs, or more patience, is no longer complete.
            self.complete = bool(meta["complete"]) and self._done
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: does not fit this run's configuration: {' '.join(str(error).split())}"
            ) from None
