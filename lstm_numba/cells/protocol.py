"""What a cell is: names and sizes, and the scalar equations of one hidden unit, forward and backward.

A cell is a `typing.NamedTuple` subclass, because Numba passes an instance of it into a compiled kernel,
chooses the equations by its class, and still finds the kernel in its disk cache in the next process.

Slots
    An engine keeps a few numbers for every hidden unit and time step, the *slots*. Before `forward`
    they hold pre-activations, after it whatever the cell wants to find again in `backward`, and after
    that the gradients of the pre-activations. Mostly a slot is a gate; a GRU whose reset gate acts
    after the product needs one more, because ``W_n x`` and ``R_n h`` stay apart.

Stages
    Most cells need one product with the recurrent weights, ``R h``. A cell whose product operand
    depends on gates of the same step (a GRU with ``R_n (r * h)``) needs a second: it computes the
    operand from the gates of the first stage.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Stage(NamedTuple):
    """A product with recurrent weights: which slots it feeds, and from the weights of which gates.

    Attributes
    ----------
    first : int
        First slot; the others follow it.
    gates : tuple of int
        For each slot the gate (row block of ``weight_hh``) that feeds it.
    """

    first: int
    gates: tuple[int, ...]


def display_name(cell: Any) -> str:
    """The name of a cell's class, as its author wrote it."""
    return getattr(cell, "display_name", type(cell).__name__)


class Cell(Protocol):
    """What the engines, the layers and the reference read from a cell.

    Attributes
    ----------
    gates : tuple of str
        Gate names, in the order of the row blocks of ``weight_ih``, ``weight_hh`` and the biases.
    states : tuple of str
        State names; the first is the output ``h``.
    slots : tuple of str
        Slot names.
    input_gates : tuple of int
        For slot 0, 1, ... the gate whose ``weight_ih`` and ``bias_ih`` feed it; the slots after these
        see nothing of the input.
    stages : tuple of Stage
        One or two recurrent products.
    peepholes : tuple of str
        Gates with a diagonal peephole weight, in the order of ``weight_ph``; empty for none.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...]
    slots: tuple[str, ...]
    input_gates: tuple[int, ...]
    stages: tuple[Stage, ...]
    peepholes: tuple[str, ...]

    def forward(self, slots: Any, previous: Any, peephole: Any) -> tuple[Any, Any]:
        """Pre-activations and the previous states to (slots to keep, new states)."""

    def backward(
        self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any
    ) -> tuple[Any, Any, Any]:
        """Gradients of the new states to those of (pre-activations, previous states, peephole weights).

        The previous states' gradients leave out what flows through the recurrent products: that is
        the engine's.
        """


class TwoStageCell(Cell, Protocol):
    """A cell with a second recurrent product, whose operand is the operand."""

    def operand(self, slots: Any, previous: Any) -> Any:
        """Pre-activations of the first stage to the operand of the second product."""

    def operand_backward(self, slots: Any, previous: Any, gradient: Any) -> tuple[Any, Any]:
        """The operand's gradient to (all slots' gradients, addition to the previous states' gradients).

        ``slots`` is what `backward` returned for them: gradients, but for first-stage slots whose
        gradient needs the operand's, where `backward` passed on what is needed here.
        """
