"""Layers of the library's cells: `Recurrent` with the cell chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstm_numba.cells import CELLS, STANDARD, find_cell
from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.signatures import explicit, explicit_as

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.nn.options import AnyLayerOptions, LayerOptions

#: Cells that other libraries or formats have, too.
CELL_NAMES = STANDARD


class RNN(Recurrent):
    """Elman's simple recurrent network; see `lstm_numba.cells.rnn` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    nonlinearity : str
        "tanh" or "relu".
    """

    @explicit(Recurrent.__init__)
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Unpack[LayerOptions],
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        cell = CELLS["rnn" if nonlinearity == "tanh" else "rnn-relu"]
        super().__init__(cell, input_size, hidden_size, num_layers, **options)


class LSTM(Recurrent):
    """Long short-term memory; see `lstm_numba.cells.lstm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`; among them `proj_size`.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> rnn = ln.LSTM(3, 4, seed=0)
    >>> x = np.ones((5, 2, 3), np.float32)  # T steps, B sequences, I features
    >>> y, (h, c), tape = rnn.forward(x)
    >>> y.shape, h.shape
    ((5, 2, 4), (1, 2, 4))
    >>> dx, dstate, grads = rnn.backward(tape, np.ones_like(y))
    >>> sorted(grads)
    ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["lstm"], input_size, hidden_size, num_layers, **options)


class CoupledLSTM(Recurrent):
    """LSTM whose input gate is 1 − f; see `lstm_numba.cells.lstm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["coupled"], input_size, hidden_size, num_layers, **options)


class UseGateLSTM(Recurrent):
    """LSTM with learn, forget, remember and use gates; see `lstm_numba.cells.use_gate_lstm`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["use-gate"], input_size, hidden_size, num_layers, **options)


class SLSTM(Recurrent):
    """LSTM with exponential gates; see `lstm_numba.cells.slstm` for the equations.

    The paper's block-diagonal recurrent weights are those of several `heads`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["slstm"], input_size, hidden_size, num_layers, **options)


class LayerNormLSTM(Recurrent):
    """LSTM with layer normalisation; see `lstm_numba.cells.layer_norm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`. ``weight_ph_l0`` (14*H,) holds the gains of the products with x and with h, for each
        of the gates i, f, g, o; the shifts of these gates; gain and shift of c. There are no other biases.
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["layer-norm-lstm"], input_size, hidden_size, num_layers, **options)


class LayerNormGRU(Recurrent):
    """GRU with layer normalisation; see `lstm_numba.cells.layer_norm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`. ``weight_ph_l0`` (10*H,) holds the gains of the products with x and with h, for each
        of r, z, n; the shifts of r and z, and those of both products for n. There are no other biases.
    """

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(CELLS["layer-norm-gru"], input_size, hidden_size, num_layers, **options)


class PeepholeLSTM(Recurrent):
    """LSTM with peepholes; see `lstm_numba.cells.peephole_lstm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    peephole : {"diagonal", "full"}
        Whether a unit's gates see its own cell state only, by a weight each, or all cell states, by matrices.
    """

    @explicit(Recurrent.__init__)
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        peephole: str = "diagonal",
        **options: Unpack[LayerOptions],
    ) -> None:
        if peephole not in ("diagonal", "full"):
            raise ValueError(f"peephole: expected 'diagonal' or 'full', got {peephole!r}")
        cell = CELLS["peephole" if peephole == "diagonal" else "peephole-full"]
        super().__init__(cell, input_size, hidden_size, num_layers, **options)


class GRU(Recurrent):
    """Gated recurrent unit; see `lstm_numba.cells.gru` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    reset_after : bool
        Whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before it.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> ln.GRU(3, 4, num_layers=2)
    GRU(3, 4, num_layers=2, dtype=float32)
    >>> ln.GRU(3, 4, reset_after=False).params["weight_ih_l0"].shape  # gates r, z, n
    (12, 3)
    """

    @explicit(Recurrent.__init__)
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **options: Unpack[LayerOptions],
    ) -> None:
        cell = CELLS["gru" if reset_after else "gru-reset-before"]
        super().__init__(cell, input_size, hidden_size, num_layers, **options)


@explicit(Recurrent.__init__, ClockworkRNN.__init__)
def make_layer(
    name: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[AnyLayerOptions]
) -> Recurrent:
    """Make a layer of the cell `name`.

    Parameters
    ----------
    name : str
        One of `lstm_numba.cells.BUILT_IN`, "clockwork", a variant (`lstm_numba.cells.onnx_variants`), or
        ``module:Class`` of a registered cell. The case of the library's own names is ignored.
    input_size, hidden_size, num_layers, **options
        See `Recurrent`; `periods` and what else a "clockwork" layer takes, see `ClockworkRNN`.

    Returns
    -------
    Recurrent
        A layer of the cell; a `ClockworkRNN` for "clockwork".

    Raises
    ------
    ValueError, TypeError
        There is no such cell; the layer has no such option.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> ln.make_layer("lstm", 3, 4, seed=0)
    Recurrent(LSTMCell, 3, 4, dtype=float32)
    """
    given: Any = options  # the layer refuses what is another's
    if isinstance(name, str) and name.lower() == "clockwork":
        return ClockworkRNN(input_size, hidden_size, num_layers, **given)
    return Recurrent(find_cell(name), input_size, hidden_size, num_layers, **given)
