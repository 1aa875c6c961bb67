"""Registers a user's cell: makes a layer class from a class with equations."""

from __future__ import annotations

from typing import Any

from lstm_numba.cells import add_cell
from lstm_numba.cells.registration import make_cell
from lstm_numba.nn.recurrent import Recurrent


class CellLayer(Recurrent):
    """Base of the layers that `register_cell` makes.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.

    Attributes
    ----------
    cell : Cell
        The equations; also an attribute of the class.
    """

    cell: Any

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(type(self).cell, input_size, hidden_size, num_layers, **options)


def register_cell(cls: type) -> type[CellLayer]:
    """Make a layer class from a class with gates, states and the equations of one hidden unit.

    Use it as a decorator; ``lstm_numba/cells/README.md`` explains an example. `make_layer`, `load_weights`
    and the models then know the cell as ``module:Class``. A class registered before under the same name, as
    when a module is reloaded, is replaced.

    Parameters
    ----------
    cls : type
        With the attributes and methods of `lstm_numba.cells.protocol.Cell`:

        * ``gates``, ``states`` : tuples of names; the first state is the output.
        * ``forward(self, slots, previous, peephole)`` : from pre-activations, one per slot, and previous
          states to (slots to keep, new states).
        * ``backward(self, slots, previous, states, peephole, gradient)`` : from gradients of the new states
          to those of (pre-activations, previous states, peephole weights), without what flows through the
          recurrent products.
        * ``peepholes`` : gates with a diagonal peephole weight; none by default.
        * ``slots``, ``input_gates``, ``stages`` : needed if one slot per gate, fed by both products, is not
          enough; with two stages also ``operand`` and ``operand_backward``.

    Returns
    -------
    type
        A subclass of `Recurrent`, used like ``ln.LSTM``, with the class's name, module and docstring.

    Raises
    ------
    TypeError, ValueError
        The class is no valid cell; the message names the class and the fault.
    """
    if isinstance(cls, type) and issubclass(cls, Recurrent):
        raise TypeError(f"register_cell: {cls.__name__} is a layer already")
    cell = add_cell(make_cell(cls))
    names = {
        "cell": cell,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    return type(cls.__name__, (CellLayer,), names)
