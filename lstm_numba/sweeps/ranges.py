"""Ranges of a sweep: what a setting is drawn from, and all combinations of some of their values."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import UserError
from lstm_numba.training.config import shown
from lstm_numba.training.setting import Choice, Range, Setting, check_flag, check_names, is_number
from lstm_numba.wording import nearest

#: Words of a range that is a table.
_WORDS = ("low", "high", "step", "log", "choices", "when")
#: Values of a range with steps that are all tried by a check of combinations; of longer ones its ends.
_FEW = 16


class SweepError(UserError):
    """A sweep cannot begin, or go on; one line that names file and key.

    Parameters
    ----------
    text : str
    word : str
        In a range, the word of its table that is at fault.
    """

    def __init__(self, text: str, word: str = "") -> None:
        super().__init__(f"{word}: {text}" if word else text)
        self.word = word


@dataclass(frozen=True)
class Domain:
    """What one setting is drawn from: `choices`, or numbers from `low` to `high`.

    Attributes
    ----------
    name : str
        Name of the setting.
    choices : tuple
        Empty for numbers.
    low, high : float or int
        Both are drawn too.
    step : float or int, optional
        Distance of neighbouring values, from `low`; None for all numbers, of whole ones 1.
    log : bool
        Equal ratios are equally likely, not equal differences.
    whole : bool
        Whole numbers.
    when : dict of tuple
        Range -> its values with which this setting is drawn at all.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: Any = 0
    high: Any = 0
    step: Any = None
    log: bool = False
    whole: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def active(self, params: Mapping[str, Any]) -> bool:
        """Whether the setting is drawn beside these."""
        return all(params.get(name) in values for name, values in self.when.items())

    def values(self) -> list[Any] | None:
        """All values in order; None where there is no end of them."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        return [self._at(k, step) for k in range(round((self.high - self.low) / step) + 1)]

    def some_values(self) -> list[Any]:
        """All values if they are few, else the ends, and the second one, where there are steps."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.whole else None)
        if step is None:
            return [self.low, self.high]
        count = round((self.high - self.low) / step) + 1
        places = range(count) if count <= _FEW else (0, 1, count - 1)
        return [self._at(k, step) for k in places]

    def _at(self, place: int, step: Any) -> Any:
        """A value, without the last bits of a sum: 0.3, not 0.30000000000000004."""
        value = self.low + place * step
        return value if self.whole else float(f"{value:.12g}")

    def raw(self) -> dict[str, Any]:
        """As JSON can hold it, to compare with what a study was begun with."""
        if self.choices:
            kept: dict[str, Any] = {"choices": list(self.choices)}
        else:
            kept = {"low": self.low, "high": self.high}
            kept |= {"step": self.step} if self.step is not None else {}
            kept |= {"log": True} if self.log else {}
        return kept | ({"when": {name: list(of) for name, of in self.when.items()}} if self.when else {})

    def text(self) -> str:
        """As a message says it."""
        if self.choices:
            found = f"[{', '.join(map(str, self.choices))}]"
        else:
            step = f" in steps of {self.step}" if self.step is not None else ""
            found = f"{self.low} to {self.high}{step}{', logarithmic' if self.log else ''}"
        return found + "".join(
            f" when {name} is {' or '.join(map(str, values))}" for name, values in self.when.items()
        )


def permitted(setting: Setting) -> Callable[[Any], str]:
    """The check of what a user may write: as an option of ``train``, where 0 may stand for none."""
    check = setting.check
    if isinstance(check, Range):
        return replace(check, above=check.above and not setting.zero_is_none)
    return check


def read_domain(name: str, setting: Setting, value: Any) -> Domain:
    """A range out of the file.

    Parameters
    ----------
    name : str
        Name of the setting.
    setting : Setting
    value : object
        What the file has under that name; `when` is not looked at, see `read_conditions`.

    Raises
    ------
    SweepError
        It is no range, or not of values that the setting may have.
    """
    if setting.check is check_names:
        raise SweepError("cannot be a range, only a fixed value")
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise SweepError(
            f"expected a list of values, or {{low = ..., high = ...}}, got {shown(value)}; "
            "put a single value under [fixed]"
        )
    for word in value:
        if word not in _WORDS:
            raise SweepError(f"no such key{nearest(word, _WORDS) or _list(_WORDS)}", one_line(word, 80))
    if "choices" in value:
        return _read_choices(name, setting, value)
    if not isinstance(setting.check, Range):
        raise SweepError(f"expected a list of values{_possible(setting)}, got {shown(value)}")
    return _read_numbers(name, setting.check.whole, permitted(setting), value)


def _list(words: tuple[str, ...]) -> str:
    return f"; expected one of {', '.join(words)}"


def _possible(setting: Setting) -> str:
    if setting.check is check_flag:
        return ", [true, false]"
    return f" of {', '.join(map(str, setting.check.values))}" if isinstance(setting.check, Choice) else ""


