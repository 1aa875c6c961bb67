"""Whole models, as runs train them, in the formats of other programs."""

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

#: Format -> how its files' names end.
ENDINGS = {"onnx": ".onnx", "torch": ".safetensors", "keras": ".npz", "npz": ".npz"}


def save_model(model: Model, kind: str, path: Path) -> int:
    """Write a model's weights.

    Parameters
    ----------
    model : Model
    kind : {"onnx", "torch", "keras", "npz"}
        "onnx" and "keras" hold the recurrent layers; "torch" (safetensors) and "npz" hold all parameters
        under the names that a PyTorch module with the parts ``embedding``, ``rnn`` and ``output`` has.
    path : Path
        Ending as `ENDINGS` says.

    Returns
    -------
    int
        Number of parameters written.

    Raises
    ------
    WeightsError
        The format cannot say the model's cell, or the name has another ending.
    OSError
        The file system refuses.
    """
    if path.suffix != ENDINGS[kind]:
        raise WeightsError(f"{path}: expected a name that ends in {ENDINGS[kind]} for {kind}")
    if kind in ("onnx", "keras"):
        (save_onnx if kind == "onnx" else save_keras)(model.rnn, path)
        return sum(array.size for array in model.rnn.params.values())
    arrays = {name: np.asarray(model.engine.download(array)) for name, array in model.params.items()}
    if "output.bias" in arrays and "output.weight" not in arrays:  # tied: PyTorch names it twice
        arrays["output.weight"] = arrays["embedding.weight"]
    write_arrays(path, arrays, cell_name(model.rnn))
    return model.parameter_count
