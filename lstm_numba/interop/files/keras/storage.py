"""Where Keras keeps weights in HDF5: the groups of Keras 3, and those of Keras 2, by layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.hdf5.data import Dataset
from lstm_numba.interop.files.hdf5.reader import Group
from lstm_numba.interop.files.keras.layout import PARTS
from lstm_numba.interop.files.keras.model import Layer

#: Names of the attribute in which Keras 2 lists layers, and those for each layer's arrays.
LAYER_NAMES, _WEIGHT_NAMES = "layer_names", "weight_names"
#: Groups of Keras 3 that hold no weights of the network.
_OTHERS = ("optimizer", "seed_generator")
#: Groups of Keras 3 on the way from a layer to the weights of its cells.
_INNER = ("cell", "forward_layer", "backward_layer", "layer")
#: The same in Keras 2's names of weights.
_OF_A_CELL = re.compile(r"(forward|backward)_.*|.*_cell(_\d+)?")


class Part(NamedTuple):
    """Arrays that belong together: those of one direction, or of a layer that is not recurrent.

    Parameters
    ----------
    label : str
        Where they are.
    arrays : dict of str to ndarray
        By Keras 2's names (``kernel``), or Keras 3's numbers.
    """

    label: str
    arrays: dict[str, Array]

    def recurrent(self) -> list[Array] | None:
        """Kernel, recurrent kernel and bias, if there is one; None if these are other arrays."""
        names = list(self.arrays)
        if names in (["0", "1"], ["0", "1", "2"]) and "cell" in self.label.split("/"):
            return list(self.arrays.values())
        if sorted(names) in (sorted(PARTS), sorted(PARTS[:2])):
            return [self.arrays[name] for name in PARTS if name in self.arrays]
        return None


#: Layers with their arrays; the second direction after the first.
Stored = list[tuple[Layer, list[Part]]]


def read_keras_3(root: Group, layers: Sequence[Layer]) -> Stored:
    """Weights of Keras 3, for each layer of a model; without `layers` as many as the groups tell.

    Raises
    ------
    WeightsError
        A dataset is damaged.
    """
    known = {layer.path: layer for layer in layers}
    found: dict[tuple[str, ...], tuple[Layer, list[Part]]] = {}
    for path, group in _variables(root, ()):
        place = path
        while place and place not in known:
            place = place[:-1]
        if not place:
            place = _layer_path(path)
            known[place] = Layer(_name(root, place), _kind(path), {}, place)
        label = "/".join(path)
        arrays = {name: group.array(name) for name in sorted(group.members, key=_natural)}
        found.setdefault(place, (known[place], []))[1].append(Part(label, arrays))
    for _, parts in found.values():
        parts.sort(key=lambda part: "backward_layer" in part.label.split("/"))
    order = {path: number for number, path in enumerate(known)}
    return [found[path] for path in sorted(found, key=order.__getitem__)]


def _variables(group: Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Group]]:
    """All groups of arrays with the paths of what they belong to."""
    for name, member in group.members.items():
        if not isinstance(member, Group) or name in _OTHERS:
            continue
        if name == "vars":
            if any(isinstance(inner, Dataset) for inner in member.members.values()):
                yield path, member
        else:  # TensorFlow 2.12 has another name for layers
            step = "layers" if name == "_layer_checkpoint_dependencies" else name
            yield from _variables(member, (*path, step))


def _layer_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """The part of a path that is a layer's."""
    while len(path) > 1 and path[-1] in _INNER and path[-2] != "layers":
        path = path[:-1]
    return path


def _kind(path: tuple[str, ...]) -> str:
    """Class of a layer that only has a path."""
    if "forward_layer" in path or "backward_layer" in path:
        return "Bidirectional"
    if path and path[-1] == "cell":
        return "RNN"
    match = re.fullmatch(r"(dense|embedding)(_\d+)?", _layer_path(path)[-1] if path else "")
    return match[1].capitalize() if match else ""


