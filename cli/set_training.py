"""Trains the members of a set of runs, as many at a time as there are threads, and shows how far they are."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_numba.cli.console import Terminal, metrics_text, short_path
from lstm_numba.cli.custom_cells import load_own_cells
from lstm_numba.cli.results import Done
from lstm_numba.errors import TrainingDiverged, UserError
from lstm_numba.progress_line import COLUMNS, COMPILING, Piece, cut, fitted, time_left
from lstm_numba.training.callbacks import EpochInfo, Reporter, StartInfo, StepInfo
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import Member, RunSet
from lstm_numba.training.signals import Interrupted, SignalWatch
from lstm_numba.training.worker_processes import FAILURE, REPORT, Channel, Workers

if TYPE_CHECKING:
    from lstm_numba.training.task import Task

#: Seconds between two reports of a member, and between two looks at signals.
_PERIOD = 0.2
#: Seconds that others wait for one that compiled before its first step, until it has evaluated too.
_WAIT = 20.0
#: Share of a member that must be done before a time is foretold.
_SURE = 0.1
#: A line for the end of each member up to so many members.
_LINES = 40

#: What a member reports: what happened, epochs done (with a fraction), and epochs in all.
Report = tuple[str, float, int]
START, COMPILE, STEP, EPOCH = "start", "compile", "step", "epoch"


class Job(NamedTuple):
    """A member to train; also in another process."""

    run: Run
    data_dir: str | None
    device: str


class Failed(NamedTuple):
    """A training ended by an error; `diverged` if by numbers that are not finite."""

    text: str
    diverged: bool


class Stopped(NamedTuple):
    """A training stopped because of a signal, after saving."""

    signum: int


Ending = Done | Failed | Stopped


class _Reports(Reporter):
    """Tells how far a training is, and passes on that it should stop."""

    def __init__(self, tell: Callable[[Report], None], stopped: Callable[[], bool]) -> None:
        self._tell, self._stopped = tell, stopped
        self._last = -_PERIOD

    def _obey(self) -> None:
        if self._stopped():
            signal.raise_signal(signal.SIGTERM)  # the trainer finishes its step and saves

    def on_start(self, info: StartInfo) -> None:
        """See `Reporter.on_start`."""
        self._tell((START, info.epoch + info.step / max(info.steps_per_epoch, 1), info.epochs))
        self._obey()

    def on_compile_begin(self) -> None:
        """See `Reporter.on_compile_begin`."""
        self._tell((COMPILE, 0.0, 0))

    def on_step(self, info: StepInfo) -> None:
        """See `Reporter.on_step`."""
        now = time.monotonic()
        if now - self._last >= _PERIOD:
            self._last = now
            self._tell((STEP, info.epoch - 1 + info.step / info.steps_per_epoch, info.epochs))
        self._obey()

    def on_evaluation(self, split: str, done: int, total: int) -> None:
        """See `Reporter.on_evaluation`."""
        self._obey()

    def on_epoch(self, info: EpochInfo) -> None:
        """See `Reporter.on_epoch`."""
        self._tell((EPOCH, float(info.epoch), info.epochs))


def train_member(job: Job, tell: Callable[[Report], None], stopped: Callable[[], bool]) -> Ending:
    """Train a member of a set, as `lstm-numba train` does with one run.

    Parameters
    ----------
    job : Job
    tell : callable
        Gets reports.
    stopped : callable
        Whether to save and end.
    """
    from lstm_numba.training.tasks import build_task
    from lstm_numba.training.trainer import Trainer

    config = job.run.config
    try:
        load_own_cells(config["cell"])
        task: Task = build_task(config, data_dir=job.data_dir, device=job.device)
        outcome = Trainer(task, job.run, reporter=_Reports(tell, stopped)).train()
        baselines, _ = task.baselines()
    except Interrupted as stop:
        return Stopped(stop.signum)
    except (UserError, OSError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return Failed(text, isinstance(error, TrainingDiverged))
    return Done(outcome, task.floor, config, short_path(job.run.folder), baselines)


def train_in_worker(job: Job, channel: Channel) -> Ending:
    """See `train_member`; called in a process of its own."""
    return train_member(job, channel.report, lambda: channel.stopped)


class Queue:
    """Which member is next: of each kind one goes ahead until its kernels are compiled, for others to find.

    Parameters
    ----------
    kinds : sequence of str
        What kernels each member needs.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = kinds
        self._waiting = list(range(len(kinds)))
        self._open: set[str] = set()
        self._ahead: dict[str, int] = {}
        self._compiling: dict[str, float] = {}  # since the first step; infinite before it

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def clear(self) -> None:
        """Begin no other member."""
        self._waiting.clear()

    def take(self) -> int | None:
        """The next member that may begin now."""
        for number in self._waiting:
            kind = self._kinds[number]
            if kind in self._open or kind not in self._ahead:
                self._ahead.setdefault(kind, number)
                self._waiting.remove(number)
                return number
        return None

    def note(self, number: int, happened: str) -> None:
        """Take note of a member's report."""
        kind = self._kinds[number]
        if self._ahead.get(kind) != number or kind in self._open:
            return
        if happened == COMPILE:
            self._compiling.setdefault(kind, float("inf"))
        elif happened == EPOCH or (happened == STEP and kind not in self._compiling):
            self._open.add(kind)
        elif happened == STEP:
            began = min(self._compiling[kind], time.monotonic())
            self._compiling[kind] = began
            if time.monotonic() - began > _WAIT:
                self._open.add(kind)

    def ended(self, number: int) -> None:
        """Take note of a member's end, whatever it was."""
        self._open.add(self._kinds[number])


