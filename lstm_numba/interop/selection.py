"""Which tensors of a weights file make a recurrent layer, and a linear layer after it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lstm_numba.cells import find_cell
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop import names as naming
from lstm_numba.interop.files.contents import Array, Contents, listed
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.training.settings import is_own_cell
from lstm_numba.wording import nearest

#: A name that only a recurrent layer has; one that is not known makes another layer of it.
_RECURRENT = re.compile(r"(weight|bias)_\w+_l\d+(_reverse)?")
#: Ends of a linear layer's names after its own -> whether the file has the transpose.
_HEAD_WEIGHTS = {"weight": False, "w": False, "W": False, "kernel": True}
_HEAD_BIASES = ("bias", "b")
_JOINTS = (".", "/", "_", "")
#: What ends a part of a name.
_BOUNDARIES = tuple("./_-:|")
#: Names of linear layers without a bias.
_LINEAR = re.compile(r"(^|[^a-z])(lin|linear|fc|out|output|head|dense|proj|logits?|classifier)([^a-z]|$)")


class Selected(NamedTuple):
    """The parameters of a layer.

    Parameters
    ----------
    params : dict of str to ndarray
        Under PyTorch's names.
    cell : str or None
        Cell, where the caller or the file says it.
    prefix : str
        What the file's names begin with; empty where the caller gave names.
    used : set of str
        Names in the file.
    notes : tuple of str
        What the user must know.
    """

    params: dict[str, Array]
    cell: str | None
    prefix: str
    used: set[str]
    notes: tuple[str, ...]


def select(
    contents: Contents,
    where: str,
    *,
    prefix: str | None = None,
    names: str | Mapping[str, str | None] | None = None,
    cell: str | None = None,
    known: Iterable[str] = (),
    allow_nonfinite: bool = False,
) -> Selected:
    """Find the parameters of one recurrent layer; see `lstm_numba.load_weights`.

    Parameters
    ----------
    contents : Contents
    where : str
        File, for messages.
    known : iterable of str
        Names in the file that something else takes.

    Raises
    ------
    WeightsError
        There is none, or several, or names do not fit.
    """
    tensors, notes, known = contents.tensors, list[str](), set(known)
    if names is not None:
        if prefix is not None:
            raise TypeError("prefix: expected names or prefix, got both")
        targets = naming.mapped(names, tensors, where)
        prefixes = {_start(name) for name in targets}
        prefix = prefixes.pop() if len(prefixes) == 1 else ""
    else:
        found = naming.groups(tensors)
        if not found and known:
            raise WeightsError(
                f"{where}: holds no recurrent layer, by the names of its tensors; names={{...}} gives one"
            )
        prefix = choose_prefix(found, prefix, where)
        targets = found.get(prefix, {})
        notes += _left_out(prefix, found, [name for name in tensors if name not in known], where)
    if cell is None:
        cell = known_cell(where, contents.cells.get(prefix, contents.cells.get("")))
    arrays = {name: as_float(name, tensors[name], where, finite=not allow_nonfinite) for name in targets}
    params = naming.assemble(targets, arrays, cell, where)
    used = set(targets)
    return Selected(params, cell, prefix, used, (*contents.notes_beside(used | known), *notes))


def _start(name: str) -> str:
    recognised = naming.recognise(name)
    return "" if recognised is None else recognised.prefix


def choose_prefix(found: Mapping[str, Mapping[str, Any]], prefix: str | None, where: str) -> str:
    """The prefix of the only layer in a file, or of the only one whose names' first parts are `prefix`.

    Raises
    ------
    WeightsError
        There are several, or none with that prefix.
    """
    if prefix is not None and prefix not in found:
        below = [start for start in found if _begins(start, prefix)]
        if not below:
            inside = next((f"; did you mean {start}?" for start in found if start.startswith(prefix)), "")
            near = inside or nearest(prefix, found) or f"; those in the file: {listed(found) or 'none'}"
            raise WeightsError(f"{where}: prefix: no recurrent layer is named {prefix[:80]!r}{near}")
        if len(below) > 1:
            raise WeightsError(f"{where}: prefix: expected one of {sorted(below)}, got {prefix[:80]!r}")
        return below[0]
    if prefix is None and len(found) > 1:
        raise WeightsError(f"{where}: prefix: expected one of {sorted(found)}, got none")
    return next(iter(found), "") if prefix is None else prefix


def _begins(start: str, prefix: str) -> bool:
    """Whether a name begins with the whole parts `prefix`, with or without what ends the last one."""
    ended = not prefix or prefix.endswith(_BOUNDARIES)
    return start.startswith(prefix) and (ended or start.startswith(_BOUNDARIES, len(prefix)))


def _left_out(
    prefix: str, found: Mapping[str, Mapping[str, Any]], others: Iterable[str], where: str
) -> list[str]:
    """What to tell of tensors that stand among a layer's and are none of its parameters.

    In a module of its own (``lstm.``), or among bare names, they would belong to the layer, which then
    computes something else than any layer here; beside others (``enc_emb``) they may be anything.
    """
    layers = {name for targets in found.values() for name in targets}
    beside = [name for name in others if name.startswith(prefix) and name not in layers]
    for name in beside:
        rest = name[len(prefix) :]
        if not prefix or prefix.endswith((".", "/")) or _RECURRENT.fullmatch(rest):
            advice = f"names={{{name[:80]!r}: None, {prefix + '*'!r}: '*'}} leaves it out"
            raise WeightsError(f"{where}: {name[:80]}: unknown name; {advice}")
    # What stands before a layer is never part of it.
    beside = [name for name in beside if "emb" not in name[len(prefix) :]]
    return [f"not read, as no layer has it: {listed(beside)}"] if beside and found else []


class Head(NamedTuple):
    """A linear layer: weight (O, D*H), bias (O,) or none, and their names in the file."""

    weight: Array
    bias: Array | None
    used: set[str]


def find_head(
    tensors: Mapping[str, Array],
    head: str | Mapping[str, str],
    where: str,
    *,
    allow_nonfinite: bool = False,
) -> Head:
    """Find a linear layer; see `lstm_numba.load_weights`.

    Raises
    ------
    WeightsError
        There is no matrix of that name.
    """
    names = dict(head) if isinstance(head, Mapping) else _head_names(tensors, head, where)
    found: dict[str, Array] = {}
    for name, ours in names.items():
        if name not in tensors:
            raise WeightsError(f"{where}: head: no tensor is named {name[:80]!r}{nearest(name, tensors)}")
        array = as_float(name, tensors[name], where, finite=not allow_nonfinite)
        kind = ours.removesuffix(".T")
        if kind not in ("weight", "bias") or kind in found:
            raise WeightsError(f"head: {ours[:80]!r}: expected weight, weight.T and bias, each once at most")
        dimensions = 2 if kind == "weight" else 1
        if array.ndim != dimensions or 0 in array.shape:
            expected = "a matrix" if kind == "weight" else "a vector"
            raise WeightsError(f"{where}: {name[:80]}: expected {expected}, got shape {array.shape}")
        found[kind] = array.T if ours.endswith(".T") else array
    if "weight" not in found:
        raise WeightsError(f"head: expected a name for weight, got {', '.join(names.values())[:80]}")
    weight, bias = found["weight"], found.get("bias")
    if bias is not None and len(bias) != len(weight):
        raise WeightsError(f"{where}: head: weight has {len(weight)} rows, bias {len(bias)}")
    return Head(weight, bias, set(names))


def _head_names(tensors: Mapping[str, Array], head: str, where: str) -> dict[str, str]:
    for joint in _JOINTS:
        for end, transposed in _HEAD_WEIGHTS.items():
            if head + joint + end not in tensors:
                continue
            names = {head + joint + end: "weight.T" if transposed else "weight"}
            biases = [head + joint + end for end in _HEAD_BIASES if head + joint + end in tensors]
            return {**names, **dict.fromkeys(biases[:1], "bias")}
    starts = {
        name.removesuffix(joint + end) for name in tensors for joint in _JOINTS[:3] for end in _HEAD_WEIGHTS
        if name.endswith(joint + end)
    }  # fmt: skip
    near = nearest(head, starts) or f"; those in the file: {listed(heads(tensors)) or 'none'}"
    raise WeightsError(f"{where}: head: no linear layer is named {head[:80]!r}{near}")


def heads(tensors: Mapping[str, Array]) -> list[str]:
    """Names of what may be linear layers: matrices with a bias, or that say so, other than embeddings."""
    found: dict[str, None] = {}
    for name, array in tensors.items():
        if array.ndim != 2 or array.dtype.kind != "f" or naming.recognise(name) is not None:
            continue
        for joint, end in itertools.product(_JOINTS[:3], _HEAD_WEIGHTS):
            start = name.removesuffix(joint + end)
            biased = any(start + joint + bias in tensors for bias in _HEAD_BIASES)
            if start not in (name, "") and (biased or _LINEAR.search(start.lower())):
                found[start] = None
    return list(found)


def known_cell(path: Any, name: Any) -> str | None:
    """Check the cell name of a file, None if it has none.

    Raises
    ------
    WeightsError
        There is no such cell.
    """
    if name is None:
        return None
    try:
        find_cell(name)
    except (TypeError, ValueError) as error:
        if isinstance(name, str) and "," in name:
            raise WeightsError(f"{path}: {one_line(error, 120)}") from None
    else:
        return str(name)
    hint = f"; import its module first (--cell {name} in a command)" if is_own_cell(name) else ""
    raise WeightsError(f"{path}: of a cell {one_line(name, 120)!r}, which is unknown here{hint}")
