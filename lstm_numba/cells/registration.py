"""Makes a cell that the engines run from a plain class with names and equations."""

from __future__ import annotations

import dis
import random
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from lstm_numba.cells import activations
from lstm_numba.cells.fingerprint import equations_digest, frozen, global_names
from lstm_numba.cells.numba_classes import cell_class
from lstm_numba.cells.protocol import Stage

#: Method -> its parameters. Numba matches them by name.
METHODS: dict[str, tuple[str, ...]] = {
    "forward": ("self", "slots", "previous", "peephole"),
    "backward": ("self", "slots", "previous", "states", "peephole", "gradient"),
    "operand": ("self", "slots", "previous"),
    "operand_backward": ("self", "slots", "previous", "gradient"),
}
ATTRIBUTES = ("gates", "states", "slots", "input_gates", "stages", "peepholes")
_OPERAND_METHODS = ("operand", "operand_backward")
#: Prefixes of instructions that need a single truth value.
_DECISIONS = ("COMPARE_OP", "POP_JUMP", "JUMP_IF", "IS_OP", "CONTAINS_OP", "UNARY_NOT", "TO_BOOL")


def make_cell(plain: type) -> Any:
    """Check a class and make the cell that it describes.

    Parameters
    ----------
    plain : type
        With the attributes and methods of `lstm_numba.cells.protocol.Cell`. Required are ``gates``,
        ``states``, ``forward`` and ``backward``; by default the slots are the gates, the input and one stage
        feed all of them, and there are no peepholes.

    Returns
    -------
    Cell
        Of a class in `lstm_numba.cells.numba_classes`; ``digest`` identifies its equations, ``display_name``
        is the plain class's name, ``key`` its name in `lstm_numba.cells.CELLS`.

    Raises
    ------
    TypeError, ValueError
        The class is no valid cell; the message names the class and the fault.
    """
    if not isinstance(plain, type):
        raise TypeError(f"register_cell: expected a class, got {plain!r}")
    try:
        names = _names(plain)
        sizes = {**names, **_wiring(plain, names)}
        methods = _methods(plain, len(sizes["stages"]))
        full_name = f"{plain.__module__}:{plain.__qualname__}"
        digest = equations_digest(full_name, tuple(sorted(sizes.items())), *methods.values())
    except (TypeError, ValueError) as error:
        raise type(error)(f"{plain.__name__}: {error}") from None
    kind = cell_class(f"{plain.__name__}_{digest}")
    attributes = {**sizes, **{name: frozen(method) for name, method in methods.items()}}
    attributes.update(digest=digest, key=full_name, display_name=plain.__name__, __doc__=plain.__doc__)
    _try_equations(plain.__name__, type(plain.__name__, (), attributes)())
    for name, value in attributes.items():
        setattr(kind, name, value)
    return kind()


def _public(plain: type) -> Iterator[str]:
    for base in plain.__mro__:
        if base not in (object, tuple):
            yield from (name for name in vars(base) if not name.startswith("_"))


def _names(plain: type) -> dict[str, tuple[str, ...]]:
    """Names of gates, states, slots and peepholes, checked."""
    for name in _public(plain):
        if name not in (*ATTRIBUTES, *METHODS):
            known = ", ".join((*ATTRIBUTES, *METHODS))
            raise TypeError(
                f"{name}: a cell has no such attribute; it has {known}. Constants and helpers belong outside"
            )
    found: dict[str, tuple[str, ...]] = {}
    for name in ("gates", "states", "slots", "peepholes"):
        default = found["gates"] if name == "slots" else () if name == "peepholes" else None
        value = getattr(plain, name, default)
        if value is None:
            raise TypeError(f"{name}: missing, expected a tuple of names")
        if not isinstance(value, (tuple, list)) or not all(isinstance(v, str) and v for v in value):
            raise TypeError(f"{name}: expected a tuple of names, got {value!r}")
        if len(set(value)) != len(value):
            raise ValueError(f"{name}: a name stands twice in {value!r}")
        if not value and name != "peepholes":
            raise ValueError(f"{name}: expected at least one name")
        found[name] = tuple(value)
    for gate in found["peepholes"]:
        if gate not in found["gates"]:
            raise ValueError(f"peepholes: {gate!r} is not one of the gates {found['gates']!r}")
    return found


