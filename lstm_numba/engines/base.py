"""The interface of an engine: what layers, models and training call, implemented by `cpu` and `cuda`."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.number_losses import NumberLoss
from lstm_numba.engines.sparse import SparseRows

Array = Any
Arrays = Sequence[Array]
Shape = tuple[int, ...]

#: Indices into `Engine.totals`: summed loss, correct predictions, gradient norm, factor of the gradients.
LOSS, CORRECT, NORM, FACTOR = TOTALS = range(4)

_IN_ORDER = contextlib.nullcontext(lambda number: contextlib.nullcontext())


class Steps(NamedTuple):
    """Which step belongs to step s: ``(s * multiply + add) // divide``, not descending."""

    multiply: int
    add: int
    divide: int

    def of(self, count: int) -> npt.NDArray[np.int64]:
        """Those of the first `count` steps."""
        return (np.arange(count, dtype=np.int64) * self.multiply + self.add) // self.divide


class Engine(ABC):
    """Computes on one device; there is one instance per device (`lstm_numba.engines.engine`).

    ``Array`` is the engine's array type: NumPy arrays on the CPU, device arrays on a GPU. Unless stated
    otherwise, arguments are not checked, and array arguments and results are C-contiguous and of one dtype.
    `out`, where given, has the shape and dtype of the result, is overwritten with it and returned. Calls may
    return before their work is done: later calls can use the results, the host only after `download`.

    T, B, I, H are time steps, sequences, input features and hidden units; D directions, G gates.

    Attributes
    ----------
    name : str
        Name of the device.
    in_flight : int
        Training steps that may be queued before the host reads the results of the first.
    """

    name: ClassVar[str]
    in_flight: ClassVar[int]

    # -- arrays ----------------------------------------------------------------------------------

    @abstractmethod
    def empty(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new uninitialised array."""

    @abstractmethod
    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> Array:
        """A new array of zeros."""

    @abstractmethod
    def stack(self, shape: Shape, dtype: npt.DTypeLike) -> list[Array]:
        """``shape[0]`` new uninitialised arrays of ``shape[1:]``; they may be views of one allocation."""

    @abstractmethod
    def upload(self, array: npt.NDArray[Any], out: Array | None = None) -> Array:
        """Copy a NumPy array to the engine's memory.

        Without `out` the CPU engine returns `array` itself.
        """

    @abstractmethod
    def download(self, array: Array) -> npt.NDArray[Any]:
        """The array as a NumPy array, after all work on it has finished.

        The CPU engine returns `array` itself.
        """

    @abstractmethod
    def fixed(self, array: Array) -> Array:
        """A copy that nobody can write to; where there is no such thing (CUDA), the array itself."""

    @abstractmethod
    def fetch(self, array: Array) -> Callable[[], npt.NDArray[Any]]:
        """Start copying an array to the host; the function returned waits and returns a NumPy copy.

        With ``in_flight = 0`` the copy may be made only when that function is called.
        """

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work submitted so far has finished, so that other streams may use the results."""

    @abstractmethod
    def from_user(self, name: str, value: Any, dtype: np.dtype[Any] | None) -> Array:
        """Check a user's array and return it as the engine's, not necessarily C-contiguous.

        It is not copied if it is in the engine's memory already. `dtype` None accepts any.

        Raises
        ------
        TypeError
            `value` is masked, of another dtype, or no array that the engine takes; names the argument.
        """

    @abstractmethod
    def to_user(self, array: Array, like: Any) -> Any:
        """The array as one of the same library as the user's array `like`.

        The CPU engine returns `array` itself.
        """

    @abstractmethod
    def on_stream_of(self, value: Any) -> contextlib.AbstractContextManager[Any]:
        """Context that submits work to the stream that the library of `value` uses, if it names one."""

    @abstractmethod
    def read_only(self, array: Array, copy: bool) -> Array:
        """A read-only view; where there are none (CUDA), a copy if `copy`, else the array itself."""

    @abstractmethod
    def contiguous(self, array: Array) -> Array:
        """The array itself if it is C-contiguous, else a C-contiguous copy."""

    @abstractmethod
    def copy_input(self, x: Array, lengths: Array | None) -> Array:
        """A C-contiguous copy of an input of `forward` with `keep`, of any strides.

        The caller may then overwrite `x` before `backward`. Steps beyond a sequence's end become zero:
        `backward` multiplies them by zero, and they may be NaN.
        """

    @abstractmethod
    def swap_time_batch(self, array: Array) -> Array:
        """An array (..., A, B, C), of any strides, as (..., B, A, C): a view (CPU) or a copy (CUDA)."""

    @abstractmethod
    def transposed(self, matrix: Array) -> Array:
        """A matrix (M, N), or those of many models, as (N, M), a view that `matmul` accepts."""

    @abstractmethod
    def lengths(self, lengths: npt.NDArray[np.int64] | None) -> Array | None:
        """Lengths (B,), known to be in 0..T, in the engine's memory; None stays None (all are T)."""

    # -- layers ----------------------------------------------------------------------------------

    @abstractmethod
    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Elementwise product of two arrays of the same shape; `out` may be one of them."""

    @abstractmethod
    def copy_steps(
        self, source: Array, begin: int, out: Array, column: int, width: int, steps: Steps
    ) -> None:
        """``out[s, :, column : column + width] = source[steps(s), :, begin : begin + width]`` for every s.

        Of arrays (T, B, C) and (S, B, E), or the same of each of many models.
        """

    @abstractmethod
    def add_steps(self, source: Array, begin: int, out: Array, column: int, width: int, steps: Steps) -> None:
        """``out[steps(s), :, column : column + width] += source[s, :, begin : begin + width]`` for every s.

        Of arrays (S, B, C) and (T, B, E), or of each of many models, in the order of s. `source` may be a dx
        from `backward`.
        """

    @abstractmethod
    def dropout(
        self,
        rng: np.random.Generator,
        x: Array,
        p: float,
        out: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """Multiply an array by a mask; returns the product and the mask, both of the shape and dtype of `x`.

        The mask is that of `lstm_numba.engines.dropout_masks.draw_mask`; a Philox generator gives the same
        masks on every engine. `out` may be `x`.
        """

    @abstractmethod
    def mask(
        self, rng: np.random.Generator, shape: Shape, p: float, dtype: npt.DTypeLike, kept: float = 1.0
    ) -> Array:
        """A new array, 0 with probability `p`, else `kept`; drawn as `dropout` draws."""

    @abstractmethod
    def weight_cache(self) -> Any:
        """Memory that repeated `forward` calls of one layer and direction share, such as packed weights.

        None if the engine keeps nothing between calls.
        """

    def prepared_calls(self) -> Any:
        """What runs small calls of a layer, or None; see `lstm_numba.engines.cpu.prepared.PreparedCalls`."""
        return None

    def branches(
        self, count: int
    ) -> contextlib.AbstractContextManager[Callable[[int], contextlib.AbstractContextManager[Any]]]:
        """Context around branches of work that may run at the same time, such as a layer's directions.

        It gives a function that makes the context for the work of branch 0, 1 ... `count` - 1; they are
        entered in this order. Branches read what there was before, and write to what no other one reads or
        writes; but `backward` may add to a dx from an earlier one. Later work may use what they return. Where
        one raises an exception, the others' work is waited for too.
        """
        return _IN_ORDER

    def pipeline(
        self, count: int
    ) -> contextlib.AbstractContextManager[Callable[[int], contextlib.AbstractContextManager[Any]]]:
        """Context around stages of work, such as layers: each time one may run beside the others.

        It gives a function that makes the context for work of stage 0, 1 ... `count` - 1, entered in any
        order. A stage's work comes after what it did before, and after all that the stage before it has been
        given. What one stage returns and another reads must be kept until all are done. Later work may use
        all results.
        """
        return _IN_ORDER

    def wavefront(self, cell: Any, layers: int, steps: int, shape: tuple[int, int, int], dtype: Any) -> int:
        """In how many chunks of time so many layers are fastest, each a stage of a `pipeline`; 1: in none.

        `shape` is that of a layer: rows of the batch, hidden units, units of h.
        """
        return 1

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
        extras: Sequence[Array] = (),
        back: bool = True,
        models: int = 0,
    ) -> tuple[Any, Any]:
        """Run one layer and direction over a sequence.

        Parameters
        ----------
        cell : Cell
        params : dict of Array
            ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H); with biases ``bias_ih`` and ``bias_hh`` (G*H,);
            with P peepholes ``weight_ph`` (P*H,). All have the dtype of `x`.
        x : Array (T, B, I), C-contiguous
        states, finals : sequence of Array (layers*D, B, H), C-contiguous
            One array per state of the cell: initial states, read at `index` (None: zeros), and final states,
            written at `index`.
        index : int
            ``layer * D + direction``.
        lengths : Array (B,) or None
            From `lengths`. A sequence's final state is that after its last step.
        reverse : bool
            Read each sequence from its last step to its first.
        keep : bool
            Save what `backward` needs. `x` must then stay unchanged until `backward`.
        weight_cache : object, optional
            From `weight_cache`, the same one for the same layer and direction.
        borrow : bool
            The caller does not change `params` before `backward`, so they need not be copied.
        extras : sequence of Array (T or 1, B or 1, H or 1), C-contiguous
            One for each of the cell's extras, at the times of `x`; along an axis of length 1 all are the
            same. They must stay unchanged until `backward`.
        back : bool
            Whether `backward` follows; False if what is saved is for `trace`.
        models : int
            0 for one model. Else each array has a leading axis of so many, here, in `join` and in `backward`;
            but `x`, `lengths` and any of the extras may be without, for all of them.

        Returns
        -------
        output : object
            Output h of all steps, for `join` only.
        saved : object or None
            For one call of `backward` or `trace`; None without `keep`.

        Raises
        ------
        TypeError, ValueError
            A parameter has another dtype or shape. Other arguments are not checked.
        """

    @abstractmethod
    def trace(self, saved: Any, lengths: Array | None) -> dict[str, Array]:
        """Gates, candidates and states of one call of `forward`, by the names in its cell.

        Parameters
        ----------
        saved : object
            From `forward` without `back`; used up.
        lengths : Array (B,) or None

        Returns
        -------
        dict of str to Array (T, B, H)
            The cell's ``traced`` values, then its states after each step; zero beyond a sequence's end.
        """

    @abstractmethod
    def join(self, outputs: Sequence[Any], lengths: Array | None, shape: Shape) -> Array:
        """Concatenate the outputs of `forward`, one per direction, to an array of `shape` (T, B, D*H).

        It is zero beyond a sequence's end, and may share memory with what `forward` saved.
        """

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
        """Back-propagate through one call of `forward`.

        Parameters
        ----------
        saved : object
            From `forward`; used up.
        dy : Array (T, B, D*H) or None
            Gradient of the joined output, of which `direction` selects H columns; None means zero. Values
            beyond a sequence's end are ignored.
        direction : int
        dstates : sequence of Array (layers*D, B, H) or None
            Gradients of the final states, read at `index`; None means zero.
        initial : sequence of Array (layers*D, B, H)
            Gradients of the initial states, written at `index`.
        index : int
        dx : Array (T, B, I) or None
            Gradient of x from another direction, to add to in place.
        input_gradient : bool
            Whether the gradient of x is wanted.

        Returns
        -------
        dx : Array (T, B, I) or None
            Zero beyond a sequence's end; `dx` itself where given; None if not wanted.
        grads : dict of Array
            Gradients of the parameters, keys as in `params` of `forward`.
        """

    # -- models ----------------------------------------------------------------------------------

    @abstractmethod
    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix product (M, K) x (K, N) -> (M, N), or that of each of many models.

        An operand may be a view from `transposed`.
        """

    @abstractmethod
    def column_sums(self, matrix: Array, out: Array | None = None) -> Array:
        """Sums over the rows of a matrix (M, N), shape (N,), or of each of many models'."""

    @abstractmethod
    def add_row(self, matrix: Array, row: Array) -> Array:
        """Add a row (N,) to every row of a matrix (M, N), or of each of many, in place; returns it."""

    @abstractmethod
    def tokens(
        self, ids: npt.NDArray[Any], gradient: bool = True, fixed: bool = False, out: Any = None
    ) -> Any:
        """Prepare integer token ids, a NumPy array known to be in range, for `take_rows` and `row_gradient`.

        Without `gradient` the result is for `take_rows` only. With `fixed` the sizes of its arrays depend on
        the shape of `ids` alone; `out` is an earlier result of that kind and shape. It is opaque but for its
        ``shape``, that of `ids`.
        """

    @abstractmethod
    def take_rows(self, table: Array, tokens: Any, out: Array | None = None) -> Array:
        """Rows of a table (V, E) for `tokens`: (*tokens.shape, E)."""

    @abstractmethod
    def row_gradient(self, tokens: Any, dy: Array, shape: tuple[int, int]) -> SparseRows:
        """Gradient of a table from `dy` (*tokens.shape, E), that of the rows which `take_rows` returned.

        `shape` is the table's, (V, E).
        """

    @abstractmethod
    def add_rows(self, rows: Any, out: Array) -> None:
        """Add a `SparseRows` to a whole matrix, in place."""

    @abstractmethod
    def last_outputs(self, h: Array, directions: int) -> Array:
        """Final h of the last layer, directions concatenated: (layers*D, B, H) -> (B, D*H), of each model."""

    @abstractmethod
    def last_outputs_gradient(self, h: Array, directions: int, gradient: Array) -> Array:
        """Gradient of `h` (layers*D, B, H) from that of `last_outputs` (B, D*H); zero for other layers."""

    @abstractmethod
    def totals(self, models: int = 0) -> Array:
        """A float64 array (4,) for a step's loss, correct predictions, gradient norm and factor.

        For many models (models, 4); then gradients and parameters below have that axis, too, and what is done
        with a model depends on its own gradients alone.

        See `LOSS` and the other indices; each is undefined until the method that computes it has run.
        """

    @abstractmethod
    def targets(
        self, targets: npt.NDArray[Any], weights: npt.NDArray[Any] | None, classes: int, out: Any = None
    ) -> Any:
        """Prepare targets (N,) and their weights (N,), NumPy arrays, for `cross_entropy`.

        Weights are ones by default; a row of weight 0 is padding, whatever its target. `out` is an earlier
        result of the same N. The result is opaque.

        Raises
        ------
        ValueError, TypeError
            A target is not in 0..`classes` - 1, or a weight negative; raised here or in `cross_entropy`.
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
        """Softmax cross-entropy; see `lstm_numba.engines.cpu.losses.softmax_cross_entropy`.

        Parameters
        ----------
        logits : Array (N, V)
            Without the bias. Overwritten with the gradient; with `gradient` False their values are undefined.
        targets : object
            From `targets`.
        totals : Array
            From `totals`: `LOSS` is set to the summed loss in nats, `CORRECT` to the correct predictions.
        scale : float
            Factor of the gradient alone.
        bias : Array (V,)
        gradient : bool
        """

    @abstractmethod
    def number_targets(
        self,
        targets: npt.NDArray[Any],
        weights: npt.NDArray[Any] | None,
        loss: NumberLoss,
        out: Any = None,
    ) -> Any:
        """Prepare targets (N, M) and their weights, (N,) or (N, M), NumPy arrays, for `number_loss`.

        Weights are ones by default; a target of weight 0 is missing, whatever its number. `out` is an
        earlier result of the same N. The result is opaque.

        Raises
        ------
        ValueError, TypeError
            See `lstm_numba.engines.number_losses.check_number_targets`.
        """

    @abstractmethod
    def number_loss(
        self,
        predictions: Array,
        targets: Any,
        totals: Array,
        loss: NumberLoss,
        *,
        scale: float = 1.0,
        bias: Array,
        gradient: bool = True,
    ) -> None:
        """Loss of predicted numbers; see `lstm_numba.engines.number_losses`.

        Parameters
        ----------
        predictions : Array (N, M * P)
            Without the bias, P numbers a target. Overwritten with the gradient; with `gradient` False kept.
        targets : object
            From `number_targets`.
        totals : Array
            From `totals`: `LOSS` is set to the sum over the targets of weight times loss, `CORRECT` to 0.
        loss : NumberLoss
        scale : float
            Factor of the gradient alone.
        bias : Array (M * P,)
        gradient : bool
        """

    # -- training --------------------------------------------------------------------------------

    @abstractmethod
    def clip_by_value(self, grads: Mapping[str, Any], limit: float) -> None:
        """Clip every element of the gradients (arrays or `SparseRows`) to [-limit, limit], in place."""

    @abstractmethod
    def clip_by_norm(self, grads: Mapping[str, Any], totals: Array, max_norm: float | None) -> None:
        """Set `NORM` of the totals to the global L2 norm, `FACTOR` to min(1, max_norm / norm).

        The gradients (arrays or `SparseRows`) stay as they are. The factor is 1 for `max_norm` None, and NaN
        if the norm or the totals' loss is not finite: then no parameter may change.
        """

    @abstractmethod
    def scatter(self, rows: Any, out: Array) -> Array:
        """Write the rows of a `SparseRows` to a matrix that is zero elsewhere; returns the matrix."""

    @abstractmethod
    def clear_rows(self, rows: Any, out: Array) -> None:
        """Set the rows of a matrix that a `SparseRows` has to zero."""

    @abstractmethod
    def factor(self, scale: Any, totals: Array | None) -> Any:
        """The factor of the gradients as the updates below take it: `scale`, or the totals' `FACTOR`.

        If it is NaN, an update changes neither parameters nor state. Of many models there is one for each.
        """

    @abstractmethod
    def numbers(self, values: tuple[float, ...], out: Any = None) -> Any:
        """The hyperparameters of a step as the updates below take them; for many models they may be arrays.

        With `out`, a float64 array (len(values),), the CUDA engine writes them there, where a recorded step
        finds them at each repetition.
        """

    @abstractmethod
    def sgd(self, params: Arrays, grads: Sequence[Any], factor: Any, numbers: Any) -> None:
        """Update parameters in place: ``p -= lr * factor * g``; `numbers` holds lr.

        Gradients are arrays or `SparseRows`, which change their own rows only.
        """

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
        """Update parameters and velocities in place by `update_rules.momentum`.

        `numbers` holds rate, weight_decay and momentum. `velocities` None means zero ones that are not kept.
        """

    @abstractmethod
    def adam(
        self, params: Arrays, grads: Arrays, means: Arrays, squares: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters, means and squares in place by `update_rules.adam`.

        `numbers` holds the arguments of the rule from `l2` to `eps`.
        """

    @abstractmethod
    def rmsprop(
        self, params: Arrays, grads: Arrays, squares: Arrays, velocities: Arrays, factor: Any, numbers: Any
    ) -> None:
        """Update parameters, squares and velocities in place by `update_rules.rmsprop`.

        `numbers` holds rate, weight_decay, alpha, 1 - alpha, eps and momentum.
        """

    @abstractmethod
    def assign(self, target: Array, source: Array | None) -> None:
        """Copy `source` to `target`, of the same shape and dtype; None means zeros."""

    @abstractmethod
    def recorder(self) -> Any:
        """A recorder of training steps, such as `lstm_numba.engines.cuda.graph.Recorder`, or None."""
