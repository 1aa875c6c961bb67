"""The trials of a sweep, in a database that several processes share: each is trained once, and none is lost.

A process claims a trial by a lock that ends with it (`lstm_numba.sweeps.lock`). A trial that is under way in
the database and that nobody has claimed was abandoned: whoever looks for work next goes on with it, from the
checkpoint in its run folder. Every access to the database is made alone among the processes of a folder.
"""

from __future__ import annotations

import datetime
import inspect
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import CheckpointError
from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.lock import SweepLock
from lstm_numba.sweeps.ranges import Domain, SweepError
from lstm_numba.sweeps.trials import (
    ABANDONED,
    COMPLETE,
    DIVERGED,
    ELSEWHERE,
    FAILED,
    PRUNED,
    RUNNING,
    Trial,
    best_epoch,
)
from lstm_numba.training.run import Run

try:
    import optuna
except ImportError:
    raise SweepError("sweep needs Optuna: pip install 'lstm_numba[sweep]'") from None

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from lstm_numba.sweeps.samplers import make_pruner, make_sampler

__all__ = ["Claim", "SQLAlchemyError", "Sweep", "make_url", "optuna", "translated"]

#: How often a trial is begun without the end of an epoch before it counts as failed.
_ATTEMPTS = 5
#: Seconds after which a trial without a place was abandoned before it got one.
_NEWBORN = 60.0
_STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}


class Claim(NamedTuple):
    """A trial that this process trains.

    Attributes
    ----------
    handle : optuna.Trial
    number : int
    params : dict
        Its drawn settings by name.
    folder : Path
        Its run folder, which may hold a run already.
    again : bool
        It was abandoned before.
    known : dict of float
        Its curve as the study has it: epoch, from 1 -> metric.
    """

    handle: optuna.Trial
    number: int
    params: dict[str, Any]
    folder: Path
    again: bool
    known: dict[int, float]


