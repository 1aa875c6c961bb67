"""One step of a cell as a C function, and the weights in the order in which it reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lstm_numba.cells import display_name
from lstm_numba.cells.parameters import second_weight
from lstm_numba.errors import WeightsError
from lstm_numba.interop.c.writer import Array, Dialect, Translation, Translator
from lstm_numba.interop.files.gates import reorder_gates

#: Weights in the order of the function's parameters.
_ORDER = ("weight_ih", "weight_hh", "weight_2", "bias", "bias_2", "vectors")
#: Names in the function, beside those of the states.
_OWN = ("inputs", "input", "pre", "operand", "reused", "means", "u", *_ORDER)


class CCell:
    """The step of one layer, or one head of it.

    Parameters
    ----------
    cell : Cell
    dialect : Dialect
    units, projected : int
        Hidden units of the layer or head, and those of its first state: fewer only with a projection.
    bias : bool

    Attributes
    ----------
    states : list of str
        C names of the states.
    sizes : list of int
        Units of each state.
    work : dict of str to int
        Arrays that the function works with, and their sizes.
    calls : set of str
        Functions that the equations call.

    Raises
    ------
    WeightsError
        The cell has extras.
    """

    def __init__(self, cell: Any, dialect: Dialect, units: int, projected: int, bias: bool) -> None:
        if cell.extras:
            raise WeightsError(
                f"rnn: {display_name(cell)} takes extras ({cell.extras[0]}), which a step in C does not have"
            )
        self._cell, self._dialect, self._units, self._first = cell, dialect, units, projected
        self.bias = bias and cell.biased
        self.states = [f"state_{_plain(state, n)}" for n, state in enumerate(cell.states)]
        self.sizes = [projected, *[units] * (len(cell.states) - 1)]
        fed = [range(len(cell.input_gates)), *(range(s.first, s.first + len(s.gates)) for s in cell.stages)]
        self._slots = max(r.stop for r in fed)
        self.work = {"pre": self._slots * units}
        if cell.prepared or len(cell.stages) > 1:
            self.work["operand"] = units
        if sum(cell.reused):
            self.work["reused"] = sum(cell.reused) * units
        self._translator = Translator(dialect, self._place, (*_OWN, *self.states))
        self.calls: set[str] = set()

    def weights(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays of a layer or head, by the names of the function's parameters.

        Matrices are (columns, rows), their row blocks in the order of the slots; the biases that are added to
        the same slot before it is read are one.

        Parameters
        ----------
        params : mapping of str to ndarray
            Under PyTorch's names, without suffix.
        """
        cell, units = self._cell, self._units
        names = ("weight_hh", "weight_2")[: len(cell.stages)]
        found = {"weight_ih": reorder_gates(params["weight_ih"], cell.input_gates).T}
        for name, stage in zip(names, cell.stages, strict=True):
            blocks = cell.recurrent_gates if stage.weight == "weight_hh" else stage.gates
            found[name] = _blocks(params[stage.weight], stage.gates, len(blocks)).T
        if self.bias:
            bias = np.zeros((self._slots, units), params["bias_ih"].dtype)
            bias[: len(cell.input_gates)] += params["bias_ih"].reshape(-1, units)[list(cell.input_gates)]
            rows = params["bias_hh"].reshape(-1, units)
            first = cell.stages[0]
            bias[first.first : first.first + len(first.gates)] += rows[list(first.gates)]
            found["bias"] = bias
            if self._second_bias:
                found["bias_2"] = rows[list(cell.stages[1].gates)]
        if cell.peepholes:
            found["vectors"] = params["weight_ph"]
        return {name: np.ascontiguousarray(found[name]) for name in _ORDER if name in found}

    @property
    def _second_bias(self) -> bool:
        return self.bias and len(self._cell.stages) > 1 and not second_weight(self._cell)

    def _place(self, argument: str, n: int) -> str:
        """An element of an argument of the equations, for unit u."""
        cell, units = self._cell, self._units
        if argument == "slots":
            return _element("pre", n, units)
        if argument == "previous":
            if self.sizes[n] < units:
                return f"u < {self.sizes[n]} ? {self.states[n]}[u] : {self._dialect.number(0)}"
            return f"{self.states[n]}[u]"
        if n < len(cell.peepholes):
            return _element("vectors", n, units)
        n -= len(cell.peepholes)
        means = sum(map(len, cell.mean_levels))
        return f"means[{n}]" if n < means else _element("reused", n - means, units)

    def call(self, arrays: Mapping[str, str], inputs: str, x: str, states: list[str]) -> str:
        """A call of the function.

        Parameters
        ----------
        arrays : mapping of str to str
            What the weights are called.
        inputs, x : str
            Size of the input, and the input.
        states : list of str
        """
        work = [f"state->{name}" for name in self.work]
        given = [inputs, *(arrays[name] for name in _ORDER if name in arrays), x, *states, *work]
        return f"{self._dialect.prefix}_cell({', '.join(given)});"

    def function(self, names: Mapping[str, Any]) -> list[str]:
        """The function.

        Parameters
        ----------
        names : mapping
            Weights that a layer has.
        """
        t, prefix = self._dialect.type, self._dialect.prefix
        given = [f"const {t} *{name}" for name in _ORDER if name in names] + [f"const {t} *input"]
        changed = [f"{t} *{name}" for name in (*self.states, *self.work)]
        lines = [
            f"static inline void {prefix}_cell(",
            f"    int inputs, {', '.join(given)},",
            f"    {', '.join(changed)})",
            "{",
        ]
        return [*lines, *("    " + line for line in self._body()), "}"]

    def _body(self) -> Iterator[str]:
        cell, units = self._cell, self._units
        count = self._slots * units
        yield f"for (int n = 0; n < {count}; ++n)"
        yield f"    pre[n] = {'bias[n]' if self.bias else self._dialect.number(0)};"
        yield self._product(len(cell.input_gates) * units, "inputs", "weight_ih", "input", 0)
        operand = self.states[0]
        if cell.prepared:
            yield from self._loop(self._translated("prepare"), ["operand[u] = {};"])
            operand = "operand"
        stage = cell.stages[0]
        yield self._product(len(stage.gates) * units, str(self._first), "weight_hh", operand, stage.first)
        yield from self._means()
        for stage in cell.stages[1:]:
            yield from self._loop(self._translated("operand"), ["operand[u] = {};"])
            if self._second_bias:
                yield f"for (int n = 0; n < {len(stage.gates) * units}; ++n)"
                yield f"    pre[{stage.first * units} + n] += bias_2[n];"
            rows = self._first if cell.projected else units
            yield self._product(len(stage.gates) * rows, str(units), "weight_2", "operand", stage.first)
        targets = [
            f"if (u < {size}) {state}[u] = {{}};" if size < units else f"{state}[u] = {{}};"
            for state, size in zip(self.states, self.sizes, strict=True)
        ]
        yield from self._loop(self._translated("forward", 1), targets)

    def _translated(self, name: str, part: int | None = None) -> Translation:
        found = self._translator.translate(self._cell.texts[name], part)
        self.calls |= found.calls
        return found

    def _means(self) -> Iterator[str]:
        """Means over the units, group by group."""
        cell, units = self._cell, self._units
        count = sum(map(len, cell.mean_levels))
        if not count:
            return
        zero = self._dialect.number(0)
        yield f"{self._dialect.type} means[{count}] = {{{', '.join([zero] * count)}}};"
        first = kept = 0
        for level, (names, reused) in enumerate(zip(cell.mean_levels, cell.reused, strict=True)):
            places = range(first, first + len(names))
            targets = [f"means[{n}] += {{}};" for n in places]
            targets += [f"{_element('reused', n, units)} = {{}};" for n in range(kept, kept + reused)]
            yield from self._loop(self._translated(f"means_{level}"), targets)
            for n in places:
                yield f"means[{n}] /= {self._dialect.number(units)};"
            first, kept = first + len(names), kept + reused

    def _loop(self, found: Translation, targets: list[str]) -> Iterator[str]:
        """Equations at every unit, and what is done with their results."""
        yield f"for (int u = 0; u < {self._units}; ++u) {{"
        yield from ("    " + line for line in found.lines)
        # A result may be a previous state: all are read before any is written.
        for target, result in zip(targets, found.results, strict=True):
            yield "    " + target.format(result)
        yield "}"

    def _product(self, rows: int, columns: str, weight: str, operand: str, slot: int) -> str:
        where = f"pre + {slot * self._units}" if slot else "pre"
        return f"{self._dialect.prefix}_multiply({rows}, {columns}, {weight}, {operand}, {where});"


def _element(array: str, n: int, units: int) -> str:
    return f"{array}[{n * units} + u]" if n else f"{array}[u]"


def _blocks(array: Array, order: tuple[int, ...], count: int) -> Array:
    """Some of a matrix's row blocks, of which there are `count`."""
    blocks = np.split(array, count)
    return np.concatenate([blocks[n] for n in order])


def _plain(name: str, n: int) -> str:
    return name if name.isascii() and name.isidentifier() else str(n)
