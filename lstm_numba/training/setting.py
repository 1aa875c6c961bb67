"""What a setting may be, and what is known of one beside its name and default; the data sets' names."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CLASSIFIERS = ("mnist", "digits", "images")
LANGUAGE_MODELS = ("ptb", "text", "grammar")
SERIES = ("series",)
DATASETS = ("mnist", "ptb", "text", "series", "images", "digits", "grammar")
#: Measures of evaluations beside loss, accuracy and perplexity, and how they are called.
MEASURES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mase": "MASE",
    "nse": "NSE",
    "macro_f1": "macro-F1",
    "roc_auc": "ROC-AUC",
}
#: Headings of the command line's help, in their order.
NETWORK, OPTIMISATION, DATA, RUN = SECTIONS = ("Network", "Optimization", "Data", "Run")


def is_number(value: Any) -> bool:
    """Whether a value out of JSON is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # no conversion: of 10**400 it fails


@dataclass(frozen=True)
class Range:
    """A check for numbers, as are the functions below: it returns what was expected, "" for a good value.

    Attributes
    ----------
    low, high : float
        Bounds.
    above, below : bool
        The bound itself is excluded.
    whole : bool
        Integers only.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def __call__(self, value: Any) -> str:
        """Check a value."""
        number = is_number(value) if not self.whole else type(value) is int
        inside = number and self.low <= value <= self.high
        if inside and not (self.above and value == self.low) and not (self.below and value == self.high):
            return ""
        text = f"a {'whole ' if self.whole else ''}number {'above' if self.above else 'from'} {self.low:g}"
        if self.whole:
            return f"{text} to {self.high}" if number and value > self.high else text
        return text + (f" {'below' if self.below else 'to'} {self.high:g}" if self.high < math.inf else "")


@dataclass(frozen=True)
class Choice:
    """A check for one of some values."""

    values: tuple[Any, ...]

    def __call__(self, value: Any) -> str:
        """Check a value."""
        return "" if value in self.values else f"one of {', '.join(map(str, self.values))}"


def check_flag(value: Any) -> str:
    """Check a truth value."""
    return "" if isinstance(value, bool) else "true or false"


def check_text(value: Any) -> str:
    """Check a text, which may be a path."""
    return "" if isinstance(value, str) and "\0" not in value else "a text"


def check_names(value: Any) -> str:
    """Check a list of texts, with at least one."""
    good = isinstance(value, list) and value and not any(map(check_text, value)) and all(value)
    return "" if good else "a list of texts"


#: Larger counts are typing errors, and would overflow somewhere deep inside.
NATURAL = Range(0, 2**31 - 1, whole=True)
POSITIVE = Range(1, 2**31 - 1, whole=True)
SEED = Range(0, 2**64 - 1, whole=True)
NOT_NEGATIVE = Range(0)
ABOVE_0 = Range(0, above=True)
WHOLE_ABOVE_0 = Range(0, 2**31 - 1, above=True, whole=True)
PROBABILITY = Range(0, 1, below=True)


class Setting(NamedTuple):
    """What is known of a setting beside its name and default.

    Attributes
    ----------
    check : callable
        See `Range`.
    optional : bool
        It may be None too.
    help : str
        Empty: `lstm-numba train` has no option for it, or one that other commands share.
    section : str
        Heading in help.
    only : tuple of str
        Data sets that have it.
    zero_is_none : bool
        A user's 0 is stored as None.
    unset : str
        Shown as the default where that is None.
    option, metavar : str, optional
        The option's name, and what help shows of its value, where they do not follow from name and check.
    later : bool
        The ``config.json`` of an earlier version may lack it: then it has its default.
    """

    check: Callable[[Any], str]
    optional: bool
    help: str = ""
    section: str = NETWORK
    only: tuple[str, ...] = DATASETS
    zero_is_none: bool = False
    unset: str = ""
    option: str | None = None
    metavar: str | None = None
    later: bool = False

    def refuse(self, value: Any) -> str:
        """What was expected, "" for a good value."""
        return "" if self.optional and value is None else self.check(value)


def setting(default: Any, check: Callable[[Any], str], *args: Any, **more: Any) -> Any:
    """A dataclass field with its `Setting`."""
    optional = default is None or more.get("zero_is_none", False)
    return field(default=default, metadata={"setting": Setting(check, optional, *args, **more)})
