"""Tensors in nested dictionaries, lists and objects under names such as ``model_state.lstm.weight_ih_l0``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.pickled.inert import Dictionary, Instance
from lstm_numba.interop.files.pickled.tensors import Tensor

#: Names at most, characters of a name, and containers on the ways to tensors: few bytes can share much.
_NAMES, _LENGTH, _STEPS = 1 << 16, 1000, 1 << 20
#: Containers in each other.
_DEPTH = 500
#: Bytes of all arrays, as a multiple of those that are there and at least: views can overlap, too.
_SHARED, _LEAST = 8, 1 << 24
#: Name of a file's only value.
_ALONE = "tensor"

_Items = list[tuple[str, Any]]


def flatten(value: Any) -> dict[str, Array]:
    """The arrays in a value that `lstm_numba.interop.files.pickled.instructions.unpickle` gives.

    Parameters
    ----------
    value : object
        Dictionaries, lists, tuples, objects and tensors, nested; what else there is has no part in it.

    Returns
    -------
    dict of str to ndarray
        Keys, places in lists and names of attributes, joined by dots -> array. The numbers of a tensor that
        has several names are the same array. Of an object only attributes that are tensors or objects count,
        as in a ``state_dict``.

    Raises
    ------
    WeightsError
        There is no tensor, two have the same name, one is not in the file, or containers hold themselves.
    """
    tensors = {_ALONE: value} if isinstance(value, Tensor) else _named(value)
    if not tensors:
        raise WeightsError("holds no tensors")
    _check_size(tensors)
    arrays: dict[int, Array] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in arrays:
            try:
                arrays[id(tensor)] = tensor.array()
            except (ValueError, OverflowError) as error:
                raise WeightsError(f"{name}: {one_line(error, 200)}") from None
    return {name: arrays[id(tensor)] for name, tensor in tensors.items()}


def _check_size(tensors: dict[str, Tensor]) -> None:
    """Refuse arrays that take much more memory than the numbers in the file."""
    said, held = 0, {}
    for name, tensor in tensors.items():
        try:
            said += tensor.size()
            source = tensor.source()
        except WeightsError as error:
            raise WeightsError(f"{name}: {error}") from None
        held[id(source)] = len(source)
    there = sum(held.values())
    if said > max(_SHARED * there, _LEAST):
        raise WeightsError(
            f"tensors of {said} bytes that share {there} bytes; at most {_SHARED} times are read"
        )


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values that may be tensors or lead to some."""
    if isinstance(value, Dictionary):
        kinds = (Instance, Tensor) if isinstance(value, Instance) else (Dictionary, Tensor, list, tuple)
        for key, child in value.entries.items():
            if isinstance(child, kinds):
                yield key if isinstance(key, str) else key[1], child
    elif isinstance(value, (list, tuple)):
        for number, child in enumerate(value):
            if isinstance(child, (Dictionary, Tensor, list, tuple)):
                yield str(number), child


def _ways(root: Any) -> dict[int, _Items]:
    """The children that lead to tensors, of every container that does; each is looked at once.

    What holds itself may do so where no tensor is.
    """
    ways: dict[int, _Items] = {}
    others: set[int] = set()
    circular: set[int] = set()
    path: list[tuple[str, Any, Iterator[tuple[str, Any]], _Items]] = [("", root, _children(root), [])]
    above = {id(root)}
    while path:
        key, value, rest, found = path[-1]
        item = next(rest, None)
        if item is not None:
            child = item[1]
            if isinstance(child, Tensor) or id(child) in ways:
                found.append(item)
            elif id(child) in above:
                circular.add(id(child))
            elif id(child) not in others:
                if len(path) > _DEPTH:
                    raise WeightsError(f"holds values nested more than {_DEPTH} deep")
                above.add(id(child))
                path.append((*item, _children(child), []))
            continue
        if found and id(value) in circular:
            name = ".".join(step[0] for step in path[1:])
            raise WeightsError(f"{one_line(name or 'its value', 200)}: holds itself, and tensors")
        path.pop()
        above.discard(id(value))
        if found:
            ways[id(value)] = found
            if path:
                path[-1][3].append((key, value))
        else:
            others.add(id(value))
    return ways


def _named(root: Any) -> dict[str, Tensor]:
    """Name -> tensor, in the order of the file."""
    ways = _ways(root)
    found: dict[str, Tensor] = {}
    path = [("", iter(ways.get(id(root), ())))]
    steps = 0
    while path:
        prefix, rest = path[-1]
        key, child = next(rest, ("", None))
        if child is None:
            path.pop()
            continue
        name, steps = prefix + key, steps + 1
        if len(name) > _LENGTH:
            raise WeightsError(f"a tensor with a name of more than {_LENGTH} characters: {name[:40]}...")
        if not isinstance(child, Tensor):
            path.append((f"{name}.", iter(ways[id(child)])))
        elif found.setdefault(name, child) is not child:
            raise WeightsError(f"{name}: two tensors have this name")
        if len(found) > _NAMES or steps > _STEPS:
            raise WeightsError(f"its tensors have more than {_NAMES} names")
    return found
