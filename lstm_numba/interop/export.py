"""Write whole models in the formats of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.keras import save_keras
from lstm_numba.interop.onnx_export import save_onnx
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.interop.weights_file import write_arrays

if TYPE_CHECKING:
    from lstm_numba.models.base import Model

#: Format -> suffix of its files.
ENDINGS = {"onnx": ".onnx", "torch": ".safetensors", "keras": ".npz", "npz": ".npz"}


def save_model(model: Model, kind: str, path: Path) -> int:
    """Write a model's weights.

    Parameters
    ----------
    model : Model
    kind : {"onnx", "torch", "keras", "npz"}
        "onnx" and "keras" hold the recurrent layers; "torch" (safetensors) and "npz" hold all parameters,
        named as in a PyTorch module with the submodules ``embedding``, ``rnn`` and ``output``.
    path : Path
        With the suffix in `ENDINGS`.

    Returns
    -------
    int
        Number of parameters written.

    Raises
    ------
    WeightsError
        The format has no such cell, or the file has another suffix.
    OSError
        The file cannot be written.
    """
    if path.suffix != ENDINGS[kind]:
        raise WeightsError(f"{path}: expected a name that ends in {ENDINGS[kind]} for {kind}")
    if kind in ("onnx", "keras"):
        (save_onnx if kind == "onnx" else save_keras)(model.rnn, path)
        return sum(array.size for array in model.rnn.params.values())
    arrays = {name: np.asarray(model.engine.download(array)) for name, array in model.params.items()}
    if "output.bias" in arrays and "output.weight" not in arrays:  # tied: PyTorch lists it under both names
        arrays["output.weight"] = arrays["embedding.weight"]
    write_arrays(path, arrays, cell_name(model.rnn))
    return model.parameter_count
