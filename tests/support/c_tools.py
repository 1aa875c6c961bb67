"""Headers that `lstm_numba.save_c` wrote: compiled together, and fed step by step."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

#: As the README says that headers compile, and what else careful people ask for.
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-Wconversion", "-Wdouble-promotion")


class CompiledHeaders:
    """Some headers as one shared library.

    Parameters
    ----------
    folder : Path
        Where the headers are, and what is compiled goes.
    kinds : mapping of str to str
        Prefix, which is the file's stem, -> type of the first argument behind the state, ``const float *``.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, str]) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler")
        lines = []
        for name, kind in kinds.items():
            number = "double" if "double" in kind else "float"
            state = f"{name}_state *state"
            lines += [
                f'#include "{name}.h"',
                f"void run_init_{name}({state}); int run_size_{name}(void);",
                f"void run_{name}({state}, {kind} x, {number} *y);",
                f"void run_init_{name}({state}) {{ {name}_init(state); }}",
                f"void run_{name}({state}, {kind} x, {number} *y) {{ {name}_step(state, x, y); }}",
                f"int run_size_{name}(void) {{ return (int)sizeof({name}_state); }}",
            ]
        source = folder / f"run_{name}.c"  # a library is loaded once under one name
        source.write_text("\n".join(lines) + "\n")
        library = source.with_suffix(".so")
        command = [compiler, *FLAGS, "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
        self._library = ctypes.CDLL(str(library))

    def size(self, name: str) -> int:
        """Bytes of the state."""
        return int(self._library[f"run_size_{name}"]())

    def steps(self, name: str, x: Any, outputs: int, dtype: Any = np.float32) -> Any:
        """What every step gives: (T, outputs).

        Parameters
        ----------
        name : str
        x : ndarray (T, I), or (T,) of tokens
        outputs : int
        dtype : dtype
        """
        state = np.full(self.size(name), 0xA5, np.uint8)  # whatever was in memory
        pointer, found = ctypes.c_void_p, np.full((len(x), outputs + 1), 77, dtype)
        self._library[f"run_init_{name}"](pointer(state.ctypes.data))
        for step, y in zip(x, found, strict=True):
            given = ctypes.c_int(int(step)) if np.ndim(step) == 0 else pointer(step.ctypes.data)
            self._library[f"run_{name}"](pointer(state.ctypes.data), given, pointer(y.ctypes.data))
        assert (found[:, -1] == 77).all(), "wrote beyond the outputs"
        return found[:, :-1]

    def last(self, name: str, x: Any, outputs: int) -> Any:
        """What the last step gives where no other is asked: (outputs,)."""
        state, pointer = np.zeros(self.size(name), np.uint8), ctypes.c_void_p
        y = np.zeros(outputs, np.float32)
        self._library[f"run_init_{name}"](pointer(state.ctypes.data))
        for n, step in enumerate(x):
            target = pointer(y.ctypes.data if n == len(x) - 1 else None)
            self._library[f"run_{name}"](pointer(state.ctypes.data), pointer(step.ctypes.data), target)
        return y
