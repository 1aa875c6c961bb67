"""Checks that a cell's backward pass is the derivative of its forward pass.

First the equations of one hidden unit, as plain Python in float64, so that an error is reported in terms of
the cell, such as "gate f". Then a small network on the production kernels, through time, layers, directions
and sequences of different lengths: gradients of all parameters, the input and the initial state.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.cells import display_name, evaluate, find_cell
from lstm_numba.cells.evaluate import Gradients, Point
from lstm_numba.errors import CellError, GradientError
from lstm_numba.nn.recurrent import Recurrent

Array = npt.NDArray[Any]

#: Step of the central differences, for numbers of order 1. After extrapolation their error is near 1e-12.
_STEP = 1e-4
#: Relative differences above which there is a kink: of two estimates of a slope, of its left and right side.
_AGREE, _SIDES = 1e-6, 1e-2
#: Number of points for the equations, and of random directions for each variable of the network.
_POINTS, _DIRECTIONS = 24, 3


class Entry(NamedTuple):
    """The largest error of one quantity.

    Attributes
    ----------
    quantity : str
        Such as "gate f" or "weight_hh_l0".
    analytic, numeric : float
        Gradient from the backward pass, and central difference.
    """

    quantity: str
    analytic: float
    numeric: float

    @property
    def error(self) -> float:
        """Absolute difference."""
        return abs(self.analytic - self.numeric)

    @property
    def relative(self) -> float:
        """Error divided by the larger of the two, or by 1 if they are smaller."""
        return self.error / max(1.0, abs(self.analytic), abs(self.numeric))


class Report(NamedTuple):
    """Result of `check_gradients`: the largest error of each quantity; prints as a table.

    Attributes
    ----------
    cell : str
    unit : tuple of Entry
        The equations of one unit.
    layer : tuple of Entry
        The whole network, on the kernels of `device`.
    device : str
    """

    cell: str
    unit: tuple[Entry, ...]
    layer: tuple[Entry, ...]
    device: str

    def __str__(self) -> str:
        lines = [f"{self.cell}: backward is the derivative of forward"]
        for heading, entries in (("one unit", self.unit), (f"network on {self.device}", self.layer)):
            width = max(len(entry.quantity) for entry in entries)
            lines.append(f"{heading}, largest relative errors:")
            lines += [f"  {entry.quantity:<{width}}  {entry.relative:.1e}" for entry in entries]
        return "\n".join(lines)


def check_gradients(cell: Any, *, device: str = "cpu", seed: int = 0, tolerance: float = 1e-6) -> Report:
    """Compare a cell's backward pass with central differences of its forward pass, in float64.

    Points where the forward pass is not differentiable, as relu at zero, are skipped.

    Parameters
    ----------
    cell : layer class, layer, Cell or str
        A result of `register_cell`, one of the library's, or a name for
        `lstm_numba.nn.layers.make_layer`.
    device : {"cpu", "cuda"}
        Device of the network.
    seed : int
        Seed of the random points.
    tolerance : float
        Largest accepted error, see `Entry.relative`.

    Returns
    -------
    Report

    Raises
    ------
    GradientError
        A gradient is wrong; the message gives cell, method, quantity, both numbers and the error.
    TypeError, ValueError
        `cell` is none of these, or `tolerance` is out of range.
    """
    found = cell_of(cell)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    rng = np.random.default_rng(seed)
    unit = _check_unit(found, rng, tolerance)
    return Report(display_name(found), unit, _check_layer(found, rng, tolerance, device), device)


def cell_of(argument: Any) -> Any:
    """The cell of `check_gradients`' argument."""
    if isinstance(argument, str):
        return find_cell(argument)
    if isinstance(argument, type) and issubclass(argument, Recurrent):
        layer_class: Any = argument
        argument = layer_class.cell if hasattr(layer_class, "cell") else layer_class(1, 1)
    if hasattr(argument, "periods"):
        raise TypeError("cell: the groups of a ClockworkRNN are of the cell rnn, which can be checked")
    cell = argument.cell if isinstance(argument, Recurrent) else argument
    if isinstance(cell, type) or not all(hasattr(cell, name) for name in ("gates", "stages", "backward")):
        raise TypeError(
            f"cell: expected a layer class, a layer, a cell or its name, got {argument!r}"
            + ("; register it with ln.register_cell" if isinstance(argument, type) else "")
        )
    return cell


