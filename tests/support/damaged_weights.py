"""Files of weights that are damaged or do not hold what they say."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.errors import UserError

State = dict[str, Any]


F4 = np.float32


#: What is done to the parameters of a bidirectional LSTM of two layers -> what the message says.
LIES: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (lambda s: s.pop("weight_ih_l1"), "weight_ih_l1 is missing"),
    "missing bias": (lambda s: s.pop("bias_hh_l1_reverse"), "bias_hh_l1_reverse is missing"),
    "missing first": (lambda s: s.pop("weight_hh_l0"), "weight_hh_l0 is missing|weight_hh_l0: "),
    "missing layer": (
        lambda s: [s.update({k.replace("_l1", "_l2"): s.pop(k)}) for k in list(s) if "_l1" in k],
        "layer 1 is missing, there is a layer 2",
    ),
    "far layer": (lambda s: s.update(weight_hh_l99999=s["weight_hh_l0"]), "layer 2 is missing"),
    "unknown": (lambda s: s.update(weight_xx_l0=s["weight_hh_l0"]), "weight_xx_l0: unknown name"),
    "projection": (lambda s: s.update(weight_hr_l0=s["weight_hh_l0"]), "weight_hr_l0: expected shape"),
    "extra gate": (lambda s: s.update(weight_hh_l0=np.zeros((25, 5), F4)), "1, 3 or 4 gates of 5"),
    "extra gate above": (
        lambda s: s.update(weight_hh_l1=np.zeros((25, 5), F4)),
        r"weight_hh_l1: expected shape \(20, 5\)",
    ),
    "part of a gate": (lambda s: s.update(weight_hh_l0=np.zeros((21, 5), F4)), "1, 3 or 4 gates"),
    "transposed": (lambda s: s.update(weight_ih_l0=s["weight_ih_l0"].T), "weight_ih_l0: expected shape"),
    "flat": (lambda s: s.update(weight_ih_l0=s["weight_ih_l0"].reshape(-1)), "expected a matrix"),
    "nothing": (lambda s: s.update(weight_hh_l0=np.zeros((20, 0), F4)), "expected a matrix"),
    "other width": (
        lambda s: s.update(weight_ih_l1=np.zeros((20, 5), F4)),
        r"weight_ih_l1: expected shape \(20, 10\)",
    ),
    "one peephole": (lambda s: s.update(weight_ph_l0=np.zeros(15, F4)), "weight_ph_l0_reverse is missing"),
    "integers": (lambda s: s.update(bias_ih_l0=np.zeros(20, np.int32)), "bias_ih_l0: expected float32"),
    "empty": (lambda s: s.clear(), "weight_ih_l0 is missing"),
}


def refused(path: Path, message: str, **options: Any) -> None:
    """Loading raises one line that names the file."""
    with pytest.raises(ValueError, match=message) as caught:
        ln.load_weights(path, **options)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def npz(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    """An archive of these members."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    """A ``.npy`` file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "executed")


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


def tensors(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
