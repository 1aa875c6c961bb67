"""What a run on a user's own series must remember beside its settings: ``series.json``.

Columns, classes, window and scales are found out once, from the training part of the data; with them a model
can be used without its data, on other files. The file is checked when it is read: it may come from anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.data.scaling import Scaler
from lstm_numba.data.series import SPLITS, TASKS, SeriesData, SeriesOptions, WindowIndex
from lstm_numba.data.tables import Array
from lstm_numba.errors import printable_json
from lstm_numba.training.baselines import guess_season
from lstm_numba.training.forecast_windows import ForecastWindows, drifts
from lstm_numba.training.series_settings import test_share
from lstm_numba.training.settings import POSITIVE


class SeriesDescription(NamedTuple):
    """What is known of the data.

    Attributes
    ----------
    task : {"forecast", "regress", "classify"}
    targets, features : tuple of str
        Columns; the features of a forecast include its targets.
    classes : tuple of str
    time, group : str, optional
        Columns.
    window, horizon : int, optional
        Steps.
    split : {"time", "group", "random"}
    per_step : bool
        There is a target at every step.
    relative : bool
        Forecasts are relative to the window's last step, see `lstm_numba.training.forecast_windows.drifts`.
    season : int, optional
        Steps after which the targets are alike, see `lstm_numba.training.baselines.guess_season`.
    inputs, outputs : Scaler
        Of the features and of the targets.
    means : tuple of float
        The features' means in training, for missing numbers.
    data : str
        Checksum of the data.
    """

    task: str
    targets: tuple[str, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    time: str | None
    group: str | None
    window: int | None
    horizon: int | None
    split: str
    per_step: bool
    relative: bool
    season: int | None
    inputs: Scaler
    outputs: Scaler
    means: tuple[float, ...]
    data: str

    @property
    def target_columns(self) -> list[int]:
        """Places of a forecast's targets among its features."""
        return [self.features.index(name) for name in self.targets]

    def options(self, data: Mapping[str, Any], validation: float) -> SeriesOptions:
        """What reads the data again as they were read: nothing is left to guess.

        Parameters
        ----------
        data : mapping
            The configuration's options of the data.
        validation : float
            The configuration's.
        """
        return SeriesOptions(
            self.targets,
            self.features,
            self.time,
            self.group,
            self.task,
            self.window,
            self.horizon,
            data["stride"],
            self.split,
            validation,
            test_share(data),
            data["split_seed"],
            data.get("only"),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**self._asdict(), "inputs": self.inputs.to_dict(), "outputs": self.outputs.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeriesDescription:
        """Undo `to_dict`.

        Raises
        ------
        ValueError
            A field is missing or does not fit the others; the text names it.
        """
        missing = [name for name in cls._fields if name not in values]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        found = {name: values[name] for name in cls._fields}
        for name in ("targets", "features", "classes"):
            found[name] = _names(name, found[name])
        for name in ("inputs", "outputs"):
            try:
                found[name] = Scaler.from_dict(found[name])
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise ValueError(f"{name}: {' '.join(str(error).split())}") from None
        try:
            means = np.array(found["means"], np.float64)
        except (ValueError, TypeError, OverflowError):
            means = np.array(np.nan)
        if means.shape != (len(found["features"]),) or not np.all(np.isfinite(means)):
            raise ValueError(f"means: expected {len(found['features'])} numbers")
        found["means"] = tuple(means.tolist())
        description = cls(**found)
        _check(description)
        return description

    def digest(self) -> str:
        """SHA-256 of the description."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name}: expected texts, got {printable_json(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"{name}: one appears twice")
    return tuple(value)


def _check(it: SeriesDescription) -> None:
    """Check each field, and how they go together."""
    texts = {"task": TASKS, "split": SPLITS}
    for name, allowed in texts.items():
        if getattr(it, name) not in allowed:
            raise ValueError(
                f"{name}: expected one of {', '.join(allowed)}, got {printable_json(getattr(it, name))}"
            )
    for name in ("time", "group"):
        if not isinstance(getattr(it, name), str | None):
            raise ValueError(f"{name}: expected a text or null")
    for name in ("per_step", "relative"):
        if not isinstance(getattr(it, name), bool):
            raise ValueError(f"{name}: expected true or false")
    if not isinstance(it.data, str):
        raise ValueError("data: expected a text")
    for name in ("window", "horizon", "season"):
        value = getattr(it, name)
        if value is not None and POSITIVE(value):
            raise ValueError(f"{name}: expected {POSITIVE(value)}, got {printable_json(value)}")
    forecast, classify = it.task == "forecast", it.task == "classify"
    if forecast and (it.window is None or it.horizon is None or not set(it.targets) <= set(it.features)):
        raise ValueError("task: a forecast has a window, a horizon, and its targets among the features")
    if not forecast and (it.horizon is not None or it.relative or set(it.targets) & set(it.features)):
        raise ValueError(f"task: {it.task} goes with no horizon, and its targets are no features")
    if not it.targets or not it.features or (classify and len(it.targets) > 1):
        raise ValueError("targets: expected targets and features, and of classes one target")
    if classify != (len(it.classes) > 1) or (it.per_step and (it.task != "regress" or it.window is not None)):
        raise ValueError("classes: do not go with the task")
    if len(it.inputs.mean) != len(it.features) or len(it.outputs.mean) != len(it.targets):
        raise ValueError("inputs: expected a scale for each feature, and outputs one for each target")


def describe(data: SeriesData, scale: str) -> SeriesDescription:
    """Describe data that are going to be trained on.

    Parameters
    ----------
    data : SeriesData
    scale : {"standard", "none"}
        Whether numbers are standardised.
    """
    options, train = data.options, data.parts["train"]
    rows = np.concatenate([piece.x for piece in train])
    means = np.nanmean(rows, axis=0)
    relative, season = False, None
    inputs = Scaler.fit(rows)
    outputs = Scaler.identity(len(data.targets.names))
    if data.task == "forecast":
        columns = [data.features.index(name) for name in data.targets.names]
        series = [piece.y for piece in train]
        relative, season = drifts(series), guess_season(series)
        index = WindowIndex(train, options.window, options.horizon or 0, options.stride, before=means)
        windows = ForecastWindows(index, columns, relative=relative)
        assert windows.inputs is not None
        assert windows.targets is not None
        inputs, outputs = windows.inputs, windows.targets
    elif data.task == "regress":
        every = options.window is not None or data.per_step
        outputs = Scaler.fit(np.concatenate([piece.y if every else piece.y[-1:] for piece in train]))
    if scale == "none":
        inputs, outputs = Scaler.identity(len(data.features)), Scaler.identity(len(data.targets.names))
    return SeriesDescription(
        data.task,
        data.targets.names,
        data.features,
        data.classes,
        data.columns.time,
        data.columns.group,
        options.window,
        options.horizon,
        str(options.split),
        data.per_step,
        relative,
        season,
        inputs,
        outputs,
        tuple(means.tolist()),
        checksum(data),
    )


def checksum(data: SeriesData) -> str:
    """SHA-256 of all sequences: names, features and targets."""
    digest = hashlib.sha256()
    for sequence in data.sequences:
        _add(digest, [sequence.name], (sequence.x, sequence.y))
    return digest.hexdigest()


def _add(digest: Any, texts: Sequence[str], arrays: Sequence[Array]) -> None:
    digest.update(json.dumps([*texts, *(array.shape for array in arrays)]).encode())
    for array in arrays:
        # All NaN are the same.
        digest.update(np.ascontiguousarray(np.where(np.isnan(array), np.nan, array) + 0.0).data)
