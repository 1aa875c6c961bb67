"""What the engines read from a cell: names, wiring, and one hidden unit's equations, forward and backward.

`lstm_numba.cells.registration` makes it from what an author writes (`lstm_numba.cells.definition`): the
wiring is planned, the backward equations are derived. A cell is an instance of a `typing.NamedTuple`
subclass: Numba can pass it to a compiled kernel, chooses the equations by its class, and finds the kernel in
its disk cache in the next process.

Slots
    For every hidden unit and time step an engine stores a few numbers, the *slots*. Before `forward` they
    hold pre-activations; `forward` replaces them with what `backward` needs; `backward` replaces those with
    the gradients of the pre-activations. Usually there is one slot per gate; a GRU whose reset gate acts
    after the product needs one more, because ``W_n x`` and ``R_n h`` are not added.

Stages
    Most cells need one recurrent product, ``R h``. If the operand of a product depends on gates of the same
    step, such as ``R_n (r * h)`` of a GRU, the cell has a second stage, whose operand it computes from the
    gates of the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Stage(NamedTuple):
    """A recurrent product: the slots that it feeds, and the gates whose weights it uses.

    Attributes
    ----------
    first : int
        First slot that it feeds; the others follow it.
    gates : tuple of int
        For each of these slots the row block of the weights that feeds it.
    weight : str
        Name of the weights: ``weight_hh``, or those of the second stage alone.
    """

    first: int
    gates: tuple[int, ...]
    weight: str = "weight_hh"


def display_name(cell: Any) -> str:
    """The name of a cell's class, as its author wrote it.

    Parameters
    ----------
    cell : Cell

    Returns
    -------
    str
    """
    return getattr(cell, "display_name", type(cell).__name__)


class Cell(Protocol):
    """What the engines, the layers and the reference read from a cell.

    Attributes
    ----------
    gates, recurrent_gates : tuple of str
        Names of the row blocks of ``weight_ih`` and ``bias_ih``, and of ``weight_hh`` and ``bias_hh``.
    states : tuple of str
        State names; the first is the output ``h``.
    slots : tuple of str
        Slot names.
    input_gates : tuple of int
        For slots 0, 1, ... the gate whose ``weight_ih`` and ``bias_ih`` feed it; further slots get nothing
        from the input.
    stages : tuple of Stage
        One or two recurrent products.
    peepholes : tuple of str
        Names of per-unit vectors, such as diagonal peephole weights, in the order of ``weight_ph``; empty for
        none.
    extras : tuple of str
        Names of numbers from outside for every step and row, such as masks. The argument ``peephole`` of the
        functions below holds the vectors and behind them the extras.
    extra_units : tuple of bool
        For each extra whether every unit has one, or a row of the batch one for all its units.
    biased : bool
        Whether the products may have biases.
    initial_vectors : tuple of float
        What each of the vectors begins with; empty for random ones.
    mean_levels : tuple of tuple of str
        Names of means over a row's hidden units, in groups that are computed one after the other. They are
        behind the extras in the argument ``peephole``, and their gradients behind those of the new states in
        ``gradient``. What a unit contributes to them returns ``means_0(slots, previous, peephole)`` for the
        first group, and so on; to their gradients ``dmeans_0(slots, previous, states, peephole, gradient)``,
        in the reverse order of groups.
    reused, dreused : tuple of int
        How many numbers these functions return besides, in a second tuple, for the functions that follow in
        the step: there all groups' numbers, as far as they are computed yet, are behind the means.
    projected : bool
        Whether the first state, and the slots of the second stage, have fewer units than the others.
    prepared : bool
        Whether the operand of the first recurrent product is not the first state but what `prepare` returns.
    traced, traced_gates : tuple of str
        What a trace shows beside the states, and which of it is within 0 and 1; see
        `lstm_numba.cells.traced`.
    traced_slots : tuple of int
        For each of these the slot that holds it after `forward`; -1 where none does.
    """

    gates: tuple[str, ...]
    recurrent_gates: tuple[str, ...]
    states: tuple[str, ...]
    slots: tuple[str, ...]
    input_gates: tuple[int, ...]
    stages: tuple[Stage, ...]
    peepholes: tuple[str, ...]
    extras: tuple[str, ...]
    extra_units: tuple[bool, ...]
    biased: bool
    initial_vectors: tuple[float, ...]
    mean_levels: tuple[tuple[str, ...], ...]
    reused: tuple[int, ...]
    dreused: tuple[int, ...]
    projected: bool
    prepared: bool
    traced: tuple[str, ...]
    traced_gates: tuple[str, ...]
    traced_slots: tuple[int, ...]

    def forward(self, slots: Any, previous: Any, peephole: Any) -> tuple[Any, Any]:
        """Compute one step from pre-activations and previous states.

        Returns a tuple of slots to keep for `backward` and a tuple of new states.
        """

    def backward(
        self, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any
    ) -> tuple[Any, Any, Any]:
        """Compute gradients from those of the new states.

        Parameters
        ----------
        slots, states
            What `forward` returned.
        previous, peephole
            Arguments of `forward`.
        gradient : tuple
            Gradients of the new states.

        Returns
        -------
        tuple of tuples
            Gradients of the pre-activations (one per slot), of the previous states and of the peephole
            weights. The previous states' gradients exclude what flows through the recurrent products, which
            the engine adds.
        """


class TwoStageCell(Cell, Protocol):
    """A cell with a second recurrent product, of an operand that it computes."""

    def operand(self, slots: Any, previous: Any, peephole: Any) -> Any:
        """The operand of the second product, from the first stage's pre-activations and previous states."""

    def operand_backward(self, slots: Any, previous: Any, peephole: Any, gradient: Any) -> tuple[Any, Any]:
        """Compute gradients from that of the operand.

        ``slots`` is what `backward` returned for them: gradients, or, for first-stage slots whose gradient
        depends on the operand's, what is needed here. Returns all slots' gradients, and what to add to the
        previous states' gradients.
        """


class PreparedCell(Cell, Protocol):
    """A cell whose first recurrent product is not of its first state."""

    def prepare(self, previous: Any, peephole: Any) -> Any:
        """The operand of the first product, from the states before the step and the step's extras."""

    def prepare_backward(self, previous: Any, peephole: Any, gradient: Any) -> Any:
        """What the gradient of this operand adds to those of the states, a tuple."""
