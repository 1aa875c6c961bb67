"""NumPy's ``.npz`` archives; a cell is named in the archive's comment, which other readers ignore."""

from __future__ import annotations

import json

from lstm_numba.data.file_io import one_line
from lstm_numba.data.npz import NpzError, read_npz
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Contents
from lstm_numba.interop.files.safetensors_file import CELL_KEY


def read_npz_file(content: bytes) -> Contents:
    """Read an ``.npz`` archive.

    Raises
    ------
    WeightsError
        It is damaged, or holds something else than arrays of numbers.
    """
    try:
        arrays, comment = read_npz(content, LARGEST)
    except NpzError as error:
        raise WeightsError(str(error)) from None
    try:
        cell = json.loads(comment).get(CELL_KEY) if comment.startswith(b'{"' + CELL_KEY.encode()) else None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the archive's comment: damaged ({one_line(error, 120)})") from None
    return Contents("npz", arrays, {} if cell is None else {"": cell})
