"""What was read from a weights file, the same for every format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import one_line

Array = npt.NDArray[Any]

#: Largest file that is read, packed or not, in bytes.
LARGEST = 1 << 32


class Contents(NamedTuple):
    """The tensors in a file.

    Parameters
    ----------
    kind : str
        Format: "npz", "safetensors", "torch", "torchscript", "pickle", "keras" or "json".
    tensors : mapping of str to ndarray
        Under their names in the file; in nested dictionaries the names on the way, joined by dots. Formats
        that describe layers instead of naming tensors (Keras, RTNeural) come under PyTorch's names, with the
        layer's name before: ``gru.weight_ih_l0``, ``dense.weight``. float16 stays, bfloat16 is float32; a
        tensor of a type that NumPy lacks is a structured array of its name, which has no numbers.
    cells : mapping of str to str
        Cell, where the file says it, of the parameters with a prefix; "" for all of them.
    notes : tuple of str
        What a user must know to get the network's numbers, such as a layer that masks steps.
    around : mapping of str to str
        Layers of the network that change its numbers and are not recurrent, in their order -> their classes.
        The arrays of one begin with its name.
    """

    kind: str
    tensors: Mapping[str, Array]
    cells: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()
    around: Mapping[str, str] = {}

    def notes_beside(self, used: Collection[str]) -> tuple[str, ...]:
        """The notes for someone who uses the tensors `used`, with the layers that have none of them."""
        left = [
            f"{name} ({kind})"
            for name, kind in self.around.items()
            if not any(tensor.startswith(f"{name}.") for tensor in used)
        ]
        more = f"the network has other layers, which are not read and change its numbers: {listed(left)}"
        return (*self.notes, more) if left else self.notes


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names from a file in one line."""
    shown = [one_line(name, 80) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def unreadable(dtype: str, shape: tuple[int, ...]) -> Array:
    """Stands for a tensor of a type that NumPy lacks; takes no memory."""
    return np.broadcast_to(np.zeros((), [(dtype, "V1")]), shape)
