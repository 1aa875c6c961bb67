"""What the author of a cell writes: names, products, and the forward equations of one hidden unit.

The matrix products are the library's; what remains concerns one unit, and all numbers are scalars. Equations
are a function of two namespaces:

``z``
    Pre-activations by the name of their slot: the sum of all products, with their biases, that feed it.
``v``
    The latest value of everything else: previous states by their names, results of earlier phases, vectors,
    extras.

They return a dictionary of new states and, in a cell of several phases, of results that later phases use.
"""

from __future__ import annotations

import keyword
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

_HERE = str(Path(__file__).parent)


class Product(NamedTuple):
    """A matrix product.

    Attributes
    ----------
    weight : str
        Parameter: ``weight_ih``, ``weight_hh`` or, for the second recurrent product, one of another name.
        Products of one weight have its row blocks in turn.
    operand : str
        "x" for the input, the name of the first state for its latest value, or that of an earlier phase's
        result.
    slots : tuple of str
        The pre-activations that it is added to, one for each of its row blocks.
    """

    weight: str
    operand: str
    slots: tuple[str, ...]


class Phase(NamedTuple):
    """Products, and the equations that follow them.

    Attributes
    ----------
    products : tuple of Product
    equations : callable
        ``equations(z, v)``, or with `self` before: a method of the cell's class.
    projected : bool
        Whether its units, and those of the first state, are not the hidden ones but fewer, the projected
        ones.
    """

    products: tuple[Product, ...]
    equations: Callable[..., dict[str, Any]]
    projected: bool = False


class Extra(NamedTuple):
    """A number that comes from outside at every step, such as a mask.

    Attributes
    ----------
    name : str
    units : bool
        Whether each hidden unit has one, or each row of the batch.
    """

    name: str
    units: bool = True


class Definition(NamedTuple):
    """A cell as its author wrote it, checked as far as that is possible without running the equations.

    Attributes
    ----------
    name : str
        Of the class.
    states : tuple of str
        The first is the output.
    phases : tuple of Phase
    vectors : tuple of str
        Names of per-unit vectors, such as diagonal peephole weights: row blocks of ``weight_ph``.
    backward : callable or None
        ``backward(z, v, d)``: the author's own derivative.
    extras : tuple of Extra
    candidate : str
        The slot of the candidate, or the result that it is, which dropout can mask; empty for none.
    candidate_mask : str
        The extra that the candidate's activation is multiplied by; empty for none.
    means : tuple of str
        Results whose value for later phases is their mean over the row's hidden units.
    biased : bool
        Whether products may have biases.
    initial_vectors : tuple of float
        What each of the vectors begins with; empty for random ones.
    traced : tuple of str
        Results that a trace shows beside the states; where it is empty, the gates' activations.
    keeps_traced : bool
        Whether the slots keep these, and not what the backward pass needs: there is none then.
    """

    name: str
    states: tuple[str, ...]
    phases: tuple[Phase, ...]
    vectors: tuple[str, ...]
    backward: Callable[..., dict[str, Any]] | None
    extras: tuple[Extra, ...] = ()
    candidate: str = ""
    candidate_mask: str = ""
    means: tuple[str, ...] = ()
    biased: bool = True
    initial_vectors: tuple[float, ...] = ()
    traced: tuple[str, ...] = ()
    keeps_traced: bool = False


class Names:
    """A namespace of symbols; what it has not got is an error that says what there is.

    Parameters
    ----------
    what : str
        Such as "pre-activations".
    values : dict
    """

    def __init__(self, what: str, values: dict[str, Any]) -> None:
        self._what, self._values = what, values

    def __getattr__(self, name: str) -> Any:
        if str(name).startswith("__"):
            raise AttributeError(name)
        if name not in self._values:
            raise TypeError(f"there is no {name!r} among the {self._what}: {', '.join(self._values)}")
        return self._values[name]

    __getitem__ = __getattr__


