"""Numba's cache on disk and cells of a user's own, each run in a process of its own.

What must hold: a second process compiles nothing; equations that were edited, and helpers and constants far
from them, are never answered by old machine code; a process that cannot import a cell's module reads the
cache that knows it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lstm_numba.cells import numba_classes
from lstm_numba.examples.janet import JANET

CELL = """
import lstm_numba as ln
import helpers
from helpers import bent

{comment}
@ln.register_cell
class Own:
    gates, states = ("a",), ("h",)

    def forward(self, z, v):
        return {{"h": {factor} * bent(z.a) + helpers.SHIFT}}
"""
HELPERS = """
SHIFT = 0.25
SLOPE = {slope}

def bent(x):
    return SLOPE * x
"""
PROGRAM = """
import numpy as np
import lstm_numba as ln
{imports}
from numba.core import event

class Heard(event.Listener):
    compiled = []
    def on_start(self, event):
        self.compiled.append(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass

with event.install_listener("numba:compile", Heard()):
    layer = {layer}(1, 1, bias=False, dtype=np.float64, seed=0)
    layer.params["weight_ih_l0"][...] = 1
    y, _, tape = layer.forward(np.ones((1, 1, 1)))
    dx, _, _ = layer.backward(tape, np.ones((1, 1, 1)))
print(len(Heard.compiled), float(y[0, 0, 0]), float(dx[0, 0, 0]))
"""


class Run(NamedTuple):
    """What a process said."""

    compiled: int
    y: float
    dx: float


class Workplace:
    """A folder with a cell's module, a helper's, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write()

    def write(self, factor: float = 2.0, slope: float = 3.0, comment: str = "") -> None:
        """The two modules."""
        (self.folder / "own.py").write_text(CELL.format(factor=factor, comment=comment))
        (self.folder / "helpers.py").write_text(HELPERS.format(slope=slope))

    def run(self, layer: str = "own.Own", imports: str = "import own") -> Run:
        """A process that computes one step."""
        environment = {
            **os.environ,
            "NUMBA_CACHE_DIR": str(self.folder / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",  # two writes within a second look the same to Python
            "NUMBA_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(layer=layer, imports=imports)],
            cwd=self.folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        compiled, y, dx = done.stdout.split()
        return Run(int(compiled), float(y), float(dx))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("own"))


def test_a_second_process_compiles_nothing_and_an_edited_cell_is_compiled_anew(place: Workplace) -> None:
    first, again = place.run(), place.run()
    assert first.compiled > 0
    assert again == (0, 2 * 3 + 0.25, 6.0)
    place.write(comment="# The same equations,\n# further down.")
    assert place.run() == again
    for changed, y, dx in (
        ({"factor": 5.0}, 5 * 3 + 0.25, 15.0),
        ({"slope": 4.0}, 2 * 4 + 0.25, 8.0),  # a constant that a function in another module uses
    ):
        place.write(**changed)
        found = place.run()
        assert found.compiled > 0, changed
        assert found[1:] == (y, dx), changed
    place.write()
    assert place.run() == again  # what was compiled before serves again


TYPED = """
exec('''
__name__ = 'a_module_that_is_none'
@ln.register_cell
class Typed:
    gates, states = ('a',), ('h',)
    def forward(self, z, v): return {'h': 2 * z.a}
''')
"""


def test_a_process_without_the_module_uses_the_same_cache(place: Workplace) -> None:
    """Its own cell is typed into an interpreter and has no file at all."""
    place.write()
    place.run()
    (place.folder / "own.py").unlink()
    try:
        first = place.run("Typed", imports=TYPED)
        assert first.compiled > 0
        assert first[1:] == (2.0, 2.0)
        assert place.run("Typed", imports=TYPED) == (0, 2.0, 2.0)
    finally:
        place.write()
    # Nor does what that process wrote spoil anything for one that has the module.
    assert place.run() == (0, 6.25, 6.0)


def test_types_are_pickled_by_name_and_found_again() -> None:
    kind = type(JANET.cell)
    assert pickle.loads(pickle.dumps(kind)) is kind
    unknown = numba_classes.Foreign_0123456789abcdef
    assert unknown is numba_classes.Foreign_0123456789abcdef
    assert pickle.loads(pickle.dumps(unknown)) is unknown
    for name in ("Foreign", "Foreign_012", "Foreign_0123456789abcdeg", "__path__"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(numba_classes, name)
