"""Which part of an LSTM matters? After Greff et al. (2017).

Every cell of the library, and the LSTM with one part taken away (`lstm_numba.experiments.ablations`), learn
three tasks (`lstm_numba.experiments.odyssey_tasks`). All of them have nearly as many parameters, in the
recurrent layer and the linear layer behind it, and are trained by the same updates of Adam, on batches of the
same size, clipped at the same norm, from initial weights of the same rule, the forget gates not being biased,
at a learning rate that in the last third falls to 0. The rate before is the best of a few on validation
data, in one training for each; trainings from other weights at that rate are measured on test data.

A cell is worse than the LSTM, or better, where Welch's interval of 95 % of the difference of their means does
not hold zero. Of the many differences in the table one in twenty does so by chance.

K. Greff, R. K. Srivastava, J. Koutník, B. R. Steunebrink, J. Schmidhuber, "LSTM: a search space odyssey",
IEEE Transactions on Neural Networks and Learning Systems 28 (2017), arXiv:1503.04069.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from lstm_numba.arguments import integer
from lstm_numba.cells import BUILT_IN
from lstm_numba.errors import UserError
from lstm_numba.experiments import intervals
from lstm_numba.experiments.ablations import ABLATIONS
from lstm_numba.experiments.odyssey_claims import claims
from lstm_numba.experiments.odyssey_tasks import TASKS, Task, task
from lstm_numba.experiments.outcome import Outcome, Progress
from lstm_numba.experiments.workers import run_parts
from lstm_numba.models.base import Model
from lstm_numba.optim.optimizers import Adam
from lstm_numba.training.step import TrainingStep

#: What all others are held against.
WHOLE = "lstm"
#: All cells, by the names that the table has.
CELLS: tuple[str, ...] = (*BUILT_IN, "clockwork", *ABLATIONS)
#: Columns of the table that are shown; "deviation" is that of the parameters from those wanted, as a share.
COLUMNS = (
    *("data", "cell", "units", "parameters", "deviation", "rate"),
    *("test", "low", "high", "difference", "beyond"),
)
#: Largest norm of the gradient.
CLIP = 1.0
#: Groups of units that a cell has, whose number divides that of the units.
_GROUPS = {"clockwork": 4}
#: Cells that take longest to compile and compute, begun first.
_SLOW = ("layer-norm-lstm", "layer-norm-gru", "clockwork", "peephole-full", "use-gate")


class Part(NamedTuple):
    """A cell on all data sets: what a process does at a time."""

    cell: str
    data: tuple[str, ...]
    parameters: int
    rates: tuple[float, ...]
    updates: int
    seeds: int
    seed: int
    device: str


def run(
    *,
    cells: Sequence[str] = (),
    data: Sequence[str] = tuple(TASKS),
    parameters: int = 6_000,
    rates: Sequence[float] = (0.01, 0.03),
    updates: int = 350,
    seeds: int = 4,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Outcome:
    """Train all cells on all data sets.

    Parameters
    ----------
    cells : sequence of str
        Of `CELLS`, all of them if there are none; "lstm" is always there.
    data : sequence of str
        Of `TASKS`.
    parameters : int
        Which the recurrent and the linear layer of a network shall have together.
    rates : sequence of float
        Learning rates to choose from.
    updates : int
        Of each training.
    seeds : int
        Trainings at the chosen rate, at least 2.
    seed : int
    device : str
    progress : callable, optional

    Raises
    ------
    UserError
        There is no such cell or data set.
    ValueError
        There is only one training.
    """
    chosen, data = tuple(dict.fromkeys((WHOLE, *(cells or CELLS)))), tuple(dict.fromkeys(data))
    seeds = integer("seeds", seeds, 2)
    for what, names, known in (("cells", chosen, CELLS), ("data", data, tuple(TASKS))):
        for name in names:
            if name not in known:
                raise UserError(f"{what}: expected some of {', '.join(known)}, got {name!r}")
    order = sorted(chosen, key=lambda name: name not in _SLOW)
    parts = [Part(name, data, parameters, tuple(rates), updates, seeds, seed, device) for name in order]
    workers = 1 if device == "cuda" else None
    found = run_parts(explore, parts, progress, workers=workers, label=lambda part: part.cell)
    by_cell = dict(zip(order, found, strict=True))
    rows = [row for name in data for row in _compared([by_cell[cell][name] for cell in chosen])]
    settings = {"cells": list(chosen), "data": list(data), "parameters": parameters, "rates": list(rates)}
    settings |= {"updates": updates, "seeds": seeds, "seed": seed, "clip": CLIP, "device": device}
    floors = {name: task(name, seed).floor for name in data}
    measures = {name: TASKS[name].measure for name in data}
    return Outcome(
        "odyssey",
        settings,
        COLUMNS,
        rows,
        {"measures": measures, "floors": floors, "ablations": list(ABLATIONS)},
        claims(rows),
    )


def explore(part: Part) -> dict[str, dict[str, Any]]:
    """What a cell reaches on each data set: rows of the table, without the differences."""
    return {name: _explore(part, name) for name in part.data}


def _explore(part: Part, name: str) -> dict[str, Any]:
    own, cell = task(name, part.seed), ABLATIONS.get(part.cell, part.cell)
    units, count = nearest_units(own, cell, part.parameters, _GROUPS.get(part.cell, 1))
    train = partial(trained, own, cell, units, updates=part.updates, device=part.device)
    valid = [own.score(train(rate=rate, seed=_seed(part, 0)), "valid") for rate in part.rates]
    rate = part.rates[valid.index(min(valid))]
    tests = [own.score(train(rate=rate, seed=_seed(part, k)), "test") for k in range(1, part.seeds + 1)]
    return {
        "data": name,
        "cell": part.cell,
        "units": units,
        "parameters": count,
        "deviation": count / part.parameters - 1,
        "rate": rate,
        "valid": valid,
        "tests": tests,
    }


def _seed(part: Part, training: int) -> int:
    """Seed of a training: the same for every cell and rate."""
    return 1_000 * part.seed + training


def nearest_units(own: Task, cell: str, parameters: int, groups: int = 1) -> tuple[int, int]:
    """Number of hidden units, a multiple of `groups`, with which a model has nearest to so many parameters.

    Returns
    -------
    units, count : int
        And the parameters that it then has, in the recurrent layer and the linear one; of two that are as
        near, the fewer.
    """
    best = (groups, _count(own, cell, groups))
    for units in range(2 * groups, 100_000, groups):
        count = _count(own, cell, units)
        if abs(count - parameters) >= abs(best[1] - parameters):
            break
        best = (units, count)
    return best


def _count(own: Task, cell: str, units: int) -> int:
    model = own.model(cell, units, 0, "cpu")
    return sum(array.size for name, array in model.params.items() if not name.startswith("embedding."))


def trained(
    own: Task, cell: str, units: int, *, rate: float, updates: int, seed: int, device: str = "cpu"
) -> Model:
    """A model after so many updates, the last third of them at a rate that falls to 0 in equal steps.

    Where loss or gradient are not finite the parameters stay as they are, and the next window of a text
    begins with a state of zeros.
    """
    model = own.model(cell, units, seed, device)
    step = TrainingStep(model, Adam(model.params, rate), clip=CLIP, carries_state=own.carries_state)
    state = None
    for k, (batch, first) in zip(range(updates), own.batches(seed), strict=False):
        result = step(batch, None if first else state, rate * min(1.0, 3 * (1 - k / updates)))
        state = result.state if own.carries_state and math.isfinite(result.loss_sum) else None
    return model


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one data set with the means of the tests, and their differences from the whole LSTM."""
    whole = next(row["tests"] for row in rows if row["cell"] == WHOLE)
    found = []
    for row in rows:
        mean = intervals.mean(row["tests"])
        numbers: dict[str, Any] = {"test": mean.estimate, "low": mean.low, "high": mean.high}
        if row["cell"] == WHOLE:
            numbers |= {"difference": None, "difference_low": None, "difference_high": None, "beyond": None}
        else:
            d = intervals.difference(row["tests"], whole)
            numbers |= {"difference": d.estimate, "difference_low": d.low, "difference_high": d.high}
            numbers["beyond"] = "worse" if d.low > 0 else "better" if d.high < 0 else "no"
        found.append({**row, **numbers})
    return found
