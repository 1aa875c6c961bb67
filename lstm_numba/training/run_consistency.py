"""Checks that the files of a run folder belong together: a checkpoint stores its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_numba.errors import CheckpointError, printable_json
from lstm_numba.training.config import with_later_settings
from lstm_numba.training.settings import SERIES

if TYPE_CHECKING:
    from lstm_numba.training.run import Run

#: Settings that may change when a run is resumed. Changed equations of a user's cell give a message only.
_FREE = (
    *("version", "preset", "equations", "device", "threads"),
    *("epochs", "early_stopping", "checkpoint_every", "log"),
)
#: Entries of `data` that only say where the data are; a checksum identifies the data.
_FREE_DATA = ("data_dir", "file", "files")


def bound_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint must be used with; those of the data as ``data.NAME``."""
    data = {f"data.{name}": value for name, value in config["data"].items() if name not in _FREE_DATA}
    return {name: value for name, value in config.items() if name not in (*_FREE, "data")} | data


def vocabulary_digest(level: str, tokens: Sequence[str]) -> str:
    """SHA-256 of a vocabulary."""
    return hashlib.sha256(json.dumps([level, list(tokens)]).encode()).hexdigest()


def form_digest(form: Mapping[str, Any]) -> str:
    """SHA-256 of the form of own pictures, the fields of an `lstm_numba.data.images.ImageForm`."""
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


def check_belongs(run: Run, path: Path, meta: Mapping[str, Any]) -> None:
    """Compare a run's configuration, and its vocabulary, form of pictures or series, with a checkpoint's.

    Earlier checkpoints hold neither; their model's description is compared by `check_described`.

    Parameters
    ----------
    run : Run
    path : Path
        The checkpoint, for messages.
    meta : dict
        The checkpoint's.

    Raises
    ------
    CheckpointError
        They differ; the text names both files and the setting.
    """
    trained, now = meta.get("settings"), bound_settings(run.config)
    if isinstance(trained, Mapping):
        settings = with_later_settings(trained)
        _compare(run, path, {name: settings[name] for name in settings if name not in _FREE}, now)
    digest, vocabulary = meta.get("vocabulary"), run.vocabulary()
    form = run.form() if run.config["dataset"] == "images" else None
    series = run.series() if run.config["dataset"] in SERIES else None
    if digest is None:
        return
    if series is not None and series.digest() != digest:
        raise CheckpointError(f"{path}: does not fit {run.series_path.name}: it was trained with another one")
    if vocabulary is not None and vocabulary_digest(**vocabulary) != digest:
        raise CheckpointError(
            f"{path}: does not fit {run.vocabulary_path.name}: it was trained with another vocabulary"
        )
    if form is not None and form_digest(form) != digest:
        raise CheckpointError(
            f"{path}: does not fit {run.form_path.name}: it was trained on images of another form"
        )


def check_described(run: Run, path: Path, meta: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Compare a model's description with the one in a checkpoint; raises as `check_belongs` does."""
    described = meta.get("model")
    if isinstance(described, Mapping):
        # A later version may describe more.
        _compare(run, path, {n: v for n, v in described.items() if n in model}, model)


def _compare(run: Run, path: Path, trained: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in trained.items():
        if name not in now or now[name] != value:
            raise CheckpointError(
                f"{path}: does not fit {run.config_path.name}: it was trained with {name} "
                f"{printable_json(value)}, not with {printable_json(now.get(name))}"
            )