def call(equations: Callable[..., Any], what: str, returns: str, *arguments: Any) -> dict[str, Any]:
    """Call equations; an error in them names their line.

    Parameters
    ----------
    equations : callable
    what, returns : str
        What equations they are, and what they return by name, such as "new states".
    *arguments
        Of `equations`.

    Raises
    ------
    TypeError
        The equations fail, or return something else than a dictionary of names.
    """
    try:
        found = equations(*arguments)
    except Exception as error:
        kind = "" if isinstance(error, TypeError) else f"{type(error).__name__}: "
        text = str(error)
        if type(error).__module__.startswith("numba"):
            kind, text = "", "a function of numba.njit takes numbers only; write it as a plain function"
        raise TypeError(f"{what}{_line(error, equations)}: {kind}{text}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise TypeError(f"{what}: expected a dictionary of {returns} by name, got {type(found).__name__}")
    return found


def _line(error: BaseException, equations: Callable[..., Any]) -> str:
    """The line that an error comes from: the innermost frame outside of this package and others."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_HERE)]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    if not own:
        return ""
    same = own[-1].filename == getattr(equations, "__code__", _line.__code__).co_filename
    return f", line {own[-1].lineno}" + ("" if same else f" of {Path(own[-1].filename).name}")


def read(plain: type) -> Definition:
    """Read a cell's class.

    Parameters
    ----------
    plain : type
        With ``states`` and either ``gates`` and a method ``forward(self, z, v)``, for a cell of one phase
        whose gates all get a product with the input and one with the first state, or ``phases``; optionally
        ``vectors``, ``initial_vectors``, ``extras`` (names, or `Extra`), ``means``, ``biased``,
        ``candidate``, ``traced`` and ``backward(self, z, v, d)``. Other attributes are its own.

    Raises
    ------
    TypeError, ValueError
        Something is missing or does not fit.
    """
    if not isinstance(plain, type):
        raise TypeError(f"register_cell: expected a class, got {plain!r}")
    states = _names("states", getattr(plain, "states", None))
    vectors = _names("vectors", getattr(plain, "vectors", ()), at_least=0)
    phases, gates = getattr(plain, "phases", None), getattr(plain, "gates", None)
    if phases is None:
        products = _simple_products(_names("gates", gates), states)
        phases = (Phase(products, _method(plain, "forward", "z, v")),)
    elif gates is not None or hasattr(plain, "forward"):
        raise TypeError("phases: a cell has either phases or gates and forward")
    else:
        phases = tuple(_phases(plain, phases))
    backward = _method(plain, "backward", "z, v, d") if hasattr(plain, "backward") else None
    if backward and len(phases) > 1:
        raise TypeError("backward: only for a cell of one phase; that of several phases is derived")
    extras, candidate = _extras(getattr(plain, "extras", ())), getattr(plain, "candidate", "")
    means = _names("means", getattr(plain, "means", ()), at_least=0)
    initial = tuple(map(float, getattr(plain, "initial_vectors", ())))
    if len(initial) not in (0, len(vectors)):
        raise ValueError(f"initial_vectors: expected {len(vectors)} numbers, got {len(initial)}")
    biased = bool(getattr(plain, "biased", True))
    traced = _names("traced", getattr(plain, "traced", ()), at_least=0)
    found = Definition(
        plain.__name__,
        states,
        phases,
        vectors,
        backward,
        extras,
        candidate,
        "",
        means,
        biased,
        initial,
        traced,
    )
    _check_names(found)
    return found


def check_name(what: str, name: str) -> None:
    """Raise a ValueError if a name cannot be a variable's."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{what}: expected names as Python's variables have, got {name!r}")


def _simple_products(gates: tuple[str, ...], states: tuple[str, ...]) -> tuple[Product, ...]:
    return Product("weight_ih", "x", gates), Product("weight_hh", states[0], gates)


def _extras(declared: Any) -> tuple[Extra, ...]:
    if not isinstance(declared, (tuple, list)):
        raise TypeError(f"extras: expected a tuple of names or Extra(name, units), got {declared!r}")
    found = [Extra(extra) if isinstance(extra, str) else extra for extra in declared]
    if not all(isinstance(extra, Extra) for extra in found):
        raise TypeError(f"extras: expected names or Extra(name, units), got {declared!r}")
    _names("extras", [extra.name for extra in found], at_least=0)
    return tuple(found)


def _names(what: str, value: Any, at_least: int = 1) -> tuple[str, ...]:
    if value is None:
        raise TypeError(f"{what}: missing, expected a tuple of names")
    if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{what}: expected a tuple of names, got {value!r}")
    for name in value:
        check_name(what, name)
    if len(set(value)) != len(value):
        raise ValueError(f"{what}: a name stands twice in {value!r}")
    if len(value) < at_least:
        raise ValueError(f"{what}: expected at least one name")
    return tuple(value)


def _method(plain: type, name: str, parameters: str) -> Callable[..., Any]:
    text = f"def {name}(self, {parameters})"
    method = getattr(plain, name, None)
    if method is None:
        raise TypeError(f"{name}: missing, expected {text}")
    return _bound(plain, name, method, parameters)


def _bound(plain: type, what: str, function: Any, parameters: str) -> Callable[..., Any]:
    """Equations as a function of the given parameters alone."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"{what}: expected a function of ({parameters}), got {function!r}")
    code = function.__code__
    found = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    method, count = found[:1] == ("self",), len(parameters.split(", "))
    if code.co_kwonlyargcount or len(found) != count + method:
        raise TypeError(
            f"{what}: expected the parameters (self, {parameters}) or ({parameters}), "
            f"got ({', '.join(found)})"
        )
    if not method:
        return function
    try:
        return function.__get__(plain())
    except Exception as error:
        raise TypeError(f"__init__: a cell's class is called without arguments: {error}") from None


def _phases(plain: type, declared: Any) -> Iterator[Phase]:
    if not declared or not _several(declared, Phase):
        raise TypeError(f"phases: expected a tuple of Phase(products, equations), got {declared!r}")
    for n, (declared_products, equations, projected) in enumerate(declared):
        if not _several(declared_products, Product):
            raise TypeError(
                f"phase {n}: expected a tuple of Product(weight, operand, slots), got {declared_products!r}"
            )
        products = tuple(
            Product(weight, operand, _names(f"phase {n}: slots", slots))
            for weight, operand, slots in declared_products
        )
        yield Phase(products, _bound(plain, f"phase {n}", equations, "z, v"), bool(projected))


def _several(value: Any, kind: type) -> bool:
    """Whether a value is a tuple or list of tuples of a kind."""
    return type(value) in (tuple, list) and all(isinstance(part, kind) for part in value)


def _check_names(cell: Definition) -> None:
    """A name stands for one thing only: of states, vectors and extras."""
    for name in cell.vectors:
        if name in cell.states or name == "x":
            raise ValueError(f"vectors: {name!r} is the name of something else")
    for name, _ in cell.extras:
        if name in (*cell.states, *cell.vectors, "x"):
            raise ValueError(f"extras: {name!r} is the name of something else")
    for name in cell.means:
        if name in (*cell.states, *cell.vectors, *(extra.name for extra in cell.extras), "x"):
            raise ValueError(f"means: {name!r} is the name of something else")
    for name in cell.traced:
        if name in (*cell.states, *cell.vectors, *cell.means, *(extra.name for extra in cell.extras), "x"):
            raise ValueError(f"traced: {name!r} is the name of something else")
    if "x" in cell.states:
        raise ValueError("states: x is the name of the input")