# -- one unit ----------------------------------------------------------------------------------------


class _Quantity(NamedTuple):
    """A number that the equations depend on: its field and position in a `Point`, and its name."""

    field: int
    position: int
    name: str


def _quantities(cell: Any) -> list[_Quantity]:
    """All quantities; not slots that no product feeds, which only carry values to backward."""
    fed = {*range(len(cell.input_gates))}
    for stage in cell.stages:
        fed |= {*range(stage.first, stage.first + len(stage.gates))}
    slots = [_Quantity(0, slot, f"gate {cell.slots[slot]}") for slot in sorted(fed)]
    previous = [_Quantity(1, n, f"previous state {name}") for n, name in enumerate(cell.states)]
    peepholes = [_Quantity(2, n, f"vector {name}") for n, name in enumerate(cell.peepholes)]
    first, names = len(cell.peepholes) + len(cell.extras), itertools.chain.from_iterable(cell.mean_levels)
    means = [_Quantity(2, first + n, f"mean {name}") for n, name in enumerate(names)]
    return slots + previous + peepholes + means


class _Trial(NamedTuple):
    """A loss, and the method that it tests.

    The loss is the states, and behind them what a unit adds to means, weighted by `states`, plus the operands
    of the second and of the first product, if that is prepared, weighted by `operand` and `prepared`.
    """

    method: str
    states: tuple[float, ...]
    operand: float
    prepared: float = 0.0


def _check_unit(cell: Any, rng: np.random.Generator, tolerance: float) -> tuple[Entry, ...]:
    quantities = _quantities(cell)
    worst: dict[str, Entry] = {}
    for n in range(_POINTS):
        # Small numbers, where small errors show, and large ones, where gates saturate.
        width = (0.5, 1.0, 2.0)[n % 3]
        point = evaluate.draw(cell, partial(_normal, rng, width))
        for trial in _trials(cell, rng):
            analytic = _analytic(cell, point, trial)
            for quantity in quantities:
                numeric = _slope(partial(_moved_loss, cell, point, trial, quantity))
                if numeric is None:
                    continue
                entry = Entry(quantity.name, analytic[quantity.field][quantity.position], numeric)
                if not entry.relative <= tolerance:  # NaN is not
                    _raise_error(cell, trial, entry)
                if entry.relative >= worst.get(entry.quantity, Entry("", 0, 0)).relative:
                    worst[entry.quantity] = entry
    for quantity in quantities:
        if quantity.name not in worst:
            raise GradientError(
                f"{display_name(cell)}: {quantity.name}: forward has a kink at every point that was tried"
            )
    return tuple(worst[quantity.name] for quantity in quantities)


def _normal(rng: np.random.Generator, width: float) -> float:
    return float(rng.normal(0.0, width))


def _trials(cell: Any, rng: np.random.Generator) -> Iterator[_Trial]:
    """Every state alone, so that errors cannot cancel; then all together."""
    count = len(cell.states) + evaluate.mean_count(cell)
    for n in range(count):
        yield _Trial("backward", tuple(float(k == n) for k in range(count)), 0.0)
    weights = tuple(float(w) for w in rng.standard_normal(count))
    yield _Trial("backward", weights, 0.0)
    if len(cell.stages) > 1:
        yield _Trial("operand_backward", (0.0,) * count, 1.0)
        yield _Trial("operand_backward", weights, float(rng.standard_normal()))
    if cell.prepared:
        yield _Trial("prepare_backward", (0.0,) * count, 0.0, 1.0)


def _loss(cell: Any, point: Point, trial: _Trial) -> float:
    outputs = (*evaluate.forward(cell, point)[1], *evaluate.contributions(cell, point))
    total = sum(w * s for w, s in zip(trial.states, outputs, strict=True))
    total += trial.prepared * evaluate.prepare(cell, point) if trial.prepared else 0.0
    return total + (trial.operand * evaluate.operand(cell, point) if trial.operand else 0.0)