class Course:
    """How far the members are.

    Parameters
    ----------
    found : RunSet
    terminal : Terminal
    """

    def __init__(self, found: RunSet, terminal: Terminal) -> None:
        self._set, self._terminal = found, terminal
        self._began = 0.0  # when the first of all members took a step, compiled
        self._share: dict[int, float] = {}  # done of each member that has begun
        self._at_start: dict[int, float] = {}
        self._epochs: dict[int, tuple[float, int]] = {}  # of those under way
        self._said = False
        self.endings: dict[int, Ending] = {}

    def report(self, number: int, report: Report) -> None:
        """Take note of a member's report and show it."""
        happened, epoch, epochs = report
        if happened == COMPILE:
            if not self._said:
                self._terminal.say(COMPILING)
            self._said = True
            return
        self._share[number] = epoch / epochs
        self._at_start.setdefault(number, epoch / epochs)
        if happened == STEP:
            self._began = self._began or time.monotonic()
        self._epochs[number] = epoch, epochs
        self._terminal.update(self.text())

    def end(self, number: int, ending: Ending) -> None:
        """Take note of a member's end."""
        self._epochs.pop(number, None)
        self.endings[number] = ending
        if isinstance(ending, Stopped):
            return
        self._share[number] = 1.0
        member = self._set.members[number]
        if isinstance(ending, Failed):
            self._terminal.say(f"{title(self._set, member)}: {ending.text}")
        elif len(self._set.members) <= _LINES:
            measured = metrics_text(ending.outcome.evaluations["test"])
            name = cut(title(self._set, member), COLUMNS - 1 - len(f": test: {measured}"))
            self._terminal.say(f"{name}: test: {measured}")
        else:
            self._terminal.update(self.text())

    @property
    def done(self) -> int:
        """Members that came to an end."""
        return sum(not isinstance(ending, Stopped) for ending in self.endings.values())

    def text(self) -> str:
        """How far all are, in words."""
        count = len(self._set.members)
        pieces: list[Piece] = [(0, f"{self._set.kind}: {self.done} of {count} done")]
        if self._epochs:
            at = sorted(min(int(epoch) + 1, epochs) for epoch, epochs in self._epochs.values())
            epochs = max(epochs for _, epochs in self._epochs.values())
            span = f"epoch {at[0]}" if at[0] == at[-1] else f"epochs {at[0]}-{at[-1]}"
            pieces += [(3, f", {len(self._epochs)} under way"), (2, f", {span}/{epochs}")]
        before = sum(self._at_start.values())
        now = sum(self._share.values())
        if self._began and now - before > _SURE:
            left = time_left((time.monotonic() - self._began) * (count - now) / (now - before))
            pieces.append((1, f"  {left}" if left else ""))
        return fitted(pieces, COLUMNS - 1)


