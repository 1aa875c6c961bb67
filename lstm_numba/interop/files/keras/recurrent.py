"""What Keras' recurrent layers compute, from their arguments: the cell here, and what a caller must know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_numba.cells import onnx_variants
from lstm_numba.data.file_io import one_line
from lstm_numba.interop.files.keras.model import activation_name

#: Keras' layers and cells -> ours; a GRU's depends on ``reset_after``.
CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
#: Keras' activations -> those of `lstm_numba.cells.onnx_variants`.
_FUNCTIONS = {
    "elu": "Elu_1.0",
    "leaky_relu": "LeakyRelu_0.2",
    "linear": "Affine_1.0_0.0",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
#: max(0, min(1, slope * x + 0.5)) before Keras 3, and since.
_HARD_SIGMOID = ("HardSigmoid_0.2_0.5", f"HardSigmoid_{1 / 6!r}_0.5")


class NotComputedError(Exception):
    """No layer here computes what a Keras layer does; the message names it."""


class Recurrent(NamedTuple):
    """A recurrent layer as Keras describes it.

    Parameters
    ----------
    cell : str
        Cell here; for a GRU whose file does not say where its reset gate acts ``gru``, with `guess`.
    guess : bool
        Whether the biases tell which GRU it is.
    directions : int
    sequences : bool
        Whether it hands on all of its outputs, in the order of time.
    notes : list of str
    """

    cell: str
    guess: bool
    directions: int
    sequences: bool
    notes: list[str]


def is_recurrent(kind: str) -> bool:
    """Whether a class of Keras is a recurrent layer, of those that are computed here or others."""
    return kind == "Bidirectional" or re.search(r"LSTM|GRU|RNN", kind) is not None


def describe(name: str, kind: str, config: Mapping[str, Any], keras_3: bool) -> Recurrent:
    """Describe a layer from its class and arguments.

    Parameters
    ----------
    name : str
        For messages.
    kind : str
        "LSTM", "GRU", "SimpleRNN", "RNN" around a cell, or "Bidirectional" around one of them.
    config : mapping
    keras_3 : bool
        Whether Keras 3 wrote it, whose ``hard_sigmoid`` is another.

    Raises
    ------
    NotComputedError
        No layer here computes that.
    """
    if kind != "Bidirectional":
        return _single(name, kind, config, keras_3)
    inner = config["layer"]
    forward = _single(name, str(inner["class_name"]), inner["config"], keras_3, inside=True)
    if inner["config"].get("go_backwards"):
        raise NotComputedError(f"{name}: go_backwards of the first direction is not computed here")
    other = config.get("backward_layer")
    if other is not None:
        backward = _single(name, str(other["class_name"]), other["config"], keras_3, inside=True)
        if backward[:2] != forward[:2]:
            raise NotComputedError(
                f"{name}: directions that differ ({forward.cell}, {backward.cell}) are not computed here"
            )
    merge, notes = config.get("merge_mode", "concat"), list(forward.notes)
    if merge != "concat":
        notes.append(
            f"{name}: merge_mode={one_line(merge, 40)}; this layer gives both directions' outputs side by "
            "side, which the caller has to merge"
        )
    return Recurrent(forward.cell, forward.guess, 2, forward.sequences, notes)


def _single(
    name: str, kind: str, config: Mapping[str, Any], keras_3: bool, inside: bool = False
) -> Recurrent:
    of, cell = kind, config
    if kind == "RNN" and isinstance(config.get("cell"), Mapping):
        of, cell = str(config["cell"]["class_name"]).removesuffix("Cell"), config["cell"]["config"]
    if of not in CELLS:
        raise NotComputedError(f"{name}: Keras' {one_line(kind, 60)} is not computed here")
    guess = of == "GRU" and not isinstance(cell.get("reset_after"), bool)
    base = "gru-reset-before" if of == "GRU" and cell.get("reset_after") is False else CELLS[of]
    notes = list(_notes(name, config, inside))
    whole = bool(config.get("return_sequences")) and (inside or not config.get("go_backwards"))
    return Recurrent(_variant(name, base, cell, keras_3), guess, 1, whole, notes)


def _variant(name: str, base: str, config: Mapping[str, Any], keras_3: bool) -> str:
    """The cell with the layer's activations."""
    letters = onnx_variants.VARIED[base]
    words = []
    for letter in letters:
        gates = letter == "f" and len(letters) > 1
        key = "recurrent_activation" if gates else "activation"
        value = config.get(key, "sigmoid" if gates else "tanh")
        words.append(f"{letter}={_function(name, key, value, keras_3)}")
    return onnx_variants.read(",".join((base, *words))).name


def _function(name: str, key: str, value: Any, keras_3: bool) -> str:
    """An activation under our name."""
    value = activation_name(value)
    if value == "hard_sigmoid":
        return _HARD_SIGMOID[keras_3]
    if not isinstance(value, str) or value not in _FUNCTIONS:
        raise NotComputedError(f"{name}: {key} {one_line(value, 60)} is not computed here")
    return _FUNCTIONS[value]


def _notes(name: str, config: Mapping[str, Any], inside: bool) -> Any:
    """What a caller must know."""
    if config.get("return_sequences") is False:
        yield f"{name}: the network uses its final state only (return_sequences=False)"
    if config.get("go_backwards") and not inside:
        yield f"{name}: reads from the end (go_backwards): reverse the steps of its input"
    if config.get("stateful"):
        yield f"{name}: continues with the state of the previous batch (stateful): pass the state on"
    if config.get("time_major"):
        yield f"{name}: its network has the time axis first (time_major)"