def _wiring(plain: type, names: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """`input_gates` and `stages`: which gates feed which slots, checked."""
    every = tuple(range(len(names["gates"])))
    declared = getattr(plain, "stages", (Stage(0, every),))
    if not isinstance(declared, (tuple, list)) or not 1 <= len(declared) <= 2:
        raise ValueError(f"stages: expected one or two, got {declared!r}")
    stages = []
    for stage in declared:
        if not isinstance(stage, (tuple, list)) or len(stage) != 2 or type(stage[0]) is not int:
            raise TypeError(f"stages: expected Stage(first slot, gates), got {stage!r}")
        stages.append(Stage(stage[0], _gate_numbers("stages", stage[1])))
    inputs = _gate_numbers("input_gates", getattr(plain, "input_gates", every))
    for what, fed in (("input_gates", inputs), ("stages", tuple(g for s in stages for g in s.gates))):
        if tuple(sorted(fed)) != every:
            raise ValueError(
                f"{what}: expected each of the {len(every)} gates once, 0 to {every[-1]}, got {fed}"
            )
    slots = len(names["slots"])
    if len(inputs) > slots:
        raise ValueError(f"input_gates: {len(inputs)} gates feed {slots} slots")
    taken: set[int] = set()
    for stage in stages:
        fed_slots = set(range(stage.first, stage.first + len(stage.gates)))
        if stage.first < 0 or max(fed_slots) >= slots:
            raise ValueError(f"stages: {stage} feeds slots beyond the {slots} that there are")
        if taken & fed_slots:
            raise ValueError(f"stages: {stage} feeds slots that another stage feeds")
        taken |= fed_slots
    return {"input_gates": inputs, "stages": tuple(stages)}


def _gate_numbers(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not value or not all(type(v) is int for v in value):
        raise TypeError(f"{name}: expected a tuple of gates' numbers, got {value!r}")
    return tuple(value)


def _methods(plain: type, stages: int) -> dict[str, FunctionType]:
    """The equations, checked; with two stages those of the operand too."""
    found: dict[str, FunctionType] = {}
    for name, parameters in METHODS.items():
        method = getattr(plain, name, None)
        if name in _OPERAND_METHODS and stages == 1:
            if method is not None:
                raise ValueError(f"{name}: only a cell of two stages has one")
            continue
        text = f"def {name}({', '.join(parameters)})"
        if method is None:
            raise TypeError(f"{name}: missing, expected {text}")
        if not isinstance(method, FunctionType):
            raise TypeError(f"{name}: expected a method, {text}, got {method!r}")
        code = method.__code__
        taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if taken != parameters or code.co_kwonlyargcount or code.co_flags & 0x2C or method.__defaults__:
            raise TypeError(f"{name}: expected {text}, got the parameters ({', '.join(taken)})")
        _check_instructions(name, method)
        found[name] = method
    return found


def _check_instructions(name: str, method: FunctionType) -> None:
    """Refuse what cannot be compiled, with a clearer message than Numba's."""
    for used in global_names(method.__code__):
        value = method.__globals__.get(used)
        if isinstance(value, FunctionType) and value.__module__ != activations.__name__:
            raise TypeError(f"{name}: {used} is a plain function; equations call those of numba.njit")
    line, owner = method.__code__.co_firstlineno, None
    for instruction in dis.get_instructions(method):
        # Since Python 3.13 starts_line is a flag, and the number is elsewhere.
        number = getattr(instruction, "line_number", instruction.starts_line)
        line = number if type(number) is int else line
        value = instruction.argval
        owner = _loaded_object(instruction, owner, method.__globals__)
        if type(owner).__name__ == "ufunc":
            raise TypeError(
                f"{name}, line {line}: {value} is NumPy's, for arrays; equations call functions of "
                "lstm_numba.cells and math"
            )
        if instruction.opname.startswith(_DECISIONS):
            raise TypeError(
                f"{name}, line {line}: equations compute many units at once, for which a comparison or an if "
                "has no single answer; use relu, positive, min, max or abs"
            )
        if instruction.opname.startswith("LOAD_FAST") and (value == "self" or "self" in _as_tuple(value)):
            raise TypeError(f"{name}, line {line}: uses self; constants belong outside of the class")


def _loaded_object(instruction: dis.Instruction, owner: Any, names: dict[str, Any]) -> Any:
    """The object that an instruction loads: a global, or an attribute of the object loaded before it."""
    if instruction.opname == "LOAD_GLOBAL":
        return names.get(instruction.argval)
    is_attribute = owner is not None and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
    return getattr(owner, instruction.argval, None) if is_attribute else None


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()  # one instruction may load two variables


def _try_equations(class_name: str, cell: Any) -> None:
    """Run the equations on random numbers and check the form of what they return."""
    from lstm_numba.cells import evaluate

    rng, problem = random.Random(0), ""
    for _ in range(8):
        try:
            evaluate.run_once(cell, lambda: rng.uniform(0.1, 0.9))
            return
        except evaluate.WrongShape as error:
            raise ValueError(f"{class_name}: {error}") from None
        except Exception as error:  # a number may be outside a function's domain: try others
            problem = f"{type(error).__name__}: {error}"
    raise ValueError(f"{class_name}: the equations fail on numbers from 0.1 to 0.9: {problem}")