def title(found: RunSet, member: Member) -> str:
    """A member in messages: ``seed 3``, ``gru, seed 3``, ``group a``."""
    cell = f"{member.cell}, " if len(found.cells) > 1 else ""
    return f"{cell}{found.kind.removesuffix('s')} {member.name}"


def train_members(
    found: RunSet, runs: Sequence[Run], data_dir: str | None, device: str, count: int, terminal: Terminal
) -> tuple[dict[int, Ending], int | None]:
    """Train all members of a set.

    Parameters
    ----------
    found : RunSet
    runs : sequence of Run
        Their folders.
    data_dir : str, optional
    device : str
        On CUDA, one comes after the other.
    count : int
        Members at a time; each computes with one thread.
    terminal : Terminal

    Returns
    -------
    endings : dict
        By number; those are missing that a signal left unbegun.
    signum : int or None
        The signal that ended it.
    """
    jobs = [Job(run, data_dir, device) for run in runs]
    course = Course(found, terminal)
    apart = device == "cpu" and min(count, len(jobs)) > 1
    try:
        with SignalWatch(terminal.say) as watch:
            signum = (_beside if apart else _in_turn)(jobs, count, course, watch)
    finally:
        terminal.clear()
    return course.endings, signum


def _in_turn(jobs: Sequence[Job], count: int, course: Course, watch: SignalWatch) -> int | None:
    """One after the other in this process."""
    if jobs[0].device == "cpu":
        from lstm_numba.engines.cpu.threads import set_thread_count

        set_thread_count(1)
    for number, job in enumerate(jobs):
        if watch.received is not None:
            return watch.received

        def tell(report: Report, number: int = number) -> None:
            course.report(number, report)

        ending = train_member(job, tell, lambda: False)
        course.end(number, ending)
        if isinstance(ending, Stopped):
            return ending.signum
    return None


def _beside(jobs: Sequence[Job], count: int, course: Course, watch: SignalWatch) -> int | None:
    """Several at a time, in processes of one thread each."""
    waiting = Queue([job.run.config["cell"] for job in jobs])
    signum: int | None = None
    with Workers(train_in_worker, min(count, len(jobs))) as workers:
        while waiting or workers.under_way:
            while workers.has_room and (number := waiting.take()) is not None:
                workers.begin(number, jobs[number])
            for event in workers.events(_PERIOD):
                if event.kind == REPORT:
                    waiting.note(event.job, event.value[0])
                    course.report(event.job, event.value)
                    continue
                ending = Failed(event.value, False) if event.kind == FAILURE else event.value
                waiting.ended(event.job)
                course.end(event.job, ending)
            left = next(filter(None, _signals(course.endings.values(), watch)), None)
            if left is not None and signum is None:
                signum = left
                waiting.clear()
                workers.stop()
    return signum


def _signals(endings: Iterable[Ending], watch: SignalWatch) -> Iterator[int | None]:
    """The signal that came to this process, or to one of the others alone."""
    yield watch.received
    yield from (ending.signum for ending in endings if isinstance(ending, Stopped))


def failures(endings: Mapping[int, Ending]) -> dict[int, Failed]:
    """Those that ended by an error."""
    return {number: one for number, one in endings.items() if isinstance(one, Failed)}


def results(endings: Mapping[int, Ending]) -> dict[int, Any]:
    """Those that ended with a result."""
    return {number: one for number, one in endings.items() if isinstance(one, Done)}
