"""Networks that others trained, out of their files: a recurrent layer, and the linear layer after it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_numba.errors import WeightsError, WeightsWarning, warn
from lstm_numba.interop.files.contents import Array, Contents
from lstm_numba.interop.files.opening import read_contents
from lstm_numba.interop.keras import has_keras_names, layer_from_lists
from lstm_numba.interop.onnx.layer_import import read_onnx
from lstm_numba.interop.onnx.model_import import open_own
from lstm_numba.interop.onnx.nodes import Choice
from lstm_numba.interop.options import Options
from lstm_numba.interop.selection import find_head, known_cell, select
from lstm_numba.interop.state_dict import build
from lstm_numba.models.headed import MODELS, check_choice, headed_model
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.interop.options import LayerOptions


class Loaded(NamedTuple):
    """Result of `load`."""

    network: Any  # Recurrent, or a model with a head
    left_out: list[str]  # names in the file that were not used
    notes: tuple[str, ...]


@explicit(Options)
def load_weights(
    path: str | os.PathLike[str],
    *,
    cell: str | None = None,
    prefix: str | None = None,
    names: str | Mapping[str, str | None] | None = None,
    head: str | Mapping[str, str] | None = None,
    model: str = "regressor",
    per_step: bool | None = None,
    node: Choice | Sequence[Choice] | None = None,
    allow_nonfinite: bool = False,
    **options: Unpack[LayerOptions],
) -> Any:
    """Make a layer from a file of weights.

    Formats: ``.npz``; ``.safetensors``; PyTorch's ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` and TorchScript;
    pickles of NumPy arrays; Keras' ``.keras`` and ``.h5``; ``.json`` of GuitarML
    and RTNeural; ``.onnx``, as `load_onnx` reads it. Nothing in a file is executed. `inspect_weights` shows
    what a file holds.

    Parameters
    ----------
    path : path
    cell : str, optional
        Cell, as `make_layer` takes it; by default the one that the file names, else PyTorch's for the number
        of gates: RNN with tanh, GRU with reset after the product, LSTM.
    prefix : str, optional
        What the names of the layer's parameters begin with, such as ``"encoder."``; other tensors are left
        out. By default that of the only recurrent layer in the file. The rest of a name is PyTorch's
        (``weight_ih_l0``, or ``weight_ih`` of a cell), ``w_ih``, Equinox' or Flax'.
    names : str or mapping of str to str or None, optional
        Instead of `prefix`: names in the file -> ours, such as ``{"enc_w_ih": "weight_ih_l0"}``; other
        tensors are left out. A name of ours may be followed by the gates that the array holds, in its order,
        and by ``.T`` where it is transposed: ``"weight_ih_l0[zrn].T"``. A ``*`` in a name in the file stands
        for any characters, in ours for what these mean (``{"lstm_cell.*": "*_l1"}``; ``"lstm_cell.*"`` alone
        is ``{"lstm_cell.*": "*"}``); None leaves tensors out. Gates of a bias, or a whole bias, that no name
        gives are zero.
    head : str or mapping of str to str, optional
        A linear layer that reads the last layer's output: what its names begin with (``"lin"`` of
        ``lin.weight`` and ``lin.bias``, ``"fc"`` of ``fc_w`` and ``fc_b``), or names in the file -> "weight"
        (O, D*H), "weight.T", "bias". Of ONNX models only those of `save_onnx` have one: ``"output"``.
    model : {"regressor", "classifier"}
        What a model with a `head` is trained for; it has no influence on its scores.
    per_step : bool, optional
        Whether the `head` reads every step, not the end of the sequence alone: by default a regressor's does.
        A classifier's never does. At the end means each direction's final state.
    node : int, str or sequence of them, optional
        Of an ONNX model, as `load_onnx` takes it; `cell`, `prefix` and `names` it has not.
    allow_nonfinite : bool
        Whether weights may be NaN or infinite.
    **options
        ``device``, ``seed`` and what a layer drops in training (``dropout``, ``dropout_kind``,
        ``weight_drop``, ``zoneout``, ``recurrent_dropout``, ``recurrent_dropout_kind``), see
        `lstm_numba.Recurrent`; without a `head` also ``batch_first``: a model reads (T, B, I).

    Returns
    -------
    Recurrent; with a `head` SequenceRegressor or SequenceClassifier
        With exactly these weights. A model's `scores` are what the head gives, at every step or at the end,
        and a `Stream` of it runs layer and head in one compiled step.

    Raises
    ------
    WeightsError
        The file is missing, damaged or holds something else, or the choice is open; the message names the
        file.
    TypeError
        Of `names` and `prefix`, or of `head` and `batch_first`, both are given.
    ValueError
        `model` is none, or does not predict at every step.

    Warns
    -----
    WeightsWarning
        The file's network does something around the layer that counts, such as masking steps.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> encoder = ln.load_weights("checkpoint20.npz", prefix="enc_")  # doctest: +SKIP
    """
    naming: dict[str, Any] = {"cell": cell, "prefix": prefix, "names": names}
    headed: dict[str, Any] = {"head": head, "model": model, "per_step": per_step}
    given = {**headed, "allow_nonfinite": allow_nonfinite, **options}
    if Path(path).suffix.lower() == ".onnx":
        for name, value in naming.items():
            if value is not None:
                raise WeightsError(f"{path}: {name}: an ONNX model has none, got {value!r}; node=... chooses")
        loaded = _load_onnx(path, node, given)
    elif node is not None:
        raise WeightsError(f"{path}: node: only ONNX models have nodes, got {node!r}")
    else:
        loaded = load(read_contents(path), str(path), **naming, **given)
    for note in loaded.notes:
        warn(f"{path}: {note}", WeightsWarning)
    return loaded.network


def _load_onnx(path: str | os.PathLike[str], node: Any, options: dict[str, Any]) -> Loaded:
    """From an ONNX model: a layer, or a model that this library wrote, with its linear layer."""
    headed = {name: options.pop(name) for name in ("head", "model", "per_step")}
    if headed["head"] is None:
        _check_headed(**headed)
        rnn, notes = read_onnx(path, node=node, **options)
        return Loaded(rnn, [], notes)
    contents = open_own(path) if node is None else None
    if contents is None:
        what = "of a model that save_onnx wrote" if node is None else "without node"
        raise WeightsError(f"{path}: head: only {what}; without head this loads the recurrent layers")
    return load(contents, str(path), **headed, **options)


def _check_headed(head: Any, model: Any, per_step: bool | None) -> None:
    """Refuse what only a model with a linear layer has."""
    check_choice(model, per_step)
    if head is None and (model != MODELS[0] or per_step is not None):
        name = "per_step" if per_step is not None else "model"
        raise TypeError(f"{name}: expected head too, which names the linear layer of the model")


def load(
    contents: Contents,
    where: str,
    *,
    cell: str | None = None,
    prefix: str | None = None,
    names: str | Mapping[str, str | None] | None = None,
    head: str | Mapping[str, str] | None = None,
    model: str = "regressor",
    per_step: bool | None = None,
    allow_nonfinite: bool = False,
    **options: Any,
) -> Loaded:
    """Make a layer from what a file holds; arguments and errors are those of `load_weights`.

    Parameters
    ----------
    contents : Contents
    where : str
        File, for messages.
    """
    tensors = contents.tensors
    _check_headed(head, model, per_step)
    if head is not None and options.get("batch_first"):
        raise TypeError("batch_first: expected head or batch_first, got both: a model reads (T, B, I)")
    if names is None and has_keras_names(tensors):
        for name, value in (("prefix", prefix), ("head", head)):
            if value is not None:
                raise WeightsError(
                    f"{where}: {name}: expected none for the lists of Keras' layers, got {value!r}"
                )
        cell = cell or known_cell(where, contents.cells.get(""))
        return Loaded(layer_from_lists(tensors, where, cell, **options), [], contents.notes)
    linear = None if head is None else find_head(tensors, head, where, allow_nonfinite=allow_nonfinite)
    used = set[str]() if linear is None else linear.used
    found = select(
        contents, where, prefix=prefix, names=names, cell=cell, known=used, allow_nonfinite=allow_nonfinite
    )
    layer = build(found.params, where, found.cell, allow_nonfinite=allow_nonfinite, **options)
    network: Any = layer
    if linear is not None:
        width = layer.output_size * layer.directions
        if linear.weight.shape[1] != width:
            shape = linear.weight.shape
            raise WeightsError(f"{where}: head: expected (O, {width}) weights, got shape {shape}")
        network = headed_model(layer, linear.weight, linear.bias, model=model, per_step=per_step)
    return Loaded(network, sorted(tensors.keys() - found.used - used), found.notes)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read all tensors of a file, of any format that `load_weights` takes.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to ndarray
        Under the names that `inspect_weights` shows. bfloat16 is widened to float32; a tensor of a type that
        NumPy lacks is a structured array of that name.

    Raises
    ------
    WeightsError
        The file is missing, damaged or holds something else; the message names it.
    """
    return dict(read_contents(path).tensors)