def _read_choices(name: str, setting: Setting, value: Mapping[str, Any]) -> Domain:
    beside = next((word for word in ("low", "high", "step", "log") if word in value), None)
    if beside is not None:
        raise SweepError("does not go with choices", beside)
    choices = value["choices"]
    if not isinstance(choices, list) or len(choices) < 2:
        raise SweepError(
            f"expected a list of two or more values, got {shown(choices)}; put a single value under [fixed]"
        )
    check = permitted(setting)
    for one in choices:
        expected = check(one)
        if expected:
            raise SweepError(f"expected {expected}, got {shown(one)}")
    if isinstance(setting.check, Range) and not setting.check.whole:
        choices = [float(one) for one in choices]
    twice = next((one for one in choices if choices.count(one) > 1), None)
    if twice is not None:
        raise SweepError(f"{shown(twice)} appears twice")
    return Domain(name, tuple(choices))


def _read_numbers(name: str, whole: bool, check: Callable[[Any], str], value: Mapping[str, Any]) -> Domain:
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise SweepError(f"expected true or false, got {shown(log)}", "log")
    for word in ("low", "high"):
        if word not in value:
            raise SweepError("is missing", word)
        expected = check(value[word])
        if expected:
            raise SweepError(f"expected {expected}, got {shown(value[word])}", word)
    low, high = (value[word] if whole else float(value[word]) for word in ("low", "high"))
    if low >= high:
        raise SweepError(f"expected more than low, {low}, got {high}", "high")
    if log and low <= 0:
        raise SweepError(f"expected a number above 0, as log = true, got {low}", "low")
    step = value.get("step")
    if step is not None:
        if log:
            raise SweepError("does not go with log = true", "step")
        step = _read_step(step, low, high, whole)
    return Domain(name, (), low, high, step, log, whole)


def _read_step(step: Any, low: Any, high: Any, whole: bool) -> Any:
    """The step; the range must be a number of them, so that `high` is drawn too."""
    if (whole and type(step) is not int) or not is_number(step) or step <= 0:
        raise SweepError(f"expected a {'whole ' if whole else ''}number above 0, got {shown(step)}", "step")
    count = (high - low) / step
    if count < 0.5 or abs(count - round(count)) > 1e-6 * max(count, 1):
        near = low + step * max(math.floor(count), 1)
        raise SweepError(f"expected low and some steps of {step}, such as {near:g}, got {high}", "high")
    return step if whole else float(step)


def read_conditions(
    domains: Mapping[str, Domain], name: str, value: Any, key: Callable[[str], str]
) -> Domain:
    """A range with its condition, ``when = {optimizer = ["sgd"]}``.

    Parameters
    ----------
    domains : dict of Domain
        All ranges by name.
    name : str
        The range whose condition it is.
    value : object
        What the file has.
    key : callable
        Setting's name of a name in the file.

    Raises
    ------
    SweepError
        The condition names no other range with choices, or no value of it, or that has a condition itself.
    """
    if not isinstance(value, dict) or not value:
        raise SweepError(f'expected a table such as {{optimizer = "sgd"}}, got {shown(value)}', "when")
    when: dict[str, tuple[Any, ...]] = {}
    possible = [other for other, one in domains.items() if one.choices and other != name]
    for written, wanted in value.items():
        other = key(written)
        if other not in possible:
            hint = nearest(other, possible) or f"; there are {', '.join(possible) or 'none'}"
            raise SweepError(f"expected another range that is a list{hint}", f"when.{one_line(written, 80)}")
        values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        missing = [one for one in values if one not in domains[other].choices]
        if missing or not values:
            choices = ", ".join(map(str, domains[other].choices))
            raise SweepError(
                f"expected some of {choices}, got {shown(wanted)}", f"when.{one_line(written, 80)}"
            )
        when[other] = values
    return replace(domains[name], when=when)


def combinations(domains: Mapping[str, Domain], points: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """All combinations of the points of the ranges, the last one changing fastest.

    Parameters
    ----------
    domains : dict of Domain
        In an order in which conditions come after what they name.
    points : dict of list
        Values of each range.
    """
    names = list(domains)

    def extend(place: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if place == len(names):
            yield params
            return
        name = names[place]
        if not domains[name].active(params):
            yield from extend(place + 1, params)
            return
        for value in points[name]:
            yield from extend(place + 1, {**params, name: value})

    return extend(0, {})


def some_combinations(domains: Mapping[str, Domain], limit: int) -> Iterator[dict[str, Any]]:
    """Combinations to try a check on: all of the ranges' `Domain.some_values`, or as many at random."""
    points = {name: one.some_values() for name, one in domains.items()}
    if math.prod(map(len, points.values())) <= limit:
        return combinations(domains, points)
    rng = random.Random(0)
    drawn = ({name: [rng.choice(values)] for name, values in points.items()} for _ in range(limit))
    return itertools.chain.from_iterable(combinations(domains, one) for one in drawn)
