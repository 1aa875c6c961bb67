"""One layer and direction on an engine, without a layer around it: wrapped cells and their extras."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tolerances import assert_close

from lstm_numba.cells import find_cell
from lstm_numba.cells.parameters import parameter_names, parameter_shape
from lstm_numba.cells.wrappers import wrap
from lstm_numba.engines import engine

STEPS, INPUTS, HIDDEN = 4, 3, 5
#: Enough rows for two tiles of four, some of which end early, and one that is empty.
LENGTHS = (4, 0, 1, 2, 4, 3)


def with_everything(name: str, resets: str = "") -> Any:
    """A cell with masks of its states, recurrent products and candidate, and with resets."""
    cell = find_cell(name)
    resets = resets or ("zeros" if cell.projected else "initial")
    masks = (True,) * len(cell.states)
    return wrap(cell, zoneout_masks=masks, recurrent_mask=True, candidate_mask=True, resets=resets)


class EngineProblem:
    """Random parameters, states, input, gradients and extras of one layer and direction.

    Extras have in turn all shapes that an engine takes. They are no masks but any numbers, so that nothing is
    multiplied by 0 or 1 without being seen; NaN after a row's end.

    Parameters
    ----------
    cell : Cell
    lengths : tuple of int, optional
    reverse : bool
    first : int
        Which shape the first extra has.
    output : int
        Units of h.
    dtype : dtype
    batch : int
    models : int
        If it is not 0, every array but each second extra has a leading axis of so many.
    """

    def __init__(
        self,
        cell: Any,
        lengths: tuple[int, ...] | None = None,
        reverse: bool = False,
        first: int = 0,
        output: int = HIDDEN,
        dtype: Any = np.float64,
        batch: int = len(LENGTHS),
        models: int = 0,
    ) -> None:
        self._rng, self._dtype = np.random.default_rng(2), dtype
        self.models = models
        self.cell, self.reverse, self.batch, self.output = cell, reverse, batch, output
        self.lengths = None if lengths is None else np.array(lengths)
        self.params = {
            name: self._draw(*parameter_shape(cell, name, INPUTS, HIDDEN, output))
            for name in parameter_names(cell, True)
        }
        self.x, self.dy = self._draw(STEPS, batch, INPUTS), self._draw(STEPS, batch, output)
        units = [output, *[HIDDEN] * (len(cell.states) - 1)]
        self.states, self.dstates = ([self._draw(2, batch, n) for n in units] for _ in range(2))
        self.extras = self._extras(first)

    def _draw(self, *shape: int, shared: bool = False) -> npt.NDArray[Any]:
        lead = (self.models,) if self.models and not shared else ()
        return self._rng.uniform(-1, 1, (*lead, *shape)).astype(self._dtype)

    def _extras(self, first: int) -> list[npt.NDArray[Any]]:
        extras = []
        shapes = [(STEPS, self.batch), (1, self.batch), (STEPS, 1), (1, 1)]
        of_h = ("recurrent_mask", f"update_{self.cell.states[0]}")
        for n, (name, of_unit) in enumerate(zip(self.cell.extras, self.cell.extra_units, strict=True), first):
            units = (self.output if name in of_h else HIDDEN) if of_unit else 1
            array = 0.7 + 0.5 * self._draw(*shapes[n % 4], units, shared=n % 2 == 1)
            if n % 4 == 0 and self.lengths is not None:
                array[..., np.arange(STEPS)[:, None] >= self.lengths, :] = np.nan
            extras.append(array)
        return extras

    def run(self, device: str) -> dict[str, npt.NDArray[Any]]:
        """Outputs and gradients by name, from the engine of a device."""
        return self.run_on(engine(device))

    def run_on(self, used: Any) -> dict[str, npt.NDArray[Any]]:
        """The same from an engine."""
        params = {name: used.upload(array) for name, array in self.params.items()}
        states, dstates, extras = (
            list(map(used.upload, arrays)) for arrays in (self.states, self.dstates, self.extras)
        )
        x, ends = used.upload(self.x), used.lengths(self.lengths)
        found: dict[str, Any] = {}
        saved = None
        for keep in (False, True):
            finals = [used.zeros(state.shape, self._dtype) for state in self.states]
            output, saved = used.forward(
                self.cell, params, x, states, finals, 1, ends, self.reverse, keep, extras=extras,
                models=self.models,
            )  # fmt: skip
            found[f"forward: y, keep={keep}"] = used.join([output], ends, self.dy.shape)
            found.update({f"forward: final state {n}, keep={keep}": array for n, array in enumerate(finals)})
        initial = [used.zeros(state.shape, self._dtype) for state in self.states]
        dx, grads = used.backward(saved, used.upload(self.dy), 0, dstates, initial, 1, None)
        found |= {"backward: x": dx, **{f"backward: {name}": grad for name, grad in grads.items()}}
        found.update({f"backward: initial state {n}": array for n, array in enumerate(initial)})
        return {name: np.array(used.download(array)) for name, array in found.items()}


def compare_devices(problem: EngineProblem, other: Any = None) -> None:
    """Everything is the same on CUDA, or on another engine, as on the CPU."""
    expected, got = problem.run("cpu"), problem.run_on(other or engine("cuda"))
    for name, array in expected.items():
        assert_close(got[name], array, name.partition(":")[0], name)