def _moved_loss(cell: Any, point: Point, trial: _Trial, quantity: _Quantity, step: float) -> float:
    """The loss with one number of the point changed by `step`."""
    fields = [list(field) for field in point]
    fields[quantity.field][quantity.position] += step
    try:
        loss = _loss(cell, Point(*map(tuple, fields)), trial)
    except (ArithmeticError, ValueError) as error:
        raise GradientError(f"{display_name(cell)}: forward fails at {point}: {error}") from None
    if not math.isfinite(loss):
        raise GradientError(f"{display_name(cell)}: forward gives {loss} at {point}")
    return loss


def _analytic(cell: Any, point: Point, trial: _Trial) -> Gradients:
    try:
        found = evaluate.backward(cell, point, trial.states)
        if trial.prepared:
            added = evaluate.prepare_backward(cell, point, trial.prepared)
            found = found._replace(previous=tuple(map(operator.add, found.previous, added)))
        if len(cell.stages) == 1:
            return found
        after = evaluate.operand_backward(cell, point, found, trial.operand)
    except (ArithmeticError, ValueError) as error:
        raise GradientError(f"{display_name(cell)}: {trial.method} fails at {point}: {error}") from None
    # The engine needs the second stage's gradients to compute the operand's: they must not change.
    second = cell.stages[1]
    for slot in range(second.first, second.first + len(second.gates)):
        if not math.isclose(found.slots[slot], after.slots[slot], rel_tol=1e-12, abs_tol=1e-300):
            raise GradientError(
                f"{display_name(cell)}.operand_backward: changes the gradient of slot {cell.slots[slot]}, "
                f"which the second product feeds, from {found.slots[slot]!r} to {after.slots[slot]!r}"
            )
    return after


def _slope(loss: Callable[[float], float]) -> float | None:
    """Derivative at zero by Richardson extrapolation of central differences; None at a kink."""
    center, right, left = loss(0.0), loss(_STEP), loss(-_STEP)
    coarse = (right - left) / (2 * _STEP)
    fine = (loss(_STEP / 2) - loss(-_STEP / 2)) / _STEP
    scale = max(1.0, abs(fine))
    sides = abs(right - 2 * center + left) / _STEP
    if abs(fine - coarse) > _AGREE * scale or sides > _SIDES * scale:
        return None
    return (4 * fine - coarse) / 3


def _raise_error(cell: Any, trial: _Trial, entry: Entry) -> None:
    """Raise a GradientError that names the quantity and the states of the trial's loss."""
    names = [name for name, weight in zip(cell.states, trial.states, strict=False) if weight]
    of = [f"state {name}" for name in names] + (["the operand"] if trial.operand else [])
    raise GradientError(
        f"{display_name(cell)}.{trial.method}: {entry.quantity}: the gradient of {' and '.join(of)} is "
        f"{entry.analytic:.9g}, central differences give {entry.numeric:.9g} "
        f"(error {entry.error:.1e}, relative {entry.relative:.1e})"
    )


# -- a network ---------------------------------------------------------------------------------------


