"""Signatures that show every option, each said once; what is not an option is refused by name."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from lstm_numba.wording import nearest

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

_KEYWORD, _REST = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
_EMPTY = inspect.Parameter.empty


def explicit(*sources: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator of a function that hands its ``**options`` on: it shows them, and refuses others.

    Parameters
    ----------
    *sources : callable
        Where the options are said: functions, or a NamedTuple. Their parameters with a default stand in the
        place of ``**options``, but for those that the function names itself. With none, the function says all
        of its options itself.

    Notes
    -----
    The function raises a TypeError for an argument of another name, which gives the nearest option.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not _REST]
        hints = {name: hint for name, hint in function.__annotations__.items() if _is_shown(name, own)}
        for source in sources:
            named, types = {p.name for p in parameters}, typing.get_type_hints(source)
            for name, found in inspect.signature(source).parameters.items():
                if found.default is not _EMPTY and name not in named:
                    parameters.append(found.replace(kind=_KEYWORD, annotation=_text(found.annotation)))
                    hints[name] = types[name]
        names = frozenset(p.name for p in parameters)

        @functools.wraps(function)
        def checked(*arguments: Any, **options: Any) -> Any:
            if not names.issuperset(options):
                raise TypeError(_unknown(options, [p.name for p in parameters if p.default is not _EMPTY]))
            return function(*arguments, **options)

        checked.__annotations__ = hints
        checked.__dict__["__signature__"] = own.replace(parameters=parameters)
        return typing.cast(F, checked)

    return decorate


def explicit_as(
    source: Callable[Concatenate[Any, Any, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """`explicit` for a method whose parameters are all those of `source`, but for one after ``self``.

    Type checkers then see the defaults too. They cannot where a function has options of its own.
    """
    return explicit(source)


def _is_shown(name: str, signature: inspect.Signature) -> bool:
    return name not in signature.parameters or signature.parameters[name].kind is not _REST


def _text(annotation: Any) -> Any:
    """An annotation as it was written, which a NamedTuple wraps."""
    return getattr(annotation, "__forward_arg__", annotation)


def _unknown(given: Iterable[str], options: list[str]) -> str:
    name = next(name for name in given if name not in options)
    return f"{name}: no such option" + (nearest(name, options) or f"; expected one of {', '.join(options)}")
