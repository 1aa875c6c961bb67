"""Conversion from and to PyTorch modules: ``torch.nn.LSTM``, ``GRU`` and ``RNN``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstm_numba.errors import WeightsError, WeightsWarning, warn
from lstm_numba.interop.options import Options
from lstm_numba.interop.state_dict import build, cell_name
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.signatures import explicit

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.interop.options import LayerOptions

#: PyTorch's ``mode`` -> cell.
_CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn", "RNN_RELU": "rnn-relu"}


@explicit(Options)
def from_torch(
    module: Any,
    **options: Unpack[LayerOptions],
) -> Recurrent:
    """Make a layer with the weights of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN
        On any device; float32, float64, or float16, which becomes float32.
    **options
        ``device``, ``seed`` and what a layer drops in training, see `lstm_numba.Recurrent`; where they are
        not given, ``batch_first`` and ``dropout`` are the module's.

    Returns
    -------
    Recurrent

    Raises
    ------
    WeightsError
        The module is of another class, or quantized.
    """
    mode = getattr(module, "mode", None)
    if mode not in _CELLS or not callable(getattr(module, "state_dict", None)):
        raise WeightsError(f"module: expected PyTorch's LSTM, GRU or RNN, got {type(module).__name__}")
    where = f"module {type(module).__name__}"
    state = {}
    for name, tensor in module.state_dict().items():
        if not hasattr(tensor, "detach"):
            raise WeightsError(f"{where}: {name} is not a tensor: expected a module that is not quantized")
        try:
            state[name] = tensor.detach().cpu().numpy()
        except (TypeError, NotImplementedError):  # bfloat16, or on the device "meta"
            got = f"{tensor.dtype} on {tensor.device}"
            raise WeightsError(f"{where}: {name}: expected float32 or float64, got {got}") from None
    chosen = {"batch_first": module.batch_first, "dropout": module.dropout, **options}
    return build(state, where, _CELLS[mode], **chosen)


def to_torch(rnn: Recurrent) -> Any:
    """Make a PyTorch module on the CPU with the weights of a layer.

    Parameters
    ----------
    rnn : Recurrent

    Returns
    -------
    torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN
        It computes what the layer computes. Of what the layer drops in training it has ``dropout`` alone, by
        element.

    Raises
    ------
    WeightsError
        PyTorch has no such cell (peepholes, reset before the product), or is not installed.

    Warns
    -----
    WeightsWarning
        The layer drops more in training.
    """
    name = cell_name(rnn).removesuffix("-projected")
    modes = {cell: mode for mode, cell in _CELLS.items()}
    if name not in modes:
        raise WeightsError(f"rnn: PyTorch has no module for the cell {name}")
    try:
        import torch
    except ImportError:
        raise WeightsError("to_torch: PyTorch is not installed: pip install torch") from None
    kind, _, nonlinearity = modes[name].partition("_")
    options: dict[str, Any] = {"nonlinearity": nonlinearity.lower()} if nonlinearity else {}
    if rnn.proj_size:
        options["proj_size"] = rnn.proj_size
    module = getattr(torch.nn, kind)(
        rnn.input_size,
        rnn.hidden_size,
        rnn.num_layers,
        bias=rnn.bias,
        batch_first=rnn.batch_first,
        dropout=rnn.dropout,
        bidirectional=rnn.bidirectional,
        dtype=getattr(torch, rnn.dtype.name),
        **options,
    )
    module.load_state_dict({key: torch.from_numpy(value) for key, value in rnn.state_dict().items()})
    lost = [name for name in ("weight_drop", "recurrent_dropout") if getattr(rnn, name)]
    if rnn.dropout and rnn.dropout_kind != "element":
        lost.append(f"dropout_kind={rnn.dropout_kind!r}")
    if lost:
        text = f"to_torch: PyTorch's {kind} has no {', '.join(lost)}; it drops by element, if at all"
        warn(text, WeightsWarning)
    return module