class _Network:
    """A small bidirectional two-layer network, with all variables that its loss depends on."""

    def __init__(self, cell: Any, rng: np.random.Generator, device: str) -> None:
        steps, batch, inputs = 3, 3, 2
        # Two units that are normalised would be 1 and -1.
        hidden, projected = (5, 0) if cell.mean_levels else (3, 2) if cell.projected else (2, 0)
        self.layer = Recurrent(
            cell, inputs, hidden, 2, bidirectional=True, proj_size=projected, dtype=np.float64,
            device=device, seed=rng,
        )  # fmt: skip
        self.given: dict[str, Any] = {"lengths": (3, 0, 2)}
        if cell.extras:
            extras = zip(cell.extras, cell.extra_units, strict=True)
            self.given["extras"] = {
                name: rng.standard_normal((steps, batch, hidden if units else 1)) for name, units in extras
            }
        shapes = [state.shape for state in self._unpack(self.layer.zero_state(batch))]
        self.x: Array = rng.standard_normal((steps, batch, inputs))
        self.states: list[Array] = [rng.standard_normal(shape) for shape in shapes]
        self.dy: Array = rng.standard_normal((steps, batch, 2 * self.layer.output_size))
        self.dstates: list[Array] = [rng.standard_normal(shape) for shape in shapes]
        self.params = self.layer.state_dict()
        states = {f"initial state {n}": s for n, s in zip(cell.states, self.states, strict=True)}
        self.variables = {"input x": self.x, **states, **self.params}

    def _unpack(self, state: Any) -> list[Array]:
        return list(state) if isinstance(state, tuple) else [state]

    def _pack(self, arrays: Sequence[Array]) -> Any:
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def loss(self) -> float:
        """The loss for the present values of the variables."""
        engine = self.layer.engine
        for name, value in self.params.items():
            engine.upload(value, out=self.layer.params[name])
        y, state = self.layer(self.x, self._pack(self.states), **self.given)
        finals = self._unpack(state)
        pairs = [(y, self.dy), *zip(finals, self.dstates, strict=True)]
        if not all(np.isfinite(value).all() for value, _ in pairs):
            raise GradientError(
                f"{display_name(self.layer.cell)}: its states become infinite or NaN within 3 steps"
            )
        return float(sum(np.vdot(value, weight) for value, weight in pairs))

    def moved_loss(self, array: Array, direction: Array, step: float) -> float:
        """The loss with one variable moved by a step in a direction."""
        original = array.copy()
        array += step * direction
        try:
            return self.loss()
        finally:
            array[...] = original

    def gradients(self) -> dict[str, Array]:
        """The layer's gradients, keys as in `variables`."""
        _, _, tape = self.layer.forward(self.x, self._pack(self.states), **self.given)
        dx, dstate, grads = self.layer.backward(tape, self.dy, self._pack(self.dstates))
        dstates = self._unpack(dstate)
        download = self.layer.engine.download
        return dict(
            zip(
                self.variables,
                [dx, *dstates, *(np.array(download(grads[n])) for n in self.params)],
                strict=True,
            )
        )


def _check_layer(cell: Any, rng: np.random.Generator, tolerance: float, device: str) -> tuple[Entry, ...]:
    network = _Network(cell, rng, device)
    try:
        gradients = network.gradients()
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "numba":
            raise
        raise CellError(
            f"{display_name(cell)}: Numba cannot compile the equations: {_reason(error)}"
        ) from None
    entries = []
    for name, array in network.variables.items():
        tried = []
        for _ in range(_DIRECTIONS):
            direction = rng.standard_normal(array.shape)
            direction /= np.linalg.norm(direction)
            numeric = _slope(partial(network.moved_loss, array, direction))
            if numeric is not None:
                tried.append(Entry(name, float(np.vdot(gradients[name], direction)), numeric))
        if not tried:
            raise GradientError(
                f"{display_name(cell)} on {device}: {name}: a kink in every direction that was tried"
            )
        worst = max(tried, key=lambda entry: math.inf if math.isnan(entry.error) else entry.relative)
        if not worst.relative <= tolerance:
            raise GradientError(
                f"{display_name(cell)} on {device}: the gradient of {name} along a direction is "
                f"{worst.analytic:.9g}, central differences give {worst.numeric:.9g} (error "
                f"{worst.error:.1e}), although the equations of one unit are right"
            )
        entries.append(worst)
    return tuple(entries)


def _reason(error: Exception) -> str:
    """The part of Numba's error message about the innermost function."""
    lines = [line.strip(" >") for line in str(error).splitlines() if line.strip(" >")]
    informative = ("No implementation", "Unknown attribute", "Untyped", "Invalid use")
    found = [n for n, line in enumerate(lines) if line.startswith(informative)]
    return " ".join(lines[found[-1] : found[-1] + 2] if found else lines[:1])
