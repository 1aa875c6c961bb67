"""Makes a cell that the engines run from a plain class with names and forward equations."""

from __future__ import annotations

import hashlib
import math
import random
import re
from typing import Any

from lstm_numba.cells import definition, evaluate, numba_classes
from lstm_numba.cells.definition import Definition
from lstm_numba.cells.derivation import Expressions, derive, trace
from lstm_numba.cells.expressions import Expression
from lstm_numba.cells.generation import Equations, compiled
from lstm_numba.cells.plan import make_plan
from lstm_numba.cells.traced import traced_values

#: Points at which an author's backward is compared with the derived one, and the largest relative difference.
_POINTS, _TOLERANCE = 20, 1e-6


def make_cell(plain: type, key: str = "") -> Any:
    """Check a class and make the cell that it describes.

    Parameters
    ----------
    plain : type
        See `lstm_numba.cells.definition.read`.
    key : str
        The cell's name in `lstm_numba.cells.CELLS`; ``module:Class`` by default.

    Returns
    -------
    Cell
        Of a class in `lstm_numba.cells.numba_classes`; ``digest`` identifies its equations, ``display_name``
        is the plain class's name, ``key`` its name in `lstm_numba.cells.CELLS`, ``texts`` the source
        of its functions, ``shown`` what `lstm_numba.show_cell` returns, ``definition`` what was read.

    Raises
    ------
    TypeError, ValueError
        The class is no valid cell; the message names the class, the fault and its line.
    """
    try:
        read = definition.read(plain)
        return defined_cell(read, f"{plain.__module__}:{plain.__qualname__}", key, plain.__doc__)
    except (TypeError, ValueError) as error:
        name = getattr(plain, "__name__", "")
        raise type(error)(f"{name}: {error}" if name else str(error)) from None


def defined_cell(read: Definition, full_name: str, key: str = "", doc: str | None = None) -> Any:
    """The cell of a definition; see `make_cell`.

    Parameters
    ----------
    read : Definition
    full_name : str
        Names it beside others with the same equations.
    key, doc : str
    """
    attributes, texts, shown = _attributes(read)
    # What follows from the texts; runs know cells by digests from before there were these.
    follows = ("reused", "dreused", "traced", "traced_gates", "traced_slots")
    digest = _digest(full_name, {n: v for n, v in attributes.items() if n not in follows}, texts)
    name = re.sub(r"\W", "_", read.name.partition(",")[0])
    functions = _functions(texts, f"<{read.name} {digest}>")
    cell = type(name, (), {**attributes, **functions})()
    _try_equations(cell)
    if read.backward:
        derived, others, _ = _attributes(read._replace(backward=None))
        _compare(cell, type(name, (), {**derived, **_functions(others, "<derived>")})())
    kind = numba_classes.cell_class(f"{name}_{digest}")
    attributes |= {**functions, "digest": digest, "key": key or full_name, "display_name": read.name}
    attributes |= {"texts": texts, "shown": shown, "definition": read, "__doc__": doc}
    for name, value in attributes.items():
        setattr(kind, name, value)
    return kind()


def _attributes(cell: Definition) -> tuple[dict[str, Any], dict[str, str], str]:
    """Names and wiring of `lstm_numba.cells.protocol.Cell`, its functions' texts, and one to be read."""
    plan, forward = make_plan(cell), trace(cell)
    traced = traced_values(cell, plan, forward)
    values = tuple(traced.values.values())
    derived = derive(cell, plan, forward, values)
    equations = Equations(cell, plan, derived)
    texts = {"forward": equations.forward(), "backward": equations.backward()}
    if plan.operand:
        texts |= {"operand": equations.operand(), "operand_backward": equations.operand_backward()}
    for level in range(len(derived.levels)):
        texts |= {f"means_{level}": equations.means(level), f"dmeans_{level}": equations.dmeans(level)}
    if derived.prepared is not None:
        texts |= {"prepare": equations.prepare(), "prepare_backward": equations.prepare_backward()}
    attributes = {
        "gates": plan.gates,
        "recurrent_gates": plan.recurrent_gates,
        "states": cell.states,
        "slots": derived.slots,
        "input_gates": plan.input_gates,
        "stages": plan.stages,
        "peepholes": cell.vectors,
        "extras": tuple(extra.name for extra in cell.extras),
        "extra_units": tuple(extra.units for extra in cell.extras),
        "biased": cell.biased,
        "initial_vectors": cell.initial_vectors,
        "mean_levels": derived.levels,
        "reused": tuple(map(len, derived.reused)),
        "dreused": tuple(map(len, derived.dreused)),
        "projected": any(phase.projected for phase in cell.phases),
        "prepared": derived.prepared is not None,
        "traced": tuple(traced.values),
        "traced_gates": traced.gates,
        "traced_slots": tuple(_place(node, derived.kept) for node in values),
    }
    return attributes, texts, equations.shown()


def _place(node: Expression, kept: Expressions) -> int:
    """Which of the kept values an expression is; -1 if none."""
    return next((n for n, other in enumerate(kept) if other is node), -1)


def _functions(texts: dict[str, str], file: str) -> dict[str, Any]:
    home = numba_classes.__name__
    return {name: compiled(name, text, f"{file[:-1]} {name}>", home) for name, text in texts.items()}


def _digest(*parts: Any) -> str:
    """Sixteen hexadecimal digits that identify names, wiring and equations."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _try_equations(cell: Any) -> None:
    """Run the equations on random numbers."""
    rng, problem = random.Random(0), ""
    for _ in range(8):
        try:
            evaluate.run_once(cell, lambda: rng.uniform(0.1, 0.9))
            return
        except Exception as error:  # a number may be outside a function's domain: try others
            problem = f"{type(error).__name__}: {error}"
    raise ValueError(f"the equations fail on numbers from 0.1 to 0.9: {problem}")


def _compare(own: Any, derived: Any) -> None:
    """Hold an author's backward against the derived one, at random points."""
    rng = random.Random(1)
    for _ in range(_POINTS):
        point = evaluate.draw(own, lambda: rng.gauss(0, 1))
        gradient = tuple(rng.gauss(0, 1) for _ in own.states)
        try:
            found, expected = (evaluate.backward(cell, point, gradient) for cell in (own, derived))
        except (ArithmeticError, ValueError):  # outside a function's domain
            continue
        kinds = (("gate", own.slots), ("previous state", own.states), ("vector", own.peepholes))
        for got, right, (kind, names) in zip(found, expected, kinds, strict=True):
            for a, b, name in zip(got, right, names, strict=False):  # extras have no gradients
                if not math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                    raise ValueError(
                        f"backward: {kind} {name}: {a:.9g}, but the derivative of forward is {b:.9g}"
                    )
