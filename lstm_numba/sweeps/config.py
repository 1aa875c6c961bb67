"""What a file of a sweep says; `lstm_numba.sweeps.reading` reads it. Optuna is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.sweeps.ranges import Domain, SweepError, combinations
from lstm_numba.training.config import make_config
from lstm_numba.training.setting import LANGUAGE_MODELS, Setting
from lstm_numba.training.settings import DATA_OPTIONS, SCHEDULE_OPTIONS, SETTINGS

#: Metrics of which more is better.
RISING = ("accuracy", "nse", "macro_f1", "roc_auc")
#: Settings that name files, and those that cannot be ranges.
PATHS = ("data_dir", "file", "files")
NO_RANGES = (*PATHS, "log", "checkpoint_every", "preset")


@dataclass(frozen=True)
class SweepConfig:
    """What a file says.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        Of the study.
    dataset : str
        Of ``lstm-numba train``.
    fixed : dict
        Settings that all trials share, by name; files are absolute.
    ranges : dict of Domain
        Those that have a condition come last.
    trials : int
        In all, whoever trains them.
    metric, direction : str
    sampler, pruner : str
    startup_trials, warmup_epochs : int
        Trials drawn at random before TPE begins; epochs that are never pruned.
    seed : int
        Of the sampler.
    written : dict
        What a study is bound to, as the file has it.
    """

    path: Path
    name: str
    dataset: str
    fixed: dict[str, Any]
    ranges: dict[str, Domain]
    trials: int
    metric: str
    direction: str
    sampler: str
    pruner: str
    startup_trials: int
    warmup_epochs: int
    seed: int
    written: dict[str, Any]

    @property
    def maximizes(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def epochs(self) -> int:
        """Epochs of a trial, the most if they are drawn."""
        drawn = self.ranges.get("epochs")
        if drawn is not None:
            return max(drawn.choices) if drawn.choices else int(drawn.high)
        return int(self.run_config({})["epochs"])

    @property
    def watched(self) -> str:
        """The part of the data that trials are measured on."""
        if self.dataset in LANGUAGE_MODELS or "validation" in self.ranges:
            return "valid"
        return "valid" if self.run_config({})["validation"] else "train"

    def check_files(self) -> None:
        """Refuse files to train on that are not there; a report does without them.

        Raises
        ------
        SweepError
        """
        named = self.fixed.get("files", []) + [self.fixed[name] for name in ("file",) if name in self.fixed]
        missing = next((path for path in named if not os.path.exists(path)), None)
        if missing is not None:
            key = "files" if "files" in self.fixed else "file"
            raise SweepError(
                f"{one_line(self.path, 400)}: fixed.{key}: {one_line(missing, 400)} does not exist"
            )

    def option(self, name: str) -> str:
        """Name of a setting in the file."""
        return next((option for option, (of, _) in settings_of(self.dataset).items() if of == name), name)

    def cells(self) -> list[str]:
        """All cells that trials may have."""
        drawn = self.ranges.get("cell")
        return list(drawn.choices) if drawn is not None else [str(self.fixed.get("cell", "lstm"))]

    def run_config(self, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The configuration of a trial's run.

        Parameters
        ----------
        params : dict
            Drawn settings.
        **more
            Threads, device, folder of the data.

        Raises
        ------
        ConfigError
            These settings do not go together.
        """
        given = {**self.fixed, **params, **{name: value for name, value in more.items() if value is not None}}
        preset = given.pop("preset", None)
        data = {name: given.pop(name) for name in list(given) if name in DATA_OPTIONS and name != "seed"}
        return make_config(self.dataset, given, data=data, preset=preset)

    def grid(self) -> list[dict[str, Any]]:
        """All trials of a grid, in order; empty with another sampler."""
        if self.sampler != "grid":
            return []
        return list(
            combinations(self.ranges, {name: one.values() or [] for name, one in self.ranges.items()})
        )


def settings_of(dataset: str) -> dict[str, tuple[str, Setting]]:
    """What may stand in the file: name of the option of ``train DATASET`` -> name of the setting, setting.

    Names have "_" for "-".
    """
    found = {}
    for settings in (SETTINGS, SCHEDULE_OPTIONS, DATA_OPTIONS):
        for name, one in settings.items():
            if dataset in one.only and (one.help or name in PATHS):
                option = one.option.removeprefix("--").replace("-", "_") if one.option else name
                found[option] = (name, one)
    return found
