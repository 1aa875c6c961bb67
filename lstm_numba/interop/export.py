"""Write whole models in the formats of other libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_numba.errors import WeightsError
from lstm_numba.interop.c.export import save_c
from lstm_numba.interop.json_export import save_json
from lstm_numba.interop.keras import save_keras
from lstm_numba.interop.onnx.model_export import save_onnx
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.interop.weights_file import model_arrays, write_arrays
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.training.classification import ImageTask
from lstm_numba.training.language_modeling import TextTask
from lstm_numba.training.series import SeriesTask

if TYPE_CHECKING:
    from lstm_numba.models.base import Model
    from lstm_numba.training.series_description import SeriesDescription
    from lstm_numba.training.task import Task

#: Format -> suffix of its files.
ENDINGS = {
    "onnx": ".onnx",
    "c": ".h",
    "torch": ".safetensors",
    "keras": ".npz",
    "npz": ".npz",
    "json": ".json",
}
#: Formats that can have the recurrent layers alone or the whole model.
PARTIAL = ("onnx", "c")


def save_model(
    model: Model,
    kind: str,
    path: Path,
    *,
    layers_only: bool = False,
    lengths: bool = False,
    series: SeriesDescription | None = None,
    facts: Mapping[str, str] | None = None,
) -> int:
    """Write a model's weights.

    Parameters
    ----------
    model : Model
    kind : {"onnx", "c", "torch", "keras", "npz", "json"}
        "onnx" and "c" hold the whole model as something that runs; "torch" (safetensors) and "npz" all
        parameters, named as in a PyTorch module with the submodules ``embedding``, ``rnn`` and ``output``;
        "keras" the recurrent layers; "json" a model of sequences for GuitarML's programs.
    path : Path
        With the suffix in `ENDINGS`.
    layers_only : bool
        Only the recurrent layers, for the formats in `PARTIAL`.
    lengths, series, facts
        See `lstm_numba.save_onnx`; `lengths` for "onnx", the others for the formats in `PARTIAL`.

    Returns
    -------
    int
        Number of parameters written, a tied matrix counted once.

    Raises
    ------
    WeightsError
        The format has no such cell, or the file has another suffix.
    OSError
        The file cannot be written.
    """
    if path.suffix != ENDINGS[kind]:
        raise WeightsError(f"{path}: expected a name that ends in {ENDINGS[kind]} for {kind}")
    if kind in PARTIAL:
        options: dict[str, Any] = {} if layers_only else {"series": series, "facts": facts}
        saved = model.rnn if layers_only else model
        if kind == "onnx":
            return save_onnx(saved, path, lengths=lengths, **options)
        return save_c(saved, path, **options)
    if kind == "keras":
        save_keras(model.rnn, path)
        return sum(array.size for array in model.rnn.params.values())
    if kind == "json":
        if not isinstance(model, SequenceModel):
            raise WeightsError(
                "json: expected a model of sequences, got a language model, which no such program has"
            )
        save_json(model, path)
        return model.parameter_count
    write_arrays(path, model_arrays(model), cell_name(model.rnn))
    return model.parameter_count


def facts_of(task: Task) -> dict[str, str]:
    """What a user of an exported model must know of its inputs and outputs: JSON, by name."""
    found: dict[str, Any] = {}
    if isinstance(task, ImageTask):
        form = task.form
        found = {"view": task.config["data"].get("view", "rows"), "shape": form.shape}
        found |= {"mean": form.mean, "deviation": form.deviation, "classes": form.classes}
    elif isinstance(task, TextTask):
        found = {"level": task.corpus.level, "tokens": task.corpus.vocabulary}
    elif isinstance(task, SeriesTask):
        it = task.description
        found = {"features": it.features, "targets": it.targets, "classes": it.classes}
        found |= {"window": it.window, "horizon": it.horizon, "means": it.means}
        found["loss"] = task.config["data"]["loss"]
    return {f"lstm_numba.{name}": json.dumps(value, ensure_ascii=False) for name, value in found.items()}
