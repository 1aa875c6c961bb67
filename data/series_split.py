"""Sequences divided for training, validation and test, so that no row serves two of them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import replace

import numpy as np

from lstm_numba.data._random import permutation
from lstm_numba.data.file_io import fault, one_line
from lstm_numba.data.series_types import PARTS, Sequence, SeriesData
from lstm_numba.data.tables import Array
from lstm_numba.errors import DataError

#: Longest window that is guessed.
_LONGEST_GUESS = 32
#: Largest difference between numbers that count as constant: squares of smaller ones are zero.
_SMALLEST = 1e-150
#: Fewest steps of a sequence that is read as a whole.
_FEWEST = 2

Parts = dict[str, list[Sequence]]


def settle(data: SeriesData, has_groups: bool) -> SeriesData:
    """Settle window, horizon and split where the options do not say them.

    Raises
    ------
    DataError
        An option does not go with the task or with another.
    """
    options, guesses = data.options, list(data.guesses)
    if data.task != "forecast" and options.horizon is not None:
        raise DataError(f"--horizon: is for forecasts, not for --task {data.task}")
    windows = data.task == "forecast" or options.window is not None or not has_groups
    if not windows and options.stride != 1:
        raise DataError("--stride: is for windows, whole groups have none; give --window too")
    kind = options.split
    if kind is None:
        whole = not windows or (data.targets.one_each and len(data.sequences) >= len(PARTS))
        kind = "group" if whole else "time"
        how = "whole groups, shuffled" if whole else "each sequence is cut in the order of time"
        guesses.append(f"split: {kind}, {how}")
    if kind == "time" and not windows and data.targets.one_each:
        raise DataError("--split time: cuts sequences, which needs --window; or --split group")
    options = replace(options, split=kind)
    if data.task == "forecast" and options.horizon is None:
        options = replace(options, horizon=1)
        guesses.append("horizon: 1 step")
    if windows and options.window is None:
        options = replace(options, window=_guess_window(replace(data, options=options)))
        guesses.append(f"window: {_counted(int(options.window or 0), 'step')}")
    return replace(data, options=options, guesses=tuple(guesses))


def _guess_window(data: SeriesData) -> int:
    """Half of the shortest piece of the longest sequence, at most `_LONGEST_GUESS`."""
    longest = max(sequence.steps for sequence in data.sequences)
    if data.options.split == "time":
        cuts = _cuts(longest, data.options.validation, data.options.test)
        longest = min(b - a for a, b in zip((0, *cuts), (*cuts, longest), strict=True) if b > a)
    return max(1, min(_LONGEST_GUESS, longest // 2, longest - (data.options.horizon or 0)))


def _cuts(steps: int, validation: float, test: float) -> tuple[int, int]:
    """Where in a sequence the second and the third part begin."""
    tested = round(steps * test)
    return steps - tested - round(steps * validation), steps - tested


def split(data: SeriesData) -> Parts:
    """Divide the sequences of settled data; no row is in two parts.

    ``time``: each sequence is cut in the order of time: first what is trained on, then validation, then test.
    ``group``: all sequences of a name stay together; which names go where depends on the seed alone, and of
    classes each part gets its share. ``random``: the same with every sequence by itself.

    Returns
    -------
    dict of list of Sequence
        Pieces by "train", "valid" (unless its share is 0) and "test".

    Raises
    ------
    DataError
        There are too few sequences.
    """
    options = data.options
    names = [part for part in PARTS if part != "valid" or options.validation]
    parts: Parts = {name: [] for name in names}
    if options.split == "time":
        for sequence in data.sequences:
            cuts = _cuts(sequence.steps, options.validation, options.test)
            for name, first, last in zip(PARTS, (0, *cuts), (*cuts, sequence.steps), strict=True):
                if last > first:
                    parts[name].append(sequence.part(first, last))
        return parts
    owners = [s.name for s in data.sequences] if options.split == "group" else range(len(data.sequences))
    units = list(dict.fromkeys(owners))
    dealt = _deal(data, owners, units, names)
    for sequence, owner in zip(data.sequences, owners, strict=True):
        parts[dealt[owner]].append(sequence)
    return parts


def _deal(
    data: SeriesData, owners: SequenceOf[object], units: list[object], names: list[str]
) -> dict[object, str]:
    """The part of each unit: the shares of all classes are alike where each unit has one class."""
    options, count = data.options, len(units)
    shares = {"test": options.test, "valid": options.validation}
    sizes = {name: max(1, round(count * shares[name])) for name in names if name in shares}
    if count - sum(sizes.values()) < 1:
        raise DataError(
            f"--split {options.split}: expected at least {len(names)} groups or files for "
            f"{', '.join(names)}, and one left to train on, got {count}"
        )
    label = dict.fromkeys(units, 0.0)
    if data.task == "classify" and data.targets.one_each:
        label.update({owner: float(s.y[0, 0]) for owner, s in zip(owners, data.sequences, strict=True)})
    shuffled = [units[k] for k in permutation(count, "split", options.seed)]
    totals: dict[float, int] = {}
    ranks: dict[object, int] = {}
    for unit in shuffled:  # NaN, a missing class, is replaced: it is not equal to itself
        key = -1.0 if np.isnan(label[unit]) else label[unit]
        label[unit] = key
        ranks[unit] = totals.get(key, 0)
        totals[key] = ranks[unit] + 1
    ordered = sorted(shuffled, key=lambda unit: (ranks[unit] + 0.5) / totals[label[unit]])
    dealt = dict.fromkeys(units, "train")
    place = 0
    for name, size in sizes.items():
        dealt.update(dict.fromkeys(ordered[place : place + size], name))
        place += size
    return dealt


def _counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def needed_steps(data: SeriesData) -> int:
    """Steps of the shortest piece that gives an item."""
    options = data.options
    return _FEWEST if options.window is None else options.window + (options.horizon or 0)


def with_parts(data: SeriesData) -> SeriesData:
    """Divide the sequences, leave out what is too short or constant, and say what is missing.

    Raises
    ------
    DataError
        A part has nothing left, or nothing can be learnt: the target or the class is constant in training.
    """
    guesses = list(data.guesses)
    parts = _long_enough(data, split(data), guesses)
    kept = _varying(data, parts["train"], guesses)
    _check_targets(data, parts, guesses)
    if not all(kept):
        chosen = np.flatnonzero(kept)
        features = tuple(data.features[k] for k in chosen)
        parts = {name: [s._replace(x=s.x[:, chosen]) for s in pieces] for name, pieces in parts.items()}
        sequences = tuple(s._replace(x=s.x[:, chosen]) for s in data.sequences)
        data = replace(data, features=features, sequences=sequences)
    if not data.features:
        raise fault(data.sequences[0].file, "no features are left to predict from")
    guesses += _missing(data)
    return replace(data, parts=parts, guesses=tuple(guesses))


def _long_enough(data: SeriesData, parts: Parts, guesses: list[str]) -> Parts:
    options, needed = data.options, needed_steps(data)
    found: Parts = {}
    for name, pieces in parts.items():
        found[name] = [piece for piece in pieces if piece.steps >= needed]
        short = [piece for piece in pieces if piece.steps < needed]
        if not found[name]:
            longest = max((piece.steps for piece in pieces), default=0)
            file = data.sequences[0].file
            raise fault(file, f"the {name} part is too short: {_needs(data, longest)}")
        if short:
            shown = one_line(short[0].name, 60)
            few = f"{len(short)} pieces are" if len(short) > 1 else "one piece is"
            guesses.append(
                f"{name}: {few} shorter than the {needed} steps needed and left out, the first of {shown}, "
                f"with {short[0].steps}"
            )
    if options.split != "time":
        counts = ", ".join(f"{len(pieces)} {name}" for name, pieces in found.items())
        guesses.append(f"groups: {counts}")
    return found


def _needs(data: SeriesData, longest: int) -> str:
    options = data.options
    if options.window is None:
        return f"its longest group has {_counted(longest, 'row')}, expected at least {_FEWEST}"
    horizon = f" and a horizon of {options.horizon}" if options.horizon else ""
    return (
        f"its longest piece has {_counted(longest, 'row')}, {needed_steps(data)} are needed for a window of "
        f"{options.window}{horizon}; make the window smaller or the part's share larger"
    )


def _varying(data: SeriesData, train: SequenceOf[Sequence], guesses: list[str]) -> list[bool]:
    """Whether each feature changes in training; targets of forecasts are checked as targets."""
    kept = []
    for k, name in enumerate(data.features):
        own = data.task == "forecast" and name in data.targets.names
        values = np.concatenate([sequence.x[:, k] for sequence in train])
        known = values[~np.isnan(values)]
        kept.append(own or (len(known) > 0 and _spread(known) > _SMALLEST))
        if not kept[-1]:
            what = f"constant ({known[0]:g})" if len(known) else "missing"
            guesses.append(f"feature {name} is {what} in the training part and left out")
    return kept


def _spread(known: Array) -> float:
    return float(np.max(known) - np.min(known))


def _check_targets(data: SeriesData, parts: Parts, guesses: list[str]) -> None:
    file = data.sequences[0].file
    for k, name in enumerate(data.targets.names):
        known = _known(parts["train"], k)
        if len(known) == 0:
            raise fault(file, f"column {name}: the target is missing in the whole training part")
        if _spread(known) <= _SMALLEST:
            what = f"{known[0]:g}" if not data.classes else one_line(repr(data.classes[int(known[0])]), 60)
            raise fault(file, f"column {name}: the target is constant ({what}) in the training part")
        for part, pieces in parts.items():
            if not len(_known(pieces, k)):
                raise fault(file, f"column {name}: the target is missing in the whole {part} part")
        if data.classes:
            absent = [text for code, text in enumerate(data.classes) if code not in known]
            if absent:
                shown = ", ".join(one_line(text, 40) for text in absent[:5])
                guesses.append(f"classes without an example in the training part: {shown}")


def _known(pieces: SequenceOf[Sequence], target: int) -> Array:
    values: Array = np.concatenate([piece.y[:, target] for piece in pieces])
    return values[~np.isnan(values)]


def _missing(data: SeriesData) -> list[str]:
    """What is to be said of missing numbers."""
    said = []
    holes = sum(int(np.isnan(s.x).sum()) for s in data.sequences)
    if holes:
        names = [
            name
            for k, name in enumerate(data.features)
            if any(np.isnan(s.x[:, k]).any() for s in data.sequences)
        ]
        shown = ", ".join(one_line(name, 40) for name in names[:5]) + (" ..." if len(names) > 5 else "")
        said.append(f"{holes} missing numbers in {shown}: the value before is taken, else the training mean")
    lost = sum(int(np.isnan(s.y).sum()) for s in data.sequences)
    if lost:
        said.append(f"{lost} missing values of {', '.join(data.targets.names)} are not counted as targets")
    return said
