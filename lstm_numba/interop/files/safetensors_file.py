"""Safetensors files: github.com/huggingface/safetensors."""

from __future__ import annotations

import json

import numpy as np

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array, Contents, unreadable
from lstm_numba.interop.files.numbers import from_bfloat16

#: Key of the metadata that names the cell.
CELL_KEY = "lstm_numba.cell"
#: Safetensors dtype -> NumPy dtype.
_TYPES = {"BOOL": "?"} | {
    f"{kind}{8 * size}": f"<{letter}{size}"
    for kind, letter, sizes in (("F", "f", (2, 4, 8)), ("I", "i", (1, 2, 4, 8)), ("U", "u", (1, 2, 4, 8)))
    for size in sizes
}


def read_safetensors(content: bytes) -> Contents:
    """Read a safetensors file.

    Raises
    ------
    WeightsError
        It is damaged.
    """
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(content)
    except SafetensorError as error:
        raise WeightsError(f"damaged ({one_line(error, 120)})") from None
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    cell = metadata.get(CELL_KEY)
    return Contents(
        "safetensors",
        {name: _tensor(**tensor) for name, tensor in found},
        {} if cell is None else {"": cell},
    )


def _tensor(dtype: str, shape: list[int], data: bytes) -> Array:
    if dtype == "BF16":
        return from_bfloat16(np.frombuffer(data, "<u2")).reshape(shape)
    if dtype in _TYPES:
        return np.frombuffer(data, _TYPES[dtype]).reshape(shape)
    return unreadable(dtype, tuple(shape))
