"""Parameters under PyTorch's names in ``.npz`` and ``.safetensors`` files.

Neither can execute code: an ``.npz`` is a zip archive of arrays (numpy.lib.format), read without pickle;
safetensors: github.com/huggingface/safetensors. The cell's name, which the shapes do not always determine, is
stored in the safetensors metadata or the archive's comment, which other readers ignore.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.cells import find_cell
from lstm_numba.data.file_io import atomic_write, one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.files.safetensors_file import CELL_KEY
from lstm_numba.interop.state_dict import build, cell_name
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.training.settings import is_own_cell


def save_weights(rnn: Recurrent, path: str | os.PathLike[str]) -> None:
    """Write a layer's parameters under PyTorch's names.

    They can be loaded as the ``state_dict`` of a PyTorch ``LSTM``, ``GRU`` or ``RNN`` of the same sizes.

    Parameters
    ----------
    rnn : Recurrent
    path : path
        ``.npz`` or ``.safetensors``; an existing file is replaced atomically.

    Raises
    ------
    WeightsError
        The file has another suffix.
    OSError
        The file cannot be written.
    """
    write_arrays(Path(path), rnn.state_dict(), cell_name(rnn, weights_only=True))


def load_weights(
    path: str | os.PathLike[str], *, cell: str | None = None, prefix: str | None = None, **options: Any
) -> Recurrent:
    """Make a layer from a file of parameters under PyTorch's names.

    Parameters
    ----------
    path : path
        An ``.npz`` or ``.safetensors`` file of `save_weights`, or of PyTorch's ``state_dict``.
    cell : str, optional
        Cell, as `lstm_numba.nn.layers.make_layer` takes it; by default the one that the file names, else
        PyTorch's for the number of gates: RNN with tanh, GRU with reset after the product, LSTM.
    prefix : str, optional
        Prefix of the names, such as ``"rnn."``; other parameters are skipped. By default the only prefix of
        recurrent parameters in the file, if any.
    **options
        ``batch_first``, ``dropout``, ``device``, ``seed`` of the layer.

    Returns
    -------
    Recurrent
        `LSTM`, `GRU`, `RNN` or `PeepholeLSTM` with exactly these weights.

    Raises
    ------
    WeightsError
        The file is missing, damaged or holds something else; the message names it.
    """
    contents = read_contents(path)
    params = select_prefix(contents.tensors, prefix, str(path))
    return build(params, str(path), cell or known_cell(path, contents.cells.get("")), **options)


def select_prefix(tensors: Mapping[str, Array], prefix: str | None, where: str) -> dict[str, Array]:
    """The tensors whose names have a prefix (None: that of `find_prefix`), under the rest of their names."""
    prefix = find_prefix(tensors, where) if prefix is None else prefix
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}


def find_prefix(names: Iterable[str], where: str) -> str:
    """The prefix of the recurrent parameters' names: ``rnn.`` of ``rnn.weight_hh_l0``; else ``""``.

    Raises
    ------
    WeightsError
        There are several.
    """
    found = {name[: name.index("weight_hh_l")] for name in names if "weight_hh_l" in name}
    if len(found) > 1:
        raise WeightsError(f"{where}: prefix: expected one of {sorted(found)}, got none")
    return found.pop() if found else ""


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


def known_cell(path: str | os.PathLike[str], name: Any) -> str | None:
    """Check the cell name of a file, None if it has none.

    Raises
    ------
    WeightsError
        There is no such cell.
    """
    if name is None:
        return None
    try:
        find_cell(name)
    except (TypeError, ValueError) as error:
        if isinstance(name, str) and "," in name:
            raise WeightsError(f"{path}: {one_line(error, 120)}") from None
    else:
        return str(name)
    hint = f"; import its module first (--cell {name} in a command)" if is_own_cell(name) else ""
    raise WeightsError(f"{path}: of a cell {one_line(name, 120)!r}, which is unknown here{hint}")