class Sweep:
    """A sweep in its folder; `lstm_numba.sweeps.opening` opens one.

    Attributes
    ----------
    config : SweepConfig
    folder : Path
    """

    def __init__(self, config: SweepConfig, folder: Path, lock: SweepLock, study: optuna.Study) -> None:
        self.config = config
        self.folder = folder
        self._lock = lock
        self._study = study
        study.sampler = make_sampler(config, self._position)
        study.pruner = make_pruner(config)

    # -- work --------------------------------------------------------------------------------------

    def begin(self) -> Claim | None:
        """Claim a trial: an abandoned one, or else a new one; None if there is nothing to begin."""
        with self._alone():
            trials = self._counting()
            for trial in trials:
                if trial.state == TrialState.RUNNING and self._take(trial):
                    claim = self._go_on(trial)
                    if claim is not None:
                        return claim
            if len(trials) >= self.config.trials:
                return None
            handle = self._study.ask()
            if self._position(handle.number) >= self.config.trials:  # another folder was as fast
                handle.set_user_attr("surplus", True)
                self._study.tell(handle, state=TrialState.FAIL)
                return None
            if not self._lock.take(handle.number):
                raise SweepError(f"{self.folder}: trial {handle.number} is taken; is the database a copy?")
            handle.set_user_attr("place", self._lock.place)
            return self._claim(handle)

    def report(self, claim: Claim, curve: Mapping[int, float]) -> bool:
        """Say how a trial fares, and ask whether it is to be given up.

        Parameters
        ----------
        claim : Claim
        curve : dict of float
            Epoch, from 1 -> metric; those that are known already are left out.
        """
        with self._alone():
            handle = claim.handle
            for epoch, value in curve.items():
                if epoch not in claim.known:
                    handle.report(value, epoch)
                    claim.known[epoch] = value
            if handle.user_attrs.get("attempts", 0) > 1:
                handle.set_user_attr("attempts", 1)
            return handle.should_prune()

    def complete(self, claim: Claim, test: Mapping[str, float]) -> float:
        """End a trial; its value is that of its best epoch, which is returned."""
        value = claim.known[best_epoch(claim.known, self.config.maximizes)]
        with self._alone():
            claim.handle.set_user_attr("test", _finite(test))
            self._study.tell(claim.handle, value)
            self._lock.drop(claim.number)
        return value

    def give_up(self, claim: Claim, state: str, reason: str = "") -> None:
        """End a trial without a result.

        Parameters
        ----------
        claim : Claim
        state : {"pruned", "diverged", "failed"}
            What the sampler learns of a trial that diverged is that it was bad, as of a pruned one; of one
            that failed it learns nothing.
        reason : str
        """
        with self._alone():
            self._end(claim.handle, state, reason)
            self._lock.drop(claim.number)

    def leave(self, claim: Claim) -> None:
        """Stop in the midst of a trial, which goes on another time."""
        with self._alone():
            claim.handle.set_user_attr("attempts", 0)
            self._lock.drop(claim.number)

    def close(self) -> None:
        """Give the folder up; claimed trials are abandoned."""
        self._lock.close()

    # -- what there is -----------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """All trials by number."""
        with self._alone():
            return [self._plain(trial) for trial in self._counting()]

    def importances(self) -> dict[str, float]:
        """How much of the way to the best trials each setting accounts for, the most important first.

        By PED-ANOVA [1]_, which compares the distribution of each setting's values among the best complete
        trials with that among all: the best tenth, but five of them, or half of all where there are fewer
        than ten. They add up to 1; empty of fewer than four complete trials.

        References
        ----------
        .. [1] S. Watanabe, A. Bansal, F. Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter
           Importance in Arbitrary Subspaces", IJCAI 2023.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        with self._alone():
            count = sum(trial.state == TrialState.COMPLETE for trial in self._counting())
            if count < 4:
                return {}
            share = min(max(0.1, 5 / count), 0.5)
            arguments = inspect.signature(PedAnovaImportanceEvaluator).parameters
            name = "target_quantile" if "target_quantile" in arguments else "baseline_quantile"
            evaluator = PedAnovaImportanceEvaluator(**{name: share})
            try:
                found = get_param_importances(self._study, evaluator=evaluator)
            except (ValueError, RuntimeError):  # all values are equal
                return {}
        return {param: float(value) for param, value in found.items() if value == value}

    # -- parts -------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock.alone(), translated(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is experimental in Optuna is no concern of a user's
            yield

    def _counting(self) -> list[FrozenTrial]:
        """All trials but those that were one too many."""
        every = self._study.get_trials(deepcopy=False)
        return sorted((t for t in every if "surplus" not in t.user_attrs), key=lambda t: t.number)

    def _position(self, number: int) -> int:
        return sum(trial.number < number for trial in self._counting())

    def _claim(self, handle: optuna.Trial, before: FrozenTrial | None = None) -> Claim:
        """A claim on a trial; `before` is what the study knows of it, if it goes on."""
        handle.set_user_attr("attempts", handle.user_attrs.get("attempts", 0) + 1)
        params: dict[str, Any] = {}
        for name, domain in self.config.ranges.items():
            if domain.active(params):
                params[name] = _draw(handle, domain)
        known = {} if before is None else dict(before.intermediate_values)
        folder = self.trial_folder(handle.number)
        return Claim(handle, handle.number, params, folder, before is not None, known)

    def trial_folder(self, number: int) -> Path:
        """Run folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def _is_here(self, trial: FrozenTrial) -> bool:
        """Whether the run folder of a trial is in this sweep's folder."""
        if "place" in trial.user_attrs:
            return bool(trial.user_attrs["place"] == self._lock.place)
        began = trial.datetime_start
        return began is None or (datetime.datetime.now() - began).total_seconds() > _NEWBORN

    def _take(self, trial: FrozenTrial) -> bool:
        """Claim a trial if it was abandoned here."""
        if not self._is_here(trial) or not self._lock.take(trial.number):
            return False
        folder = self.trial_folder(trial.number)
        if not (folder / "config.json").exists():
            return True
        try:  # somebody may go on with it by hand, by train --resume
            with Run(folder, {}).locked():
                return True
        except CheckpointError:
            self._lock.drop(trial.number)
            return False

    def _go_on(self, trial: FrozenTrial) -> Claim | None:
        """Claim an abandoned trial, unless it ended its process time and again."""
        handle = optuna.Trial(self._study, trial._trial_id)
        attempts = trial.user_attrs.get("attempts", 0)
        if attempts >= _ATTEMPTS:
            why = f"its process died {attempts} times before the end of an epoch"
            self._end(handle, FAILED, why)
            self._lock.drop(trial.number)
            return None
        handle.set_user_attr("place", self._lock.place)
        return self._claim(handle, trial)

    def _end(self, handle: optuna.Trial, state: str, reason: str) -> None:
        if reason:
            handle.set_user_attr("reason", one_line(reason, 500))
        if state == DIVERGED:
            handle.set_user_attr("diverged", True)
        self._study.tell(handle, state=TrialState.FAIL if state == FAILED else TrialState.PRUNED)

    def _plain(self, trial: FrozenTrial) -> Trial:
        state = _STATES.get(trial.state) or self._state_of_running(trial)
        attributes = trial.user_attrs
        began, ended = trial.datetime_start, trial.datetime_complete
        return Trial(
            trial.number,
            DIVERGED if attributes.get("diverged") else state,
            {name: trial.params[name] for name in self.config.ranges if name in trial.params},
            dict(sorted(trial.intermediate_values.items())),
            trial.value if state == COMPLETE else None,
            str(attributes.get("reason", "")),
            dict(attributes.get("test", {})),
            None if began is None or ended is None else (ended - began).total_seconds(),
        )

    def _state_of_running(self, trial: FrozenTrial) -> str:
        if not self._is_here(trial):
            return ELSEWHERE
        if not self._take(trial):
            return RUNNING
        self._lock.drop(trial.number)
        return ABANDONED


def _draw(handle: optuna.Trial, domain: Domain) -> Any:
    """A value of a range; that of a trial that goes on is known already."""
    if domain.choices:
        return handle.suggest_categorical(domain.name, domain.choices)
    if domain.whole:
        step = {} if domain.step is None else {"step": domain.step}
        return handle.suggest_int(domain.name, domain.low, domain.high, log=domain.log, **step)
    return handle.suggest_float(domain.name, domain.low, domain.high, step=domain.step, log=domain.log)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """What JSON can hold."""
    return {name: float(value) for name, value in values.items() if abs(value) < float("inf")}


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database's errors into one line."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
        cause = error.__cause__ or error
        text = str(getattr(cause, "orig", None) or cause)
        raise SweepError(f"the database of the sweep: {one_line(text)}") from None
    except RuntimeError as error:
        if "compatible" not in str(error):
            raise
        raise SweepError(f"the database of the sweep: {one_line(error)}") from None
