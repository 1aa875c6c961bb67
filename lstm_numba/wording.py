"""How things are written: objects as the calls that make them, numbers with their nouns."""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Collection, Iterable

_EMPTY = inspect.Parameter.empty


def plural(number: int, noun: str) -> str:
    """A number and its noun: ``1 step``, ``2,323 steps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest_name(name: str, options: Iterable[str]) -> str | None:
    """The option that a misspelt name may have meant, whatever its case, or None."""
    # Of a file's names there may be tens of thousands, of any length, and each comparison takes a while.
    short = [option for option in itertools.islice(options, 2000) if len(option) <= 200]
    lower = {option.lower(): option for option in reversed(short)}
    near = difflib.get_close_matches(name[:200].lower(), lower, 1)
    return lower[near[0]] if near else None


def nearest(name: str, options: Iterable[str]) -> str:
    """What a misspelt name may have meant, for the end of a message; empty if nothing is near."""
    near = nearest_name(name, options)
    return f"; did you mean {near}?" if near else ""


def shown(instance: object, always: Collection[str] = (), never: Collection[str] = ()) -> str:
    """An object as a call that makes it: ``Adam(lr=0.01, eps=1e-06)``.

    Parameters
    ----------
    instance : object
        Has the arguments of its class as attributes of the same names.
    always, never : collection of str
        Arguments to be shown even where they are the defaults, or not at all.
    """
    arguments = []
    for name, parameter in inspect.signature(type(instance)).parameters.items():
        value = getattr(instance, name, _EMPTY)
        if value is _EMPTY or name in never:
            continue
        if name in always or value != parameter.default:
            arguments.append(f"{name}={value!r}")
    return f"{type(instance).__name__}({', '.join(arguments)})"
