"""Files of Keras, read without it: ``.keras`` archives, and HDF5 files of whole models or of weights.

``.keras`` is a zip archive of metadata.json, config.json and model.weights.h5 (Keras 3, TensorFlow from 2.12).
HDF5 files are ``.weights.h5`` of Keras 3, or what Keras 2 wrote, of a whole model (with ``model_config``) or of
its weights. Source of the layouts: keras/src/saving/saving_lib.py, keras/src/legacy/saving/legacy_h5_format.py.

A layer NAME comes out under PyTorch's names: ``NAME.weight_ih_l0`` of LSTM, GRU, SimpleRNN, Bidirectional and
RNN around one of their cells, ``NAME.weight`` of Dense and Embedding. Recurrent layers that follow each other
and fit are one stack under the first one's name. Arrays of other layers keep their own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lstm_numba.data.archives import Archive, ArchiveError
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Array, Contents
from lstm_numba.interop.files.hdf5 import Group, read_hdf5
from lstm_numba.interop.files.keras_layout import PARTS, find_cell, renamed
from lstm_numba.interop.files.keras_model import Layer, Plan, read_plan
from lstm_numba.interop.files.keras_recurrent import NotComputedError, Recurrent, describe, is_recurrent
from lstm_numba.interop.files.keras_storage import LAYER_NAMES, Part, Stored, read_keras_2, read_keras_3
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
    "the file holds weights only: it does not say activations, for which Keras' defaults are taken, nor which "
    "layers follow each other"
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
    return _contents(stored, said)


def _archive(content: bytes) -> tuple[Stored, _Description]:
    try:
        archive = Archive(content, LARGEST)
        if _WEIGHTS not in archive or "config.json" not in archive:
            missing = "config.json" if _WEIGHTS in archive else _WEIGHTS
            raise WeightsError(f"expected Keras' archive, with config.json and {_WEIGHTS}; {missing} is missing")
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
    stored = read_keras_3(root, ())
    if not stored:
        raise WeightsError("expected weights that Keras wrote, found none")
    return stored, _Description(None, keras_3=True)


def _is_3(version: object) -> bool:
    major = str(version).partition(".")[0]
    return major.isdecimal() and int(major[:4]) >= 3


def _contents(stored: Stored, said: _Description) -> Contents:
    singles: list[Single] = []
    others: dict[str, Array] = {}
    notes, refused = [], []
    whole: dict[str, bool] = {}
    for layer, parts in stored:
        if is_recurrent(layer.kind) and all(part.recurrent() for part in parts):
            try:
                how = describe(layer.name, layer.kind, layer.config, said.keras_3) if said.plan else None
            except NotComputedError as error:
                refused.append(str(error))
            else:
                before = said.plan.before(layer) if said.plan else None
                after = before.name if before and whole.get(before.name) else ""
                singles.append(_single(layer, parts, how, after))
                whole[layer.name] = how is not None and how.sequences
                notes += how.notes if how else []
                continue
        elif is_recurrent(layer.kind):
            refused.append(f"{layer.name}: Keras' {one_line(layer.kind, 60)} is not computed here")
        for name, array in _plain(layer, parts):
            _add(others, name, array)
    if refused and not singles:
        raise WeightsError(refused[0])
    stacks = stack(singles)
    for name, array in others.items():
        _add(stacks.tensors, name, array)
    notes = [*stacks.notes, *notes, *_masks(said.plan), *(f"{text}: left out" for text in refused)]
    notes += [] if said.plan or not singles else [_ONLY_WEIGHTS]
    return Contents("keras", stacks.tensors, stacks.cells, tuple(one_line(note, 400) for note in notes))


def _add(tensors: dict[str, Array], name: str, array: Array) -> None:
    if name in tensors:
        raise WeightsError(f"{one_line(name, 120)}: is in it twice")
    tensors[name] = array


def _single(layer: Layer, parts: Sequence[Part], how: Recurrent | None, after: str) -> Single:
    """A recurrent layer under PyTorch's names."""
    name = one_line(layer.name, 120)
    expected = how.directions if how else 2 if layer.kind == "Bidirectional" else 1
    if len(parts) != expected:
        raise WeightsError(f"{name}: expected arrays of {expected} direction(s), got {len(parts)}")
    cell = None if how is None or how.guess else how.cell
    directions = []
    for number, part in enumerate(parts):
        label = "backward " if number else ""
        arrays = [
            as_float(label + role, array, name, finite=False)
            for role, array in zip(PARTS, part.recurrent() or (), strict=False)
        ]
        found = find_cell(arrays, cell, label, name)
        if how and how.guess and "," in how.cell:  # the biases tell the cell, the config its activations
            found = ",".join((found, *how.cell.split(",")[1:]))
        cell = found
        directions.append(renamed(arrays, cell, label, name))
    assert cell is not None
    return Single(layer.name, cell, directions, after)


def _plain(layer: Layer, parts: Sequence[Part]) -> Iterator[tuple[str, Array]]:
    """Arrays of a layer that is not recurrent."""
    arrays = list(parts[0].arrays.values())
    kind, count = layer.kind, len(arrays)
    if kind == "TimeDistributed" and isinstance(layer.config.get("layer"), Mapping):
        kind = str(layer.config["layer"].get("class_name"))
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


def _masks(plan: Plan | None) -> Iterator[str]:
    """Notes on steps that the network leaves out."""
    how = (
        "this layer takes lengths for steps at the end; others have to be left out before it is called, and "
        "their outputs are those of the step before"
    )
    for layer in plan.layers if plan else ():
        if layer.kind == "Masking":
            value: Any = layer.config.get("mask_value", 0.0)
            yield f"{layer.name}: the network skips steps whose numbers all equal {one_line(value, 40)}; {how}"
        elif layer.kind == "Embedding" and layer.config.get("mask_zero"):
            yield f"{layer.name}: the network skips steps of index 0 (mask_zero); {how}"
