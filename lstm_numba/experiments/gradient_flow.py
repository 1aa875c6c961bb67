"""How far gradients go back: their norms against distance from the loss, at the start and after training.

The task is `lstm_numba.data.first_symbol`: the first of T symbols is to be told at the end. The loss is at
the last step alone, so whatever the network learns of the first symbol comes back over T - 1 steps. All
networks get the same updates, on sequences whose length is drawn anew for each update, up to T. What is
measured, and beside which theory, is told in `lstm_numba.experiments.flow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import BUILT_IN, GROUPED, load_cell
from lstm_numba.data import first_symbol
from lstm_numba.data._random import uniforms
from lstm_numba.errors import UserError
from lstm_numba.experiments import flow, workers
from lstm_numba.experiments.outcome import Claim, Outcome, Progress
from lstm_numba.models import SequenceBatch, SequenceClassifier
from lstm_numba.nn.losses import cross_entropy
from lstm_numba.optim.optimizers import make_optimizer
from lstm_numba.training.step import TrainingStep

#: All cells.
CELLS = (*BUILT_IN, *GROUPED)
#: Cells that are there a second time, with larger recurrent weights.
SCALED = ("rnn", "rnn-relu")
#: Steps at both ends of a sequence in which no rate of decay is measured: all periods of a clockwork RNN.
ENDS = 8
#: How far a measured rate may be from the one of theory and still be about the same.
NEAR = 0.15

_BATCH, _CLIP, _RATE = 32, 1.0, 0.01
_TESTED = 64  # sequences on which gradients are measured


class Part(NamedTuple):
    """A cell, and what is needed to train it in another process."""

    cell: str
    gain: float
    seeds: tuple[int, ...]
    hidden: int
    steps: int
    updates: int
    device: str

    def name(self) -> str:
        """What it is called in table and pictures."""
        return self.cell if self.gain == 1 else f"{self.cell}, R x {self.gain:g}"


class Measured(NamedTuple):
    """What was measured of a network.

    Attributes
    ----------
    norms : dict of str to list of float
        By state, at `distances`; relative to that of h at the last step. Of a network whose answers are so
        sure that the loss has no gradient in float64 they are 0.
    rates : dict of str to float
        By state: factor a step, without the `ENDS` of the sequence; None where there is no gradient.
    theory : Theory or None
    accuracy : float
        On the sequences on which it was measured.
    """

    distances: list[int]
    norms: dict[str, list[float | None]]
    rates: dict[str, float | None]
    theory: flow.Theory | None
    accuracy: float


class Found(NamedTuple):
    """What was found of a cell, for each seed; `memory` is the state that it carries."""

    memory: str
    gated: bool
    start: list[Measured]
    trained: list[Measured]


def run(
    *,
    cells: Sequence[str] = CELLS,
    gain: float = 4.0,
    hidden: int = 24,
    steps: int = 40,
    updates: int = 1000,
    seeds: int = 3,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Outcome:
    """Measure gradients of states, at the start and after training, beside what theory says of them.

    Parameters
    ----------
    cells : sequence of str
        As `lstm_numba.make_layer` names them; "rnn" is always among them.
    gain : float
        `SCALED` cells are there a second time, with the initial recurrent weights times this; 1: they are
        not.
    hidden : int
        Hidden units, a multiple of 4, which the clockwork RNN has groups of.
    steps : int
        Length of the sequences, a multiple of `ENDS`.
    updates : int
        Of the parameters.
    seeds : int
        Repetitions, each with its own weights and sequences.
    seed : int
    device : {"cpu", "cuda"}
    progress : callable, optional

    Raises
    ------
    UserError
        `steps` or `hidden` is no such number.
    """
    if steps % ENDS or steps < 4 * ENDS:
        raise UserError(f"steps: expected a multiple of {ENDS}, at least {4 * ENDS}, got {steps}")
    if hidden % 4:
        raise UserError(f"hidden: expected a multiple of 4, got {hidden}")
    cells = list(dict.fromkeys(["rnn", *cells]))  # without which nothing is further or less far
    repeated = tuple(1000 * seed + k for k in range(seeds))
    chosen = [(cell, 1.0) for cell in cells]
    chosen.reverse()  # the last ones take longest to compile
    chosen += [(cell, gain) for cell in SCALED if gain != 1 and cell in cells]
    parts = [Part(cell, factor, repeated, hidden, steps, updates, device) for cell, factor in chosen]
    results = workers.run_parts(
        measure_cell, parts, progress, workers=1 if device == "cuda" else None, label=Part.name
    )
    found = {part.name(): result for part, result in zip(parts, results, strict=True)}
    found = dict(sorted(found.items(), key=lambda item: _place(item[0])))
    settings = {"cells": cells, "gain": gain, "hidden": hidden, "steps": steps}
    settings |= {"updates": updates, "seeds": seeds, "seed": seed, "device": device}
    columns = ("cell", "state", "rate", "theory", "refined", "trained rate", "trained theory")
    return Outcome(
        "gradient-flow",
        settings,
        (*columns, "trained refined", "accuracy"),
        [row for name, one in found.items() for row in _rows(name, one)],
        {"networks": {name: _curves(one) for name, one in found.items()}},
        claims(found),
    )


def _place(name: str) -> tuple[int, str]:
    """Plain RNNs first, then in the order of the library."""
    order = [*BUILT_IN, *GROUPED]
    cell = name.split(", R x ")[0]
    plain = cell in (*SCALED, *GROUPED)
    return (order.index(cell) if cell in order else len(order)) - (len(order) if plain else 0), name


# -- measuring -------------------------------------------------------------------------------------------


def measure_cell(part: Part) -> Found:
    """Train a cell with every seed and measure it before and after."""
    if ":" in part.cell:
        load_cell(part.cell)
    start, trained = [], []
    for seed in part.seeds:
        model = _network(part, seed)
        start.append(measure(model, seed, part.steps))
        _train(model, part, seed)
        trained.append(measure(model, seed, part.steps))
    return Found(flow.memory_of(model.rnn), flow.carrier_of(model.rnn) is not None, start, trained)


def _network(part: Part, seed: int) -> SequenceClassifier:
    model = SequenceClassifier(
        first_symbol.FEATURES,
        part.hidden,
        first_symbol.KINDS,
        cell=part.cell,
        dtype=np.float64,
        seed=seed,
        device=part.device,
    )
    if part.gain != 1:
        weight = model.params["rnn.weight_hh_l0"]
        model.engine.upload(part.gain * np.array(model.engine.download(weight)), out=weight)
    return model


def _train(model: SequenceClassifier, part: Part, seed: int) -> None:
    """All updates; the length of the sequences is drawn from 2 to T for each."""
    step = TrainingStep(model, make_optimizer("adam", model.params, _RATE), clip=_CLIP)
    lengths = uniforms("gradient-flow", seed, "lengths")
    for update in range(part.updates):
        length = 2 + int((part.steps - 1) * next(lengths))
        drawn = first_symbol.draw(seed, length, _BATCH, _TESTED + update * _BATCH)
        step(SequenceBatch(*drawn), None, _RATE)


def measure(model: SequenceClassifier, seed: int, steps: int) -> Measured:
    """Gradients of all states on the seed's first sequences, which are not trained on."""
    x, labels = first_symbol.draw(seed, steps, _TESTED)
    gradients, accuracy = loss_gradients(model, x, labels)
    stride = flow.stride_of(model.rnn)
    distances = stride * np.arange(steps // stride + 1)
    found = {name: flow.norms(gradient) for name, gradient in gradients.items()}
    far = (distances >= ENDS) & (distances <= steps - ENDS)
    rates = {name: flow.rate(distances[far], values[far]) for name, values in found.items()}
    scale = found["h"][0] or 1.0
    relative = {name: [_finite(value / scale) for value in values] for name, values in found.items()}
    theory = flow.theory(model.rnn, x, gradients, ENDS)
    return Measured(distances.tolist(), relative, rates, theory, accuracy)


def loss_gradients(
    model: SequenceClassifier, x: flow.Array, labels: Any
) -> tuple[dict[str, flow.Array], float]:
    """Gradients of the mean loss with respect to all states, see `flow.state_gradients`; the accuracy."""
    state, tapes = flow.run_in_steps(model.rnn, x)
    h = np.array(state[0] if isinstance(state, tuple) else state)[0]
    weight, bias = (np.array(model.engine.download(model.output.params[n])) for n in ("weight", "bias"))
    logits = h @ weight.T + bias
    _, dlogits = cross_entropy(logits, labels)
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    return flow.state_gradients(model.rnn, tapes, dlogits @ weight), accuracy


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# -- what is told ----------------------------------------------------------------------------------------


def mean_rate(measured: Sequence[Measured], state: str) -> float | None:
    """Geometric mean over the seeds; None where none has a gradient."""
    return _geometric([one.rates[state] for one in measured])


def mean_theory(measured: Sequence[Measured]) -> flow.Theory | None:
    """Geometric means over the seeds."""
    known = [one.theory for one in measured if one.theory is not None]
    simple = _geometric([one.simple for one in known])
    return None if simple is None else flow.Theory(simple, _geometric([one.refined for one in known]))


def _geometric(values: Sequence[float | None]) -> float | None:
    logs = [np.log(value) for value in values if value]
    return float(np.exp(np.mean(logs))) if logs else None


def _rows(name: str, found: Found) -> list[dict[str, Any]]:
    """A row for each state; theory is of the one that is carried."""
    rows = []
    for state in found.start[0].rates:
        row: dict[str, Any] = {"cell": name, "state": state}
        for prefix, measured in (("", found.start), ("trained ", found.trained)):
            known = mean_theory(measured) if state == found.memory else None
            row[f"{prefix}rate"] = mean_rate(measured, state)
            row[f"{prefix}rates of seeds"] = [one.rates[state] for one in measured]
            row[f"{prefix}theory"] = None if known is None else known.simple
            row[f"{prefix}refined"] = None if known is None else known.refined
        row["accuracy"] = float(np.mean([one.accuracy for one in found.trained]))
        rows.append(row)
    return rows


def _curves(found: Found) -> dict[str, Any]:
    """What pictures are drawn from: of the first seed all norms, and rates of all seeds."""
    return {
        "memory": found.memory,
        "gated": found.gated,
        "distances": found.start[0].distances,
        "start": found.start[0].norms,
        "trained": found.trained[0].norms,
    }


def claims(found: Mapping[str, Found]) -> list[Claim]:
    """All that the cells allow; the last one is that of the texts, and holds if those named in it did."""
    gated = [name for name, one in found.items() if one.gated]
    scaled = [name for name in found if ", R x " in name]
    parts, more = [_vanishes(found["rnn"])], list[Claim]()
    said = ["a plain RNN's gradient vanishes at about the rate that theory predicts"]
    for name in scaled:  # the slope of tanh falls as its weights grow, so that its gradient need not explode
        claim = _explodes(name, found[name].start)
        if name.startswith("rnn-relu"):
            parts.append(claim)
            said.append("with larger recurrent weights that of a relu RNN explodes")
        else:
            more.append(claim)
    if gated:
        parts.append(_further(found, gated, trained=True))
        said.append("trained gated cells carry it further")
        more.append(_further(found, gated, trained=False))
        more += [_predicted(found, gated, which, trained) for which in (0, 1) for trained in (False, True)]
    because = "; ".join(claim.because for claim in parts)
    return [*more, *parts, Claim(", ".join(said), all(claim.held for claim in parts), because)]


def _about(measured: float | None, predicted: float | None) -> bool:
    """Whether there are both and they are near each other."""
    return bool(measured and predicted and abs(measured - predicted) <= NEAR * predicted)


def _vanishes(found: Found) -> Claim:
    """Whether the plain RNN's gradient does as theory says, in every seed, at the start."""
    held = all(
        one.theory is not None
        and (one.rates["h"] or np.inf) < min(1.0, one.theory.simple)
        and _about(one.rates["h"], one.theory.refined)
        for one in found.start
    )
    known = mean_theory(found.start) or (None, None)
    return Claim(
        f"at the start the plain RNN's gradient vanishes, within {NEAR:.0%} of the rate of the spectral "
        "radius, and below the bound of the largest singular value",
        held,
        f"rnn {_text(mean_rate(found.start, 'h'))} per step, radius {_text(known[1])}, "
        f"bound {_text(known[0])}",
    )


def _explodes(name: str, start: Sequence[Measured]) -> Claim:
    """Whether the gradient of a plain RNN with larger weights grows, in every seed, at the start."""
    rates = [one.rates["h"] or 0.0 for one in start]
    because = f"{_text(mean_rate(start, 'h'))} per step, {min(rates):.3f} to {max(rates):.3f}"
    return Claim(f"at the start the gradient of {name} explodes", min(rates) > 1, f"{name} {because}")


def _further(found: Mapping[str, Found], names: Sequence[str], *, trained: bool) -> Claim:
    """Whether each seed of each gated cell loses less in a step than each seed of the plain RNN."""

    def rates(name: str) -> list[float]:
        one = found[name]
        return [measured.rates[one.memory] or 0.0 for measured in (one.trained if trained else one.start)]

    least = min(names, key=lambda name: min(rates(name)))
    plain = max(rates("rnn"))
    when = "after training" if trained else "at the start"
    return Claim(
        f"{when} every gated cell carries the gradient further than the plain RNN does, in all seeds",
        min(rates(least)) > plain,
        f"{when} least of the gated ones {least} {min(rates(least)):.3f} per step, most of rnn {plain:.3f}",
    )


def _predicted(found: Mapping[str, Found], names: Sequence[str], which: int, trained: bool) -> Claim:
    """Whether one of the two predictions is about right for every gated cell, in the mean of the seeds."""
    pairs = {}
    for name in names:
        measured = found[name].trained if trained else found[name].start
        pairs[name] = mean_rate(measured, found[name].memory), (mean_theory(measured) or (None, None))[which]
    worst = max(names, key=lambda name: _difference(*pairs[name]))
    what = ("the geometric mean of its gate", "the product of its gates, unit by unit,")[which]
    return Claim(
        f"{'after training' if trained else 'at the start'} {what} predicts the rate of each gated cell "
        f"within {NEAR:.0%}",
        all(_about(*pair) for pair in pairs.values()),
        f"farthest {worst}, {_text(pairs[worst][0])} per step, predicted {_text(pairs[worst][1])}",
    )


def _difference(measured: float | None, predicted: float | None) -> float:
    return abs(measured / predicted - 1) if measured and predicted else float(np.inf)


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
