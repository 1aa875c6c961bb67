"""What came of a sweep: the best trials, and which settings mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_numba.sweeps.config import SweepConfig
from lstm_numba.sweeps.ranges import Domain
from lstm_numba.sweeps.study import Sweep
from lstm_numba.sweeps.trials import Trial, counts, ranked

#: Complete trials of which settings' influence is told at least.
ENOUGH = 4


def document(sweep: Sweep) -> dict[str, Any]:
    """All that a report says, as JSON can hold it.

    Parameters
    ----------
    sweep : Sweep
        Others may be training.

    Returns
    -------
    dict
        ``metric``, ``direction``, ``watched`` (part of the data), ``wanted`` (trials), ``counts`` (trials
        by state), ``best`` (the best trial or None), ``command`` (words that train it again), ``trials``
        (the complete ones first, the best on top), ``settings`` (each with its range, importance, rank
        correlation with the metric, and values in the best of the complete trials; the most important
        first), ``top`` (how many are meant by these: a fifth, three at least).
    """
    config = sweep.config
    trials = sweep.trials()
    best_first = ranked(trials, config.maximizes)
    rest = [trial for trial in trials if trial.value is None]
    rows = [_row(sweep, trial) for trial in (*best_first, *rest)]
    return {
        "study": config.name,
        "folder": str(sweep.folder),
        "dataset": config.dataset,
        "metric": config.metric,
        "direction": config.direction,
        "watched": config.watched,
        "wanted": config.trials,
        "counts": counts(trials),
        "best": rows[0] if best_first else None,
        "command": command(config, best_first[0].params) if best_first else None,
        "trials": rows,
        "settings": _settings(config, best_first, sweep.importances()),
        "top": len(_top(best_first)),
    }


def command(config: SweepConfig, params: Mapping[str, Any]) -> list[str]:
    """The words of a command line that trains with these settings."""
    words, files = ["lstm-numba", "train", config.dataset], list[str]()
    for name, value in {**config.fixed, **params}.items():
        flag = f"--{config.option(name).replace('_', '-')}"
        if name in ("file", "files"):
            files += [value] if isinstance(value, str) else value
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, list):
            words += [flag, ",".join(value)]
        else:
            words += [flag, str(value)]
    return [*words, *files]


def _row(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    best = trial.best_epoch(sweep.config.maximizes)
    return {
        "trial": trial.number,
        "state": trial.state,
        "value": trial.value,
        "params": {sweep.config.option(name): value for name, value in trial.params.items()},
        "epochs": trial.epochs,
        "best_epoch": best,
        "best": trial.curve.get(best),
        "curve": [[epoch, value] for epoch, value in trial.curve.items()],
        "test": dict(trial.test),
        "seconds": trial.seconds,
        "reason": trial.reason,
        "run": str(sweep.trial_folder(trial.number)),
    }


def _top(best_first: Sequence[Trial]) -> Sequence[Trial]:
    """Those whose values are told."""
    return best_first[: max(3, math.ceil(len(best_first) / 5))] if len(best_first) >= ENOUGH else ()


def _settings(
    config: SweepConfig, best_first: Sequence[Trial], importances: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What is known of each setting's influence, the most important first."""
    enough, top = len(best_first) >= ENOUGH, _top(best_first)
    rows = []
    for name, domain in config.ranges.items():
        values = [trial.params[name] for trial in top if name in trial.params]
        rows.append(
            {
                "name": config.option(name),
                "range": domain.raw(),
                "importance": importances.get(name),
                "correlation": _correlation(domain, best_first) if enough else None,
                "best": _summary(domain, values) if values else None,
            }
        )
    return sorted(rows, key=lambda row: -(row["importance"] or 0.0))


def _summary(domain: Domain, values: Sequence[Any]) -> list[Any]:
    """Lowest and highest of numbers; of choices those that there are, the most frequent first."""
    if not domain.choices:
        return [min(values), max(values)]
    there = [choice for choice in domain.choices if choice in values]
    return sorted(there, key=lambda choice: -list(values).count(choice))


def _correlation(domain: Domain, trials: Sequence[Trial]) -> float | None:
    """Spearman's rank correlation of a setting that is a number with the metric; None without any."""
    from scipy.stats import spearmanr

    pairs = [(t.params[domain.name], t.value) for t in trials if domain.name in t.params]
    numbers = not domain.choices or not isinstance(domain.choices[0], (str, bool))
    if not numbers or len(pairs) < ENOUGH:
        return None
    values, losses = zip(*pairs, strict=True)
    if len(set(values)) < 2 or len(set(losses)) < 2:
        return None
    return float(spearmanr(values, losses).statistic)
