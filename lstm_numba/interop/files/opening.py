"""Opens a weights file of any format."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from lstm_numba.data.file_io import one_line, read_file
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Contents

_FILES = "lstm_numba.interop.files"
#: Suffix -> module and function that read such a file's bytes.
READERS = {
    ".npz": ("npz_file", "read_npz_file"),
    ".safetensors": ("safetensors_file", "read_safetensors"),
    **dict.fromkeys(
        (".pt", ".pth", ".bin", ".ckpt", ".jit", ".pkl", ".pickle"), ("torch_file", "read_torch_file")
    ),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), ("keras.file", "read_keras_file")),
    ".json": ("json_file", "read_json_file"),
}
#: Undocumented exceptions of the libraries' readers on damaged files.
_FAULTS = (
    ValueError, LookupError, ArithmeticError, TypeError, AttributeError, SyntaxError, RecursionError,
)  # fmt: skip


def read_contents(path: str | os.PathLike[str]) -> Contents:
    """Read the tensors of a weights file; its suffix tells the format.

    Nothing in the file is executed, and no other file is read.

    Parameters
    ----------
    path : path

    Raises
    ------
    WeightsError
        The file is missing, damaged or something else, or its format needs a package that is not installed;
        the message names the file.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise WeightsError(f"{path}: expected a name that ends in {', '.join(READERS)}, .onnx")
    module, function = READERS[path.suffix.lower()]
    content = read_file(path, LARGEST, WeightsError)
    read = getattr(import_module(f"{_FILES}.{module}"), function)
    try:
        contents: Contents = read(content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except _FAULTS as error:
        raise WeightsError(f"{path}: damaged ({one_line(error, 120)})") from None
    return contents
