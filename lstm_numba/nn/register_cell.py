"""Cells of a user's own: a layer class out of a plain class with equations."""

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
        The equations; of the class, too.
    """

    cell: Any

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(type(self).cell, input_size, hidden_size, num_layers, **options)


def register_cell(cls: type) -> type[CellLayer]:
    """Make a layer class of a plain class that states gates, states and the equations of one hidden unit.

    To be used as a decorator; ``lstm_numba/cells/README.md`` walks through an example. The cell is also known
    as ``module:Class`` from now on, to `make_layer`, `load_weights` and the models. A class of the same name
    that was registered before, in a module that is loaded again, is replaced.

    Parameters
    ----------
    cls : type
        With the attributes and methods of `lstm_numba.cells.protocol.Cell`:

        * ``gates``, ``states`` : tuples of names; the first state is the output.
        * ``forward(self, slots, previous, peephole)`` : pre-activations, one a slot, and previous states to
          (slots to keep, new states).
        * ``backward(self, slots, previous, states, peephole, gradient)`` : gradients of the new states to
          those of (pre-activations, previous states, peephole weights), without what flows through the
          recurrent products.
        * ``peepholes`` : gates with a diagonal peephole weight; none by default.
        * ``slots``, ``input_gates``, ``stages`` : where one slot for each gate, fed by both products, is not
          enough. With two stages also ``operand`` and ``operand_backward``.

    Returns
    -------
    type
        A subclass of `Recurrent`, used as ``ln.LSTM`` is, with the class's name, module and docstring, and
        ``cell``.

    Raises
    ------
    TypeError, ValueError
        Something is missing, misnamed or does not fit; the message names the class and it.
    """
    if isinstance(cls, type) and issubclass(cls, Recurrent):
        raise TypeError(f"register_cell: {cls.__name__} is a layer already")
    cell = make_cell(cls)
    add_cell(f"{cls.__module__}:{cls.__qualname__}", cell)
    names = {
        "cell": cell,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    return type(cls.__name__, (CellLayer,), names)
