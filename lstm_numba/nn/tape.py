"""What the layers of a call share, and what they save for the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lstm_numba.nn.recurrent import Recurrent

Array = Any  # a NumPy or a device array
State = Any  # an array or a tuple of arrays, each (num_layers*D, B, H)


class Tape:
    """What `Recurrent.forward` saves for one call of `Recurrent.backward`; opaque."""

    def __init__(self, owner: Recurrent, cell: Any, shape: tuple[int, int, int], call: Any = None) -> None:
        self.owner = owner
        self.cell = cell  # that computed the call
        self.shape = shape  # of x, without the axis of models
        self.call = call  # a prepared one (`Engine.prepared_calls`), or None
        self.saved: list[Any] = []  # of each layer; what that call's backward pass takes
        self.masks: list[Array | None] = []
        self.weight_masks: list[Array | None] = []  # one for each layer and direction
        self.user_x: Any = None  # the x that was passed; gradients are returned as arrays of its library
        self.lengths: Array | None = None
        self.shared_x = False  # whether many models read the same x

    def __repr__(self) -> str:
        used = "" if self.saved else ", used up"
        return f"Tape({self.owner!r}, x {self.shape}{used})"

    def __reduce__(self) -> Any:
        raise TypeError(
            "tape: cannot be copied or pickled, it holds addresses; run forward again with the copy"
        )


class Given(NamedTuple):
    """What a layer was called with beside x, as the user gave it."""

    state: State = None
    lengths: Any = None
    resets: Any = None
    reset_to: str = "zeros"
    extras: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Call:
    """What all layers of a forward pass share; arrays are the engine's, and states those of every head.

    Attributes
    ----------
    cell : Cell
        That computes it.
    states, finals : list of Array, shape (heads*layers*D, B, H/heads)
        Initial (None: zeros) and final states, for `Engine.forward`.
    lengths : Array (B,) or None
    going : list of Array (T, B, 1)
        For each direction where it is not reset; empty without resets.
    extras : list of dict of Array
        The user's, for each head.
    keep, training, copy : bool
        See `Recurrent.forward`; without `keep` there is no backward pass.
    tape : Tape or None
        With `keep`.
    back : bool
        Whether the tape is for a backward pass; False: for a trace.
    """

    cell: Any
    states: list[Array] | None
    finals: list[Array]
    lengths: Array | None
    going: list[Array]
    extras: list[dict[str, Array]]
    keep: bool
    training: bool
    copy: bool
    tape: Tape | None
    back: bool = True
