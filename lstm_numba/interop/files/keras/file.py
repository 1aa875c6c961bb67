"""Files of Keras, read without it: ``.keras`` archives, and HDF5 files of whole models or of weights.

``.keras`` is a zip archive of metadata.json, config.json and model.weights.h5 (Keras 3, TensorFlow since
2.12). HDF5 files are ``.weights.h5`` of Keras 3, or what Keras 2 wrote: a whole model, with its
``model_config``, or its weights. Source of the layouts: keras/src, in saving/saving_lib.py and
legacy/saving/legacy_h5_format.py.

A layer NAME comes out under PyTorch's names: ``NAME.weight_ih_l0`` of LSTM, GRU, SimpleRNN, Bidirectional and
RNN around one of their cells, ``NAME.weight`` of Dense and Embedding. Recurrent layers that follow each other
and fit are one stack under the first one's name. Arrays of other layers keep their own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lstm_numba.data.archives import Archive, ArchiveError
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Array, Contents
from lstm_numba.interop.files.hdf5.reader import Group, read_hdf5
from lstm_numba.interop.files.keras.layout import PARTS, find_cell, renamed
from lstm_numba.interop.files.keras.model import (
    Layer,
    Plan,
    activation_name,
    changes_numbers,
    inner,
    read_plan,
)
from lstm_numba.interop.files.keras.recurrent import NotComputedError, Recurrent, describe, is_recurrent
from lstm_numba.interop.files.keras.storage import LAYER_NAMES, Part, Stored, read_keras_2, read_keras_3
from lstm_numba.interop.files.numbers import as_float
from lstm_numba.interop.files.stacks import Single, stack
from lstm_numba.interop.files.strict_json import parse_json

_WEIGHTS = "model.weights.h5"
#: Layers whose arrays Keras 3 numbers -> their names in Keras 2, if there are so many.
_NAMES = {
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
}
_ONLY_WEIGHTS = (
    "the file holds weights only: it does not say activations, for which Keras' defaults are taken, nor "
    "which layers follow each other"
)


class _Description(NamedTuple):
    """What a file says beside its numbers."""

    plan: Plan | None
    keras_3: bool


def read_keras_file(content: bytes) -> Contents:
    """Read a ``.keras``, ``.h5`` or ``.hdf5`` file.

    Notes tell what the network does that a layer here does not: steps that it masks, outputs that it does not
    use, directions that it adds, and so on.

    Raises
    ------
    WeightsError
        It is damaged or something else, or no layer here computes what its recurrent layers do.
    """
    if content.startswith(b"PK"):
        stored, said = _archive(content)
    else:
        stored, said = _hdf5(content)
    if not stored:
        raise WeightsError("expected weights that Keras wrote, found none")
    found = _Found(said)
    for layer, parts in stored:
        found.add(layer, parts)
    return found.contents()


def _archive(content: bytes) -> tuple[Stored, _Description]:
    try:
        archive = Archive(content, LARGEST)
        if _WEIGHTS not in archive or "config.json" not in archive:
            missing = "config.json" if _WEIGHTS in archive else _WEIGHTS
            raise WeightsError(f"expected an archive of Keras; {missing} is missing")
        config = parse_json(archive.read("config.json"), "config.json", constants=True)
        version = {}
        if "metadata.json" in archive:
            version = parse_json(archive.read("metadata.json"), "metadata.json")
        weights = archive.read(_WEIGHTS)
    except ArchiveError as error:
        raise WeightsError(str(error)) from None
    plan = read_plan(config, keras_3=True)
    stored = read_keras_3(read_hdf5(weights), plan.layers)
    return stored, _Description(plan if plan.layers else None, _is_3(version.get("keras_version", "3")))


def _hdf5(content: bytes) -> tuple[Stored, _Description]:
    root = read_hdf5(content)
    config, version = root.attributes.get("model_config"), root.attributes.get("keras_version", "2")
    if isinstance(config, str):
        plan = read_plan(parse_json(config, "model_config", constants=True), keras_3=False)
        stored = read_keras_2(root.group("model_weights"), plan.layers)
        return stored, _Description(plan if plan.layers else None, _is_3(version))
    for weights in (root, root.members.get("model_weights")):
        if isinstance(weights, Group) and any(name.startswith(LAYER_NAMES) for name in weights.attributes):
            return read_keras_2(weights, ()), _Description(None, keras_3=False)
    return read_keras_3(root, ()), _Description(None, keras_3=True)


def _is_3(version: object) -> bool:
    major = str(version).partition(".")[0]
    return major.isdecimal() and int(major[:4]) >= 3


class _Found:
    """What is made of a file's layers, in the order of the model.

    Parameters
    ----------
    said : _Description
    """

    def __init__(self, said: _Description) -> None:
        self._said = said
        self._singles: list[Single] = []
        self._others: dict[str, Array] = {}
        self._notes: list[str] = []
        self._refused: list[str] = []
        self._whole: set[str] = set()  # recurrent layers that hand on all that they give

    def add(self, layer: Layer, parts: Sequence[Part]) -> None:
        """Take a layer with its arrays."""
        if is_recurrent(layer.kind):
            try:
                return self._add_recurrent(layer, parts)
            except NotComputedError as error:
                self._refused.append(str(error))
        for name, array in _plain(layer, parts):
            _put(self._others, name, array)

    def _add_recurrent(self, layer: Layer, parts: Sequence[Part]) -> None:
        name, plan, how, after = layer.name, self._said.plan, None, ""
        if not all(part.recurrent() for part in parts):
            raise NotComputedError(f"{name}: Keras' {one_line(layer.kind, 60)} is not computed here")
        if plan is not None and layer.config:
            how = describe(name, layer.kind, layer.config, self._said.keras_3)
            self._notes += how.notes
            if how.sequences:
                self._whole.add(name)
            if len(plan.sources.get(name, ())) > 1:
                self._notes.append(f"{name}: sees several layers, one of which may give its initial state")
            before = plan.before(layer)
            if before is not None and before.name in self._whole and not layer.config.get("go_backwards"):
                after = before.name
        self._singles.append(_single(layer, parts, how, after))

    def contents(self) -> Contents:
        """All of it; refused if no recurrent layer is computed here."""
        if self._refused and not self._singles:
            raise WeightsError(self._refused[0])
        stacks, plan = stack(self._singles), self._said.plan
        for name, array in self._others.items():
            _put(stacks.tensors, name, array)
        notes = [*stacks.notes, *self._notes, *_masks(plan), *_activations(plan)]
        notes += [f"{text}: left out" for text in self._refused]
        notes += [_ONLY_WEIGHTS] if plan is None and self._singles else []
        texts = tuple(one_line(note, 400) for note in notes)
        return Contents("keras", stacks.tensors, stacks.cells, texts, _around(plan))


def _put(tensors: dict[str, Array], name: str, array: Array) -> None:
    if name in tensors:
        raise WeightsError(f"{one_line(name, 120)}: is in it twice")
    tensors[name] = array


def _single(layer: Layer, parts: Sequence[Part], how: Recurrent | None, after: str) -> Single:
    """A recurrent layer under PyTorch's names."""
    name = one_line(layer.name, 120)
    expected = how.directions if how else 2 if layer.kind == "Bidirectional" else 1
    if len(parts) != expected:
        raise WeightsError(f"{name}: expected arrays of {expected} direction(s), got {len(parts)}")
    cell, directions = None if how is None else how.cell, []
    for number, part in enumerate(parts):
        label = "backward " if number else ""
        arrays = [
            as_float(label + role, array, name, finite=False)
            for role, array in zip(PARTS, part.recurrent() or (), strict=False)
        ]
        cell = find_cell(arrays, cell, label, name)
        if how is not None and how.guess and not number:
            # Before Keras wrote reset_after, there was no other GRU than that of reset_after=False.
            base = "gru-reset-before" if len(arrays) == 2 else find_cell(arrays, None, label, name)
            cell = ",".join((base, *cell.split(",")[1:]))
        directions.append(renamed(arrays, cell, label, name))
    assert cell is not None
    return Single(layer.name, cell, directions, after)


