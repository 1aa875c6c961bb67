"""Several runs beside each other: do they compare, what differs between them, their curves in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lstm_numba.errors import UserError, printable
from lstm_numba.training.callbacks import Evaluation
from lstm_numba.training.run import Run

Line = dict[str, Any]

#: Values of an evaluation that are a metric.
_METRICS = (
    *(one.name for one in fields(Evaluation) if one.name not in ("split", "loss", "count", "measures")),
    "mae",
)
#: Settings that tell a run's data from others.
_DATA = ("dataset", "file", "files", "example", "target")
#: Settings that do not say what was trained.
_UNTOLD = {
    *("format", "version", "device", "threads", "checkpoint_every", "log", "equations", "preset"),
    "data_dir",
}
#: Settings in a legend at most.
_SHOWN = 5


@dataclass(frozen=True)
class Compared:
    """A run for a comparison.

    Attributes
    ----------
    folder : str
        As the user named it.
    settings : dict
        Those that say what was trained, see `_flat`.
    epochs : list of dict
        Lines of metrics of whole epochs.
    metric : str or None
        What is measured beside the loss.
    level : str or None
        What a token is, of a language model.
    """

    folder: str
    settings: dict[str, Any]
    epochs: list[Line]
    metric: str | None
    level: str | None

    @property
    def data(self) -> tuple[Any, ...]:
        """What tells its data from others."""
        return tuple(self.settings.get(name) for name in _DATA)

    @property
    def measure(self) -> str:
        """What its loss is the loss of, in words."""
        level = "" if self.level is None else f" of {self.level}s"
        loss = self.settings.get("loss")
        return f"{self.metric or 'no metric'}{level}{'' if loss is None else f', with the loss {loss},'}"


def read_run(folder: str) -> Compared:
    """Read what a comparison needs of a run.

    Raises
    ------
    UserError
        It is no run, it is damaged, or no epoch of it is finished.
    """
    run = Run.open(folder)
    epochs = [line for line in run.metrics() if line["kind"] == "epoch"]
    if not epochs:
        raise UserError(f"{folder}: no epoch is complete: nothing to plot")
    metric = next((name for name in _METRICS if any(name in line for line in epochs)), None)
    vocabulary = run.vocabulary()
    level = None if vocabulary is None else vocabulary["level"]
    return Compared(folder, _flat(run.config), epochs, metric, level)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without objects in it, and without what does not matter here."""
    inner = {**config["data"], **config["schedule_options"]}
    if "seed" in inner:
        inner["data seed"] = inner.pop("seed")
    outer = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    return {name: value for name, value in {**outer, **inner}.items() if name not in _UNTOLD}


def losses_only(runs: Sequence[Compared]) -> bool:
    """Whether runs are of different data, so that no more than their losses can be drawn in one figure.

    Raises
    ------
    UserError
        Not even these: they are of different things.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.measure != first.measure:
            raise UserError(
                f"{other.folder}: is measured by its {other.measure}, {first.folder} by its {first.measure}: "
                "their losses do not compare"
            )
    return any(other.data != first.data for other in runs)


def labels(runs: Sequence[Compared]) -> list[str]:
    """A name for each run, with the settings in which they differ."""
    names = [Path(run.folder).resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [run.folder for run in runs]
    every = dict.fromkeys(name for run in runs for name in run.settings)
    differing = [name for name in every if len({str(run.settings.get(name)) for run in runs}) > 1]
    found = []
    for name, run in zip(names, runs, strict=True):
        told = [_told(setting, run.settings[setting]) for setting in differing if setting in run.settings]
        more = [f"{len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
        settings = ", ".join([*told[:_SHOWN], *more])
        found.append(f"{printable(name, 60)}: {settings}" if settings else printable(name, 60))
    return found


def _told(name: str, value: Any) -> str:
    """A setting in words."""
    if name == "file":
        value = Path(value).name
    text = f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
    return f"{name.replace('_', ' ')} {printable(text, 40)}"


def write_comparison(folders: Sequence[str], out: Path) -> list[str]:
    """Draw the learning curves of runs in one figure, ``comparison.png`` and ``.svg``; needs matplotlib.

    Parameters
    ----------
    folders : sequence of str
        Run folders, at least two.
    out : Path
        Folder to write to; made if it is not there.

    Returns
    -------
    list of str
        The paths.

    Raises
    ------
    UserError
        The runs do not compare, or one is named twice.
    """
    from lstm_numba.cli import run_plots
    from lstm_numba.plots.style import save

    places = [Path(folder).resolve() for folder in folders]
    twice = next((f for f, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: is given twice")
    runs = [read_run(folder) for folder in folders]
    metric = None if losses_only(runs) else runs[0].metric
    curves = {label: run.epochs for label, run in zip(labels(runs), runs, strict=True)}
    data = " and ".join(dict.fromkeys(str(run.settings["dataset"]) for run in runs))
    figure = run_plots.compared_curves(curves, metric, data)
    out.mkdir(parents=True, exist_ok=True)
    return [str(path) for path in save(figure, out / "comparison")]