def _name(root: Group, place: tuple[str, ...]) -> str:
    """Name of a layer that only has a path: newer files say it, in others a number follows its class."""
    names, group = [], root
    for number, step in enumerate(place):
        group = group.members.get(step) or group.members["_layer_checkpoint_dependencies"]
        if step != "layers" or number == len(place) - 1:
            own = group.members.get("vars")
            said = own.attributes.get("name") if isinstance(own, Group) else None
            names.append(said if number and place[number - 1] == "layers" and isinstance(said, str) else step)
    return ".".join(names) or "model"


def _natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isascii() and name.isdigit() and len(name) < 9 else -1, name)


def read_keras_2(root: Group, layers: Sequence[Layer]) -> Stored:
    """Weights of Keras 2, or of its format, for each layer of a model; without `layers` as the names tell.

    Raises
    ------
    WeightsError
        A group or dataset is missing or damaged.
    """
    found: dict[str, tuple[Layer, list[Part]]] = {}
    for group_name in _texts(root, LAYER_NAMES):
        group = root.group(group_name)
        inside = [layer for layer in layers if layer.path[0] == group_name]
        for weight in _texts(group, _WEIGHT_NAMES):
            folder, _, role = weight.rpartition("/")
            layer = _owner(inside, folder, group_name)
            parts = found.setdefault(layer.name, (layer, []))[1]
            if not parts or parts[-1].label != folder:
                parts.append(Part(folder, {}))
            role = re.sub(r":\d+$", "", role)
            if role in parts[-1].arrays:
                raise WeightsError(f"{one_line(weight, 120)}: is in it twice")
            parts[-1].arrays[role] = group.array(weight)
    if layers:
        return list(found.values())
    return [(_named_by_weights(layer, parts), parts) for layer, parts in found.values()]


def _owner(inside: Sequence[Layer], folder: str, group: str) -> Layer:
    """The layer that a weight belongs to: that of the group, or one in the group's submodel."""
    steps = folder.split("/")
    for layer in inside:
        if len(layer.path) == 1:
            return layer
    named = [layer for layer in inside if layer.path[-1] in steps]
    if named:  # Keras 2 does not name submodels, so that a layer of a name may stand for itself

        def fit(layer: Layer) -> tuple[int, int]:
            missing = sum(step not in steps for step in layer.path[1:])
            return len(layer.path) - missing, -missing

        return max(named, key=fit)
    if group in steps:  # the name of the whole model may be before it
        steps = steps[len(steps) - steps[::-1].index(group) :]
    own = [step for step in steps if step and not _OF_A_CELL.fullmatch(step)]
    return Layer(".".join((group, *own)), "", {}, (group,))


def _named_by_weights(layer: Layer, parts: Sequence[Part]) -> Layer:
    """A layer with its class, as the names of its arrays tell."""
    count = sum(part.recurrent() is not None for part in parts)
    roles = [sorted(part.arrays) for part in parts]
    kind = ""
    if count == len(parts) <= 2:
        kind = "RNN" if count == 1 else "Bidirectional"
    elif roles in ([["bias", "kernel"]], [["kernel"]]) and parts[0].arrays["kernel"].ndim == 2:
        kind = "Dense"
    elif roles == [["embeddings"]]:
        kind = "Embedding"
    return layer._replace(kind=kind)


def _texts(group: Group, name: str) -> list[str]:
    """A list of texts in an attribute, which Keras distributes on several if it is long."""
    if name in group.attributes:
        values = [group.attributes[name]]
    else:
        values = []
        while f"{name}{len(values)}" in group.attributes:
            values.append(group.attributes[f"{name}{len(values)}"])
        if not values:
            raise WeightsError(f"the attribute {name} is missing")
    found: list[str] = []
    for value in values:
        if isinstance(value, list):
            found += value
        elif isinstance(value, str) or value is None or value.size:  # an empty list has numbers for type
            raise WeightsError(f"the attribute {name}: expected a list of texts")
    return found
