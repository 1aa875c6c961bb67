"""Registers a user's cell: makes a layer class from a class with equations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstm_numba.cells import add_cell
from lstm_numba.cells.registration import make_cell
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.signatures import explicit_as

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lstm_numba.nn.options import LayerOptions


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

    @explicit_as(Recurrent.__init__)
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(type(self).cell, input_size, hidden_size, num_layers, **options)


def register_cell(cls: type) -> type[CellLayer]:
    """Make a layer class from a class with gates, states and the forward equations of one hidden unit.

    The backward equations are derived. Use it as a decorator; an example is explained in
    ``lstm_numba/cells/CUSTOM_CELLS.md``. `make_layer`, `load_weights` and the models then know the cell as
    ``module:Class``. A class registered before under the same name, as when a module is reloaded, is
    replaced.

    Parameters
    ----------
    cls : type
        With these attributes and methods, as `lstm_numba.cells.definition` says:

        * ``gates``, ``states`` : tuples of names; the first state is the output. Every gate gets a product
          with the input and one with the previous output.
        * ``forward(self, z, v)`` : a dictionary of the new states by name. ``z.f`` is the pre-activation of
          gate f, ``v.c`` the previous state c.
        * ``vectors`` : names of per-unit parameters, such as diagonal peepholes, ``v.p_f``; none by default.
        * ``phases`` instead of ``gates`` and ``forward`` : products that feed other gates, or whose operand
          is computed from gates of the same step.
        * ``backward(self, z, v, d)`` : optional, the author's own gradients by name, from those of the new
          states, ``d.h``. They must be the derivative of ``forward``.

    Returns
    -------
    type
        A subclass of `Recurrent`, used like ``ln.LSTM``, with the class's name, module and docstring.

    Raises
    ------
    TypeError, ValueError
        The class is no valid cell; the message names the class, the fault and, in equations, its line.

    Examples
    --------
    >>> import lstm_numba as ln
    >>> @ln.register_cell
    ... class Leaky:
    ...     gates = ("g",)
    ...     states = ("h",)
    ...
    ...     def forward(self, z, v):
    ...         return {"h": 0.5 * v.h + z.g}
    >>> Leaky(3, 4).params["weight_hh_l0"].shape
    (4, 4)
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
