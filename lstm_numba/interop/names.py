"""From the names that a file gives to parameters to ours, which are PyTorch's.

What others call the same arrays: PyTorch's modules ``weight_ih_l0``, its cells ``weight_ih``, many a loop by
hand ``w_ih`` and ``b_ih``; Equinox has ``bias``, and ``bias_n`` for the recurrent bias of a GRU's candidate
alone; Flax has a transposed ``kernel`` for each gate (``ii.kernel``, ``hf.bias``), or one for all
(``dense_i.kernel``). Sources: torch/nn/modules/rnn.py, equinox/nn/_rnn.py, flax/linen/recurrent.py,
flax/nnx/nn/recurrent.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from lstm_numba.cells import CELLS, find_cell
from lstm_numba.cells.parameters import suffix
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.wording import nearest

_PARAMETERS = "weight_ih|weight_hh|weight_ph|weight_hr|bias_ih|bias_hh"
_TARGET = re.compile(rf"({_PARAMETERS})(?:_l(0|[1-9]\d{{0,4}}))?(_reverse)?(?:\[([\w,]+)\])?(\.T)?")
_TEMPLATE = re.compile(r"\*(?:_l(0|[1-9]\d{0,4}))?(_reverse)?")


class Target(NamedTuple):
    """Where an array of a file goes.

    Parameters
    ----------
    parameter : str
        Our name without suffix, such as "weight_ih".
    layer, direction : int
    gates : str
        The gates that the array holds, in its order, such as "n" or "zrn"; empty for all of them in ours.
    transposed : bool
        Whether the file has the array's transpose.
    """

    parameter: str
    layer: int = 0
    direction: int = 0
    gates: str = ""
    transposed: bool = False

    @property
    def name(self) -> str:
        """Our name of the parameter."""
        return self.parameter + suffix(self.layer, self.direction)


def parse_target(text: str) -> Target:
    """Read a target such as ``weight_ih_l0``, ``bias_hh`` (of layer 0), ``weight_ih_l1_reverse[zrn].T``.

    Raises
    ------
    WeightsError
        It is none.
    """
    found = _TARGET.fullmatch(text)
    if found is None:
        raise WeightsError(
            f"names: {text[:80]!r}: expected one of {_PARAMETERS.replace('|', ', ')}, with _l0 and so on, "
            "_reverse, gates such as [zrn], .T"
        )
    return Target(
        found[1], int(found[2] or 0), int(found[3] is not None), found[4] or "", found[5] is not None
    )


# -- what others call them ----------------------------------------------------------------------------


def _torch(found: re.Match[str]) -> Target:
    kind = "weight" if found["kind"].lower().startswith("w") else "bias"
    layer = int(found["layer"] or 0)
    return Target(f"{kind}_{found['matrix'].lower()}", layer, int(found["reverse"] is not None))


def _flax(found: re.Match[str]) -> Target:
    kernel = found["what"] == "kernel"
    parameter = f"{'weight' if kernel else 'bias'}_{found['from']}h"
    return Target(parameter, gates=found["gate"] or "", transposed=kernel)


#: Pattern of the end of a name -> what the array is; "bias" alone ends names of the others too.
_CONVENTIONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Target]], ...] = tuple(
    (re.compile(rf"(?:^|(?<=[{before}])){pattern}$"), target)
    for before, pattern, target in (
        (
            "-./_:|",
            r"(?P<kind>weight|bias|[wWbB])_(?P<matrix>ih|hh|ph|hr)(_l(?P<layer>0|[1-9]\d{0,4}))?(?P<reverse>_reverse)?",
            _torch,
        ),
        ("./", r"(?P<from>[ih])(?P<gate>[ifgorzn])_?[./](?P<what>kernel|bias)", _flax),
        ("./", r"dense_(?P<from>[ih])(?P<gate>)[./](?P<what>kernel|bias)", _flax),
        ("./", r"bias", lambda found: Target("bias_ih")),
        ("./", r"bias_n", lambda found: Target("bias_hh", gates="n")),
    )
)


class Recognised(NamedTuple):
    """A name that is a parameter of a recurrent layer, by what others call them."""

    prefix: str
    target: Target


def recognise(name: str) -> Recognised | None:
    """What a name in a file means; None if it is no parameter of a recurrent layer."""
    for pattern, target in _CONVENTIONS:
        found = pattern.search(name)
        if found is not None:
            return Recognised(name[: found.start()], target(found))
    return None


def groups(names: Iterable[str]) -> dict[str, dict[str, Target]]:
    """The recurrent layers among the names of a file: for each prefix, file name -> target."""
    found: dict[str, dict[str, Target]] = {}
    for name in names:
        recognised = recognise(name)
        if recognised is not None:
            found.setdefault(recognised.prefix, {})[name] = recognised.target
    # "bias" ends many a name; without a weight it is none of a recurrent layer.
    return {
        prefix: targets
        for prefix, targets in found.items()
        if any(target.parameter in ("weight_ih", "weight_hh") for target in targets.values())
    }


# -- names that the caller gives ----------------------------------------------------------------------


def mapped(names: str | Mapping[str, str | None], tensors: Iterable[str], where: str) -> dict[str, Target]:
    """Apply a caller's `names`; see `lstm_numba.load_weights`.

    Returns
    -------
    dict of str to Target
        For the names in the file that are wanted.

    Raises
    ------
    WeightsError
        A key matches no name, a target is none, or a name that a pattern matches is not understood.
    """
    mapping = {names: "*"} if isinstance(names, str) else names
    if not isinstance(mapping, Mapping):
        raise TypeError(f"names: expected a pattern or a mapping, got {type(names).__name__}")
    known, found, left_out = list(tensors), dict[str, Target](), set[str]()
    for key in sorted(mapping, key=lambda key: "*" in key):  # exact names before patterns
        value, matches = mapping[key], _matches(key, known)
        if not matches:
            raise WeightsError(f"{where}: names: no tensor is named {key[:80]!r}{nearest(key, known)}")
        for name, star in matches.items():
            if name in found or name in left_out:
                continue
            if value is None:
                left_out.add(name)
            else:
                found[name] = _target(value, star, name, where)
    return found


def _matches(key: str, names: Iterable[str]) -> dict[str, str]:
    """The names that a key matches, each with what its ``*`` stands for."""
    if key.count("*") > 1:
        raise WeightsError(f"names: {key[:80]!r}: expected at most one *")
    if "*" not in key:
        return {name: "" for name in names if name == key}
    start, end = key.split("*")
    return {
        name: name[len(start) : len(name) - len(end)]
        for name in names
        if name.startswith(start) and name.endswith(end) and len(name) >= len(start) + len(end)
    }


def _target(value: str, star: str, name: str, where: str) -> Target:
    if not isinstance(value, str):
        raise TypeError(f"names: expected our names or None, got {type(value).__name__}")
    if "*" not in value:
        return parse_target(value)
    template = _TEMPLATE.fullmatch(value)
    if template is None:
        return parse_target(value.replace("*", star))
    recognised = recognise(star)
    if recognised is None or recognised.prefix:
        raise WeightsError(
            f"{where}: names: {name[:80]}: {star[:80]!r} is not the name of a recurrent parameter; "
            "give its name, or None to ignore it"
        )
    target = recognised.target
    if template[1] is not None:
        target = target._replace(layer=int(template[1]))
    return target._replace(direction=1) if template[2] else target


# -- the arrays under our names -----------------------------------------------------------------------


def assemble(
    targets: Mapping[str, Target], tensors: Mapping[str, Array], cell: str | None, where: str
) -> dict[str, Array]:
    """Put a file's arrays together to the parameters of a layer.

    Where a layer has one bias only, the other is zero: their sum is what an LSTM adds, and a GRU's candidate
    has its recurrent bias zero then.

    Parameters
    ----------
    targets : mapping of str to Target
        For each name in the file.
    tensors : mapping of str to ndarray
        The file's.
    cell : str, optional
        Whose gates the targets name; by default an LSTM or GRU, as the letters say.
    where : str
        File, for messages.

    Raises
    ------
    WeightsError
        Two arrays go to the same place, a gate is missing, or an array has other sizes.
    """
    parts: dict[str, dict[str, Target]] = {}
    for name, target in targets.items():
        parts.setdefault(target.name, {})[name] = target
    letters = {gate for target in targets.values() for gate in target.gates.replace(",", "")}
    cell = cell or _cell_of(letters, where)
    found = {ours: _joined(ours, names, tensors, cell, where) for ours, names in parts.items()}
    kinds = {target.parameter for target in targets.values()}
    for missing, other in (("bias_hh", "bias_ih"), ("bias_ih", "bias_hh")):
        if missing in kinds or other not in kinds:
            continue
        weight = missing.replace("bias", "weight")
        for ours in [ours for ours in found if ours.startswith(other)]:
            end = ours.removeprefix(other)
            rows = len(found[weight + end]) if weight + end in found else len(found[ours])
            found[missing + end] = np.zeros(rows, found[ours].dtype)
    return found


def _cell_of(letters: set[str], where: str) -> str | None:
    if not letters:
        return None
    for name in ("lstm", "gru"):
        if letters <= set(CELLS[name].gates):
            return name
    raise WeightsError(
        f"{where}: gates {', '.join(sorted(letters))}: neither an LSTM's nor a GRU's; name the cell"
    )


def _joined(
    ours: str, names: Mapping[str, Target], tensors: Mapping[str, Array], cell: str | None, where: str
) -> Array:
    """One parameter, out of one array or of several that hold some of its gates."""
    first = next(iter(names))
    if not any(target.gates for target in names.values()):
        if len(names) > 1:
            second = list(names)[1]
            raise WeightsError(f"{where}: {first[:80]} and {second[:80]} are both {ours}")
        return _upright(first, names[first], tensors[first], where)
    assert cell is not None
    order = _gates(ours, cell)
    blocks: dict[str, Array] = {}
    for name, target in names.items():
        held = _held(target.gates or ",".join(order), order, ours, cell, where)
        array = _upright(name, target, tensors[name], where)
        if array.ndim == 0 or len(array) % len(held):
            raise WeightsError(f"{where}: {name[:80]}: shape {array.shape} is not of {len(held)} gates")
        for gate, block in zip(held, np.split(array, len(held)), strict=True):
            if gate in blocks:
                raise WeightsError(f"{where}: {name[:80]}: gate {gate} of {ours} appears twice")
            blocks[gate] = block
    shapes = {block.shape for block in blocks.values()}
    if len(shapes) > 1:
        raise WeightsError(f"{where}: {ours}: gates of different shapes: {sorted(shapes)}")
    if ours.startswith("bias"):
        zero = np.zeros_like(next(iter(blocks.values())))
        blocks = {**dict.fromkeys(order, zero), **blocks}
    missing = [gate for gate in order if gate not in blocks]
    if missing:
        raise WeightsError(f"{where}: {ours}: gate {missing[0]} is missing")
    return np.concatenate([blocks[gate] for gate in order])


def _upright(name: str, target: Target, array: Array, where: str) -> Array:
    if not target.transposed:
        return array
    if array.ndim != 2:
        raise WeightsError(f"{where}: {name[:80]}: expected a matrix, got shape {array.shape}")
    return array.T


def _gates(ours: str, cell: str) -> tuple[str, ...]:
    """The gates of a parameter in our order, under the names that those of the input have."""
    found = find_cell(cell)
    recurrent = "hh" in ours and len(found.recurrent_gates) != len(found.gates)
    gates: tuple[str, ...] = found.recurrent_gates if recurrent else found.gates
    return gates


def _held(text: str, order: tuple[str, ...], ours: str, cell: str, where: str) -> list[str]:
    held = [text] if text in order else text.split(",") if "," in text else list(text)
    unknown = [gate for gate in held if gate not in order]
    if unknown:
        raise WeightsError(f"{where}: {ours}: {cell} has the gates {', '.join(order)}, not {unknown[0]}")
    return held
