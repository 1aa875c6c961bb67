"""Files of Keras 2 and 3 for tests, and what a layer out of one computes."""

from __future__ import annotations

import importlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.cells import find_cell
from lstm_numba.interop.files.contents import Contents
from lstm_numba.interop.files.keras.file import read_keras_file
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.reference import run

F4 = np.float32


def keras() -> Any:
    """Keras, on whatever there is to compute with."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    if "KERAS_BACKEND" not in os.environ:
        pytest.importorskip("torch", reason="nothing for Keras to compute with")
        os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras", reason="Keras is not installed")


def filled(model: Any, seed: int = 0) -> Any:
    """A model of Keras with random weights, biases too."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.standard_normal(w.shape).astype(F4) * 0.6 for w in model.get_weights()])
    return model


def sequential(*layers: Any, inputs: int = 3) -> Any:
    """A model of Keras with random weights."""
    return filled(keras().Sequential([keras().Input((None, inputs)), *layers]))


def saved(model: Any, path: Path) -> Contents:
    """What is read from a model of Keras that was saved."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return read_contents(path)


def outputs(model: Any, x: Any) -> Any:
    """What Keras computes."""
    return keras().ops.convert_to_numpy(model(x))


def parameters(contents: Contents, prefix: str) -> dict[str, Any]:
    """The parameters of a stack of layers."""
    n = len(prefix)
    return {name[n:]: array for name, array in contents.tensors.items() if name.startswith(prefix)}


def computed(contents: Contents, prefix: str, x: Any, lengths: Any = None) -> tuple[Any, Any]:
    """Outputs (N, T, D*H) and final states of a stack of layers for x (N, T, I), by the reference."""
    params, cell = parameters(contents, prefix), contents.cells[prefix]
    hidden = params["weight_hh_l0"].shape[1]
    layers = sum(name.startswith("weight_hh") and not name.endswith("reverse") for name in params)
    both = "weight_hh_l0_reverse" in params
    states = [np.zeros((layers * (1 + both), len(x), hidden)) for _ in find_cell(cell).states]
    x = np.swapaxes(np.asarray(x), 0, 1)
    y, final = run(cell, params, x, states, num_layers=layers, bidirectional=both, lengths=lengths)
    return np.swapaxes(y, 0, 1), final


def dense(contents: Contents, name: str, x: Any) -> Any:
    """A linear layer out of a file."""
    return x @ contents.tensors[f"{name}.weight"].T.astype(np.float64) + contents.tensors[f"{name}.bias"]


# -- written here, without Keras --------------------------------------------------------------------


def keras_2(
    arrays: dict[str, dict[str, Any]], config: Any = None, version: str = "2.11.0", **options: Any
) -> bytes:
    """A file as Keras 2 writes it: the whole model if there is a `config`, else its weights.

    Parameters
    ----------
    arrays : dict of str to dict of str to ndarray
        Layer -> name of a weight, such as ``lstm/lstm_cell/kernel:0`` -> array.
    config : object
        Of the model.
    version : str
        Of Keras.
    **options
        Of ``h5py.File``.
    """
    h5py = importlib.import_module("h5py")
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        root = file
        if config is not None:
            file.attrs["keras_version"] = version.encode()
            file.attrs["model_config"] = json.dumps(config).encode()
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in arrays]
        root.attrs["keras_version"] = version.encode()
        for name, weights in arrays.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                group[weight] = array
    return memory.getvalue()


def archive(config: Any, arrays: dict[str, Any], metadata: Any = None) -> bytes:
    """A ``.keras`` archive with arrays in places such as ``layers/lstm/cell/vars/0``."""
    h5py = importlib.import_module("h5py")
    memory, weights = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        for place, array in arrays.items():
            file[place] = array
    with zipfile.ZipFile(memory, "w") as new:
        new.writestr("metadata.json", json.dumps(metadata or {"keras_version": "3.3.3"}))
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", weights.getvalue())
    return memory.getvalue()


def weights(gates: int, inputs: int = 3, hidden: int = 2, biases: int = 1, seed: int = 0) -> list[Any]:
    """Kernel, recurrent kernel and bias in Keras' layout."""
    rng, columns = np.random.default_rng(seed), gates * hidden
    shapes = [(inputs, columns), (hidden, columns), (columns,) if biases == 1 else (biases, columns)]
    return [rng.standard_normal(shape).astype(F4) for shape in shapes[: 2 + (biases > 0)]]


def named(place: str, arrays: list[Any], end: str = ":0") -> dict[str, Any]:
    """Arrays of one layer and direction under Keras 2's names."""
    parts = ("kernel", "recurrent_kernel", "bias")
    return {f"{place}/{part}{end}": array for part, array in zip(parts, arrays, strict=False)}


def numbered(place: str, arrays: list[Any]) -> dict[str, Any]:
    """Arrays in the place that Keras 3 has for them."""
    return {f"{place}/vars/{number}": array for number, array in enumerate(arrays)}


def entry(kind: str, name: str, inbound: Any = None, **config: Any) -> dict[str, Any]:
    """A layer in a model's configuration."""
    found = {"class_name": kind, "config": {"name": name, **config}}
    return found if inbound is None else {**found, "name": name, "inbound_nodes": inbound}


def chain(*layers: Any) -> dict[str, Any]:
    """The configuration of a Sequential model."""
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def refusal(content: bytes) -> str:
    """The line with which a file is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_keras_file(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)
