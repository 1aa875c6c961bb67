"""Writes parameters under PyTorch's names to ``.npz`` and ``.safetensors`` files.

The cell's name, which the shapes do not always determine, is stored in the safetensors metadata or the
archive's comment, which other readers ignore.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lstm_numba.data.file_io import atomic_write
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.safetensors_file import CELL_KEY
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.models.base import Model
from lstm_numba.nn.recurrent import Recurrent


def save_weights(rnn: Recurrent | Model, path: str | os.PathLike[str]) -> None:
    """Write a layer's or a model's parameters under PyTorch's names.

    They can be loaded as the ``state_dict`` of a PyTorch ``LSTM``, ``GRU`` or ``RNN`` of the same sizes; a
    model's as that of a module with one of these as ``rnn``, a ``Linear`` as ``output`` and, of a language
    model, an ``Embedding`` as ``embedding``. ``load_weights(path, head="output")`` reads models of sequences.

    Parameters
    ----------
    rnn : Recurrent or Model
        Of a tied matrix the file has both names.
    path : path
        ``.npz`` or ``.safetensors``; an existing file is replaced atomically.

    Raises
    ------
    WeightsError
        The file has another suffix, or no format has the cell.
    TypeError, ValueError
        It is neither layer nor model, or there are many models.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import lstm_numba as ln
    >>> path = os.path.join(tempfile.mkdtemp(), "rnn.safetensors")
    >>> ln.save_weights(ln.LSTM(3, 4, seed=0), path)
    >>> ln.load_weights(path)
    LSTM(3, 4, dtype=float32)
    """
    cell = cell_name(rnn.rnn if isinstance(rnn, Model) else rnn, weights_only=True)
    arrays = model_arrays(rnn) if isinstance(rnn, Model) else rnn.state_dict()
    write_arrays(Path(path), arrays, cell)


def model_arrays(model: Model) -> dict[str, Array]:
    """All parameters of a model by PyTorch's names; a tied matrix under both of its names, as there.

    Raises
    ------
    ValueError
        There are many models.
    """
    if model.models:
        raise ValueError(f"model: expected one model, got models={model.models}; model(n) is one of them")
    arrays = {name: np.asarray(model.engine.download(array)) for name, array in model.params.items()}
    if "output.bias" in arrays and "output.weight" not in arrays:
        arrays["output.weight"] = arrays["embedding.weight"]
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, Array], cell: str | None = None) -> None:
    """Write arrays, and optionally a cell's name, to an ``.npz`` or ``.safetensors`` file, reproducibly.

    Raises
    ------
    WeightsError
        The file has another suffix.
    OSError
        The file cannot be written.
    """
    if path.suffix not in (".npz", ".safetensors"):
        raise WeightsError(f"{path}: expected a name that ends in .npz or .safetensors")
    ordered = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        content = save(ordered, metadata=None if cell is None else {CELL_KEY: cell})
    else:
        content = _npz(ordered, cell)
    atomic_write(path, content)


def _npz(arrays: Mapping[str, Array], cell: str | None) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name + ".npy"), member.getvalue())
        if cell is not None:
            archive.comment = json.dumps({CELL_KEY: cell}).encode()
    return memory.getvalue()