def _plain(layer: Layer, parts: Sequence[Part]) -> Iterator[tuple[str, Array]]:
    """Arrays of a layer that is not recurrent."""
    arrays = list(parts[0].arrays.values())
    kind, count = inner(layer)[0], len(arrays)
    if len(parts) == 1 and kind == "Dense" and count in (1, 2) and arrays[0].ndim == 2:
        yield f"{layer.name}.weight", arrays[0].T
        if count == 2:
            yield f"{layer.name}.bias", arrays[1]
        return
    if len(parts) == 1 and kind == "Embedding" and count == 1:
        yield f"{layer.name}.weight", arrays[0]
        return
    for part in parts:
        names = list(part.arrays)
        if names[:1] == ["0"] and len(_NAMES.get(kind, ())) == len(names):
            names = list(_NAMES[kind])
        place = part.label.split("/")[len(layer.path) :] if names[0].isdigit() else []
        for name, array in zip(names, part.arrays.values(), strict=True):
            yield ".".join((layer.name, *(part.label.split("/") if len(parts) > 1 else place), name)), array


def _around(plan: Plan | None) -> dict[str, str]:
    """Layers that are not recurrent and change numbers, with their classes."""
    return {
        layer.name: one_line(inner(layer)[0], 60)
        for layer in (plan.layers if plan else ())
        if not is_recurrent(layer.kind) and changes_numbers(layer)
    }


def _activations(plan: Plan | None) -> Iterator[str]:
    """Notes on what follows linear layers, of which a caller may name one."""
    for layer in plan.layers if plan else ():
        kind, config = inner(layer)
        follows = activation_name(config.get("activation"))
        if kind == "Dense" and follows != "linear":
            yield f"{layer.name}: {one_line(follows, 60)} follows it"


def _masks(plan: Plan | None) -> Iterator[str]:
    """Notes on steps that the network leaves out."""
    how = "a layer here takes lengths for steps at the end; leave out others before it is called"
    for layer in plan.layers if plan else ():
        if layer.kind == "Masking":
            value = one_line(layer.config.get("mask_value", 0.0), 40)
            yield f"{layer.name}: the network skips steps whose features all equal {value}; {how}"
        elif layer.kind == "Embedding" and layer.config.get("mask_zero"):
            yield f"{layer.name}: the network skips steps of index 0 (mask_zero); {how}"
