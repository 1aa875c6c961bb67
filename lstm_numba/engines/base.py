"""What layers, models and training ask of a device; the engines of `cpu` and `cuda` implement it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = Any
Arrays = Sequence[Array]
Shape = tuple[int, ...]

#: Indices into an array of totals: sum of losses, correct predictions, gradient norm, factor of the
#: gradients.
LOSS, CORRECT, NORM, FACTOR = range(4)


class Engine(ABC):
    """Computes on one device.

    ``Array`` stands for the engine's arrays: NumPy's on the CPU, device arrays on a GPU. Where `out` may be
    given, the result is written to it. There is one instance for each device (`lstm_numba.engines.engine`).

    Attributes
    ----------
    name : str
        Name of the device.
    in_flight : int
        Training steps that may be under way before the numbers of the first are looked at.
    """

    name: ClassVar[str]
    in_flight: ClassVar[int]

    # -- arrays ----------------------------------------------------------------------------------

    @abstractmethod
    def empty(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new array with whatever the memory holds."""

    @abstractmethod
    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new array of zeros."""

    @abstractmethod
    def stack(self, shape: Shape, dtype: npt.DTypeLike) -> list[Array]:
        """New arrays of one shape, as many as `shape` says first; they may share a piece of memory."""

    @abstractmethod
    def upload(self, array: npt.NDArray[Any], out: Array | None = None) -> Array:
        """A NumPy array in the engine's memory; without `out` it need not be a copy."""

    @abstractmethod
    def download(self, array: Array) -> npt.NDArray[Any]:
        """An array as NumPy's; it need not be a copy."""

    @abstractmethod
    def fetch(self, array: Array) -> Callable[[], npt.NDArray[Any]]:
        """Begin to copy an array; the function returned waits for the numbers and gives them."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all that was begun, before other streams may need it."""

    @abstractmethod
    def from_user(self, name: str, value: Any, dtype: np.dtype[Any] | None) -> Array:
        """A user's array as the engine's; a TypeError names the argument."""

    @abstractmethod
    def to_user(self, array: Array, like: Any) -> Any:
        """An array in the form of what the user came with."""

    @abstractmethod
    def on_stream_of(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Compute in the order that the user's array belongs to."""

    @abstractmethod
    def read_only(self, array: Array, copy: bool) -> Array:
        """A view that cannot be written to, or where there are no such views, a copy if asked for."""

    @abstractmethod
    def contiguous(self, array: Array) -> Array:
        """The array itself where it is C-contiguous, else a copy."""

    @abstractmethod
    def copy_input(self, x: Array, lengths: Array | None) -> Array:
        """A copy of an input (T, B, I) for the backward pass: the caller may refill the original before it.

        It is zero past a sequence's end: what lies there is multiplied with zeros, and may be NaN.
        """

    @abstractmethod
    def swap_time_batch(self, array: Array) -> Array:
        """An array (A, B, C) as (B, A, C)."""

    @abstractmethod
    def transposed(self, matrix: Array) -> Array:
        """A matrix (M, N) as (N, M), without a copy."""

    @abstractmethod
    def lengths(self, lengths: npt.NDArray[np.int64] | None) -> Array | None:
        """Checked lengths in the engine's memory."""

    # -- layers ----------------------------------------------------------------------------------

    @abstractmethod
    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Product of two arrays of one shape, number by number."""

    @abstractmethod
    def dropout(
        self,
        rng: np.random.Generator,
        x: Array,
        p: float,
        out: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """An array times a mask of `lstm_numba.engines.dropout_masks`, and the mask. `out` may be `x`."""

    @abstractmethod
    def weight_cache(self) -> Any:
        """Memory for what repeated calls with the same parameters can share."""

    @abstractmethod
    def forward(
        self,
        cell: Any,
        params: dict[str, Array],
        x: Array,
        states: Sequence[Array] | None,
        finals: Sequence[Array],
        index: int,
        lengths: Array | None,
        reverse: bool,
        keep: bool,
        weight_cache: Any = None,
        borrow: bool = False,
    ) -> tuple[Any, Any]:
        """Run one layer and direction over a sequence x (T, B, I).

        `states` (None for zeros) and `finals` are stacked, (layers * directions, B, H): of them number
        `index` is
        read and written. Returns the output, for `join`, and what `backward` needs, or None without `keep`.
        With `borrow` nobody writes to the parameters until then, so that it need not copy them.
        """

    @abstractmethod
    def join(self, outputs: Sequence[Any], lengths: Array | None, shape: Shape) -> Array:
        """The outputs of all directions side by side, (T, B, D*H), zero past a sequence's end."""

    @abstractmethod
    def backward(
        self,
        saved: Any,
        dy: Array | None,
        direction: int,
        dstates: Sequence[Array] | None,
        initial: Sequence[Array],
        index: int,
        dx: Array | None,
        input_gradient: bool = True,
    ) -> tuple[Array | None, dict[str, Array]]:
        """Back-propagate through what `forward` ran, as direction number `direction` of dy (T, B, D*H).

        `dy` and `dstates` may be None for zeros. Returns the gradient of x, added to `dx` where that is given
        and None where it is not wanted, and those of the parameters.
        """

    # -- models ----------------------------------------------------------------------------------

    @abstractmethod
    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix product."""

    @abstractmethod
    def column_sums(self, matrix: Array, out: Array | None = None) -> Array:
        """Sums of the columns of a matrix."""

    @abstractmethod
    def add_row(self, matrix: Array, row: Array) -> Array:
        """Add a row to all rows of a matrix, in place."""

    @abstractmethod
    def tokens(
        self, ids: npt.NDArray[Any], gradient: bool = True, fixed: bool = False, out: Any = None
    ) -> Any:
        """A NumPy array of valid tokens as the engine wants them.

        Without `gradient` they will only be looked up. `fixed` has arrays of the same sizes come of all
        tokens of one shape; `out` are earlier ones of that kind, whose place they take.
        """

    @abstractmethod
    def take_rows(self, table: Array, tokens: Any, out: Array | None = None) -> Array:
        """Rows of a table."""

    @abstractmethod
    def row_gradient(self, tokens: Any, dy: Array, shape: tuple[int, int]) -> Any:
        """Gradient of a table of that shape from those of the rows that `take_rows` took."""

    @abstractmethod
    def add_rows(self, rows: Any, out: Array) -> None:
        """Add a sparse gradient to a whole one."""

    @abstractmethod
    def last_outputs(self, h: Array, directions: int) -> Array:
        """The last layer's final h, directions side by side: (B, D*H) of (layers * D, B, H)."""

    @abstractmethod
    def last_outputs_gradient(self, h: Array, directions: int, gradient: Array) -> Array:
        """Gradient of h from that of `last_outputs`."""

    @abstractmethod
    def totals(self) -> Array:
        """For the numbers of a step, in float64: see `LOSS` and the other places."""

    @abstractmethod
    def targets(
        self, targets: npt.NDArray[Any], weights: npt.NDArray[Any] | None, classes: int, out: Any = None
    ) -> Any:
        """NumPy arrays of targets and their weights, each (N,), as `cross_entropy` wants them.

        `out` are earlier ones of that shape, whose place they take.
        """

    @abstractmethod
    def cross_entropy(
        self,
        logits: Array,
        targets: Any,
        totals: Array,
        *,
        scale: float = 1.0,
        bias: Array,
        gradient: bool = True,
    ) -> None:
        """Put loss and correct predictions into new totals; the gradient takes the place of the logits.

        See `lstm_numba.engines.cpu.losses.softmax_cross_entropy`.
        """

    # -- training --------------------------------------------------------------------------------

    @abstractmethod
    def clip_by_value(self, grads: Mapping[str, Any], limit: float) -> None:
        """Limit every number of the gradients to [-limit, limit]."""

    @abstractmethod
    def clip_by_norm(self, grads: Mapping[str, Any], totals: Array, max_norm: float | None) -> None:
        """Put the gradients' norm and the factor that brings it down to `max_norm` into the totals.

        The factor is NaN where the norm or the loss is not finite; then no parameter shall change.
        """

    @abstractmethod
    def scatter(self, rows: Any, out: Array) -> Array:
        """Put the rows of a sparse gradient into a matrix that is zero elsewhere."""

    @abstractmethod
    def clear_rows(self, rows: Any, out: Array) -> None:
        """Zero the rows of a matrix that a sparse gradient has."""

    @abstractmethod
    def factor(self, scale: float, totals: Array | None) -> Any:
        """What the updates below take as the factor of the gradients: `scale`, or the one in the totals.

        Where it is NaN, no update changes anything.
        """

    @abstractmethod
    def numbers(self, values: tuple[float, ...], out: Any = None) -> Any:
        """Numbers of a step as the updates take them; into those of an earlier step where these are given."""

    @abstractmethod
    def sgd(self, params: Arrays, grads: Sequence[Any], factor: Any, numbers: Any) -> None:
        """Update parameters by ``p -= rate * g``; sparse gradients touch their own rows only."""

    @abstractmethod
    def momentum(
        self,
        params: Arrays,
        grads: Arrays,
        velocities: Arrays | None,
        factor: Any,
        numbers: Any,
        nesterov: bool,
    ) -> None:
        """Update parameters by `update_rules.momentum`, from rest without `velocities`."""

    @abstractmethod
    def adam(
        self, params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters by `update_rules.adam`."""

    @abstractmethod
    def rmsprop(
        self, params: Arrays, grads: Arrays, squares: Arrays, velocities: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters by `update_rules.rmsprop`."""

    @abstractmethod
    def assign(self, target: Array, source: Array | None) -> None:
        """Copy an array to another one of its shape; None stands for zeros."""

    @abstractmethod
    def recorder(self) -> Any:
        """What records a training step, to repeat it without the host; None where nothing does."""
