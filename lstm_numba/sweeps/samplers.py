"""How trials are drawn: the sampler of each trial has a seed of its own.

So several processes with one seed do not draw the same values, and a sweep that was killed and goes on draws
what it would have drawn anyway. A grid gives trial n its n-th combination: none is there twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna import pruners, samplers

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

    from lstm_numba.sweeps.config import SweepConfig


def make_sampler(config: SweepConfig, position: Callable[[int], int]) -> samplers.BaseSampler:
    """The sampler of a configuration.

    Parameters
    ----------
    config : SweepConfig
    position : callable
        Place of a trial's number among those that count.
    """
    if config.sampler == "grid":
        return _Grid(config.grid(), position)
    if config.sampler == "random":
        return _Seeded(config.seed, lambda seed: samplers.RandomSampler(seed=seed))
    return _Seeded(
        config.seed,
        lambda seed: samplers.TPESampler(
            seed=seed, n_startup_trials=config.startup_trials, constant_liar=True
        ),
    )


def make_pruner(config: SweepConfig) -> pruners.BasePruner:
    """The pruner of a configuration; its steps are epochs, from 1."""
    first = config.warmup_epochs + 1  # after which it may give a trial up
    if config.pruner == "median":
        return pruners.MedianPruner(n_warmup_steps=first)
    if config.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=first, max_resource=max(config.epochs, first))
    return pruners.NopPruner()


class _Seeded(samplers.BaseSampler):
    """Another sampler, made anew for each trial."""

    def __init__(self, seed: int, make: Callable[[int], samplers.BaseSampler]) -> None:
        self._seed = seed
        self._make = make
        self._inner = make(0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin a trial, or go on with it."""
        seed = random.Random(f"{self._seed} {trial.number}").getrandbits(32)
        self._inner = self._make(seed)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw it."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """End a trial."""
        self._inner.after_trial(study, trial, state, values)


class _Grid(samplers.BaseSampler):
    """One combination after the other."""

    def __init__(self, grid: Sequence[Mapping[str, Any]], position: Callable[[int], int]) -> None:
        self._grid = grid
        self._position = position

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The trial's own; one too many, which nobody trains, gets some."""
        return self._grid[self._position(trial.number) % len(self._grid)][param_name]
