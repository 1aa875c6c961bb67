"""The result of a training, as ``lstm-numba train`` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lstm_numba.cli.console import measures_table, result_line, result_object, short_path
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from lstm_numba.training.callbacks import Outcome


class Done(NamedTuple):
    """A run that is complete; `folder` as messages name it."""

    outcome: Outcome
    floor: float | None
    config: dict[str, Any]
    folder: str
    baselines: dict[str, dict[str, float]]


def print_result(done: Done, head: str) -> None:
    """Print the result as text, after `head`."""
    outcome, folder = done.outcome, done.folder
    click.echo(
        f"{head}{result_line(outcome.evaluations['test'], done.floor)}  ({_epochs(outcome)}, {folder})"
    )
    if done.baselines:
        click.echo(measures_table({"this network": outcome.evaluations["test"].as_dict(), **done.baselines}))
    if outcome.diverged:
        click.echo(f"{head}{_divergence(outcome, folder)}")


def result_values(done: Done) -> dict[str, Any]:
    """The result for ``--json``."""
    outcome = done.outcome
    return {
        "run": done.folder,
        "dataset": done.config["dataset"],
        "cell": done.config["cell"],
        "epochs": outcome.epochs,
        "stopped_early": outcome.stopped_early,
        "kept_epoch": outcome.kept_epoch,
        "step": outcome.step,
        **result_object(outcome.evaluations["test"], done.floor),
        "evaluations": {split: evaluation.as_dict() for split, evaluation in outcome.evaluations.items()},
        "checkpoint": short_path(outcome.checkpoint),
        "diverged": outcome.diverged,
        "best": outcome.best and outcome.best._asdict(),
        **({"baselines": done.baselines} if done.baselines else {}),
    }


def _epochs(outcome: Outcome) -> str:
    """How many epochs there were, and which one the result is of if it is not the last."""
    count, kept = plural(outcome.epochs, "epoch"), outcome.kept_epoch
    early = ", stopped early" if outcome.stopped_early else ""
    return (count if kept in (None, outcome.epochs) else f"epoch {kept} of {count}") + early


def _divergence(outcome: Outcome, folder: str) -> str:
    """Message for a training that ended worse than it began."""
    train, start, best = outcome.train, outcome.start, outcome.best
    text = f"training diverged: the loss of its last epoch is {train.loss:.4g}, {start:.4g} at its start"
    if best is None or start is None or best.loss > start:
        return f"{text}; no epoch was better than that"
    return (
        f"{text}; the best was epoch {best.epoch}, {best.split} loss {best.loss:.4g}: "
        f"lstm-numba evaluate {folder} --checkpoint best"
    )
