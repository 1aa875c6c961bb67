"""Recurrent layers: any cell, stacked, in one or both directions, forward and backward.

A layer holds the parameters, checks arguments, and does stacking, directions and dropout; the engine of its
device (`lstm_numba.engines`) computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.arguments import integer, integers
from lstm_numba.cells import display_name
from lstm_numba.cells.parameters import parameter_names, stack_shapes, suffix
from lstm_numba.engines import engine, host_array
from lstm_numba.engines.dropout_masks import check_probability
from lstm_numba.nn.initial_weights import check_init, initial_weights

Array = Any  # a NumPy or a device array
State = Any  # an array or a tuple of arrays, each (num_layers*D, B, H)


class Tape:
    """What `Recurrent.forward` saves for one call of `Recurrent.backward`; opaque."""

    def __init__(self, owner: Recurrent, shape: tuple[int, int, int], lengths: Array | None) -> None:
        self.owner = owner
        self.shape = shape
        self.lengths = lengths
        self.saved: list[list[Any]] = []
        self.masks: list[Array | None] = []
        self.weight_masks: list[Array | None] = []  # one for each layer and direction
        self.user_x: Any = None  # the x that was passed; gradients are returned as arrays of its library

    def __reduce__(self) -> Any:
        raise TypeError(
            "tape: cannot be copied or pickled, it holds addresses; run forward again with the copy"
        )


class _LayerDirection(NamedTuple):
    """One direction of one layer; `names` maps its parameters' names without suffix to the full ones."""

    layer: int
    direction: int
    names: dict[str, str]


class Recurrent:
    """Base of the recurrent layers; use `LSTM`, `GRU` and the others, or `make_layer`.

    Parameters
    ----------
    cell : Cell
        The cell's equations.
    input_size, hidden_size : int
        Features of the input (I) and hidden units (H).
    num_layers : int
        Layers, each reading the output of the one below.
    bias : bool
        Whether there are biases; both of PyTorch's, ``bias_ih`` and ``bias_hh``.
    batch_first : bool
        Whether input and output are (B, T, features) instead of (T, B, features). States are not.
    dropout : float
        Probability of zeroing an output of a layer before the next layer reads it; in training only.
    weight_drop : float
        Probability of zeroing an element of ``weight_hh``, in training only: dropout on the recurrent
        connections [1]_. Each `forward` draws one mask a layer and direction, for all steps and sequences.
    bidirectional : bool
        Whether each layer also reads the sequence from its end; the two outputs are concatenated.
    dtype : dtype
        float32 or float64.
    device : {"cpu", "cuda"}
        Where the parameters are stored and the layer computes. On "cuda" it takes NumPy arrays, and device
        arrays of CuPy, PyTorch or Numba without copying them, on their stream; results are arrays of the
        same library.
    seed : int, Generator or None
        Source of the initial weights and the dropout masks.
    init : {"uniform", "xavier", "orthogonal", "identity"}
        Initial weights, see `lstm_numba.nn.initial_weights`: PyTorch's uniform ones; Glorot's uniform ones;
        an orthogonal ``weight_hh`` for each gate; identity, for an RNN with relu.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters under PyTorch's names, to be updated in place; on "cuda" device arrays of Numba.
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H,), suffix
        ``_reverse`` for the second direction; diagonal peepholes ``weight_ph_l0`` (P*H,).
    rng : numpy.random.Generator
        Draws the dropout masks; may be replaced by another generator.

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type; the message names it.

    Notes
    -----
    For threads and forked processes see `Stream`; the same holds for layers.

    References
    ----------
    .. [1] S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.
    """

    def __init__(
        self,
        cell: Any,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        device: str = "cpu",
        seed: int | np.random.Generator | None = None,
        init: str = "uniform",
    ) -> None:
        check_init(init, cell)
        self.cell = cell
        self.input_size = integer("input_size", input_size)
        self.hidden_size = integer("hidden_size", hidden_size)
        self.num_layers = integer("num_layers", num_layers)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = check_probability(dropout)
        self.weight_drop = check_probability(weight_drop, "weight_drop")
        self.bidirectional = bool(bidirectional)
        self.directions = 2 if bidirectional else 1
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.engine = engine(device)
        self.device = device
        self.rng = np.random.default_rng(seed)
        self._layer_directions = [
            _LayerDirection(n, d, {name: name + suffix(n, d) for name in parameter_names(cell, self.bias)})
            for n in range(self.num_layers)
            for d in range(self.directions)
        ]
        self._weight_caches = [self.engine.weight_cache() for _ in self._layer_directions]
        shapes = stack_shapes(
            cell, self.input_size, self.hidden_size, self.num_layers, self.directions, self.bias
        )
        self.params: dict[str, Array] = {
            name: self.engine.upload(weights.astype(self.dtype))
            for name, weights in initial_weights(init, shapes, self.rng)
        }
        self.engine.synchronize()

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("num_layers", self.num_layers, 1),
                ("bias", self.bias, True),
                ("batch_first", self.batch_first, False),
                ("dropout", self.dropout, 0.0),
                ("weight_drop", self.weight_drop, 0.0),
                ("bidirectional", self.bidirectional, False),
            )
            if value != default
        )
        cell = f"{display_name(self.cell)}, " if type(self) is Recurrent else ""
        return (
            f"{type(self).__name__}({cell}{self.input_size}, {self.hidden_size}{extra}, dtype={self.dtype})"
        )

    def layer_params(self) -> list[dict[str, Array]]:
        """The parameters of each layer and direction, from the first layer on, names without suffix.

        Raises
        ------
        TypeError
            A parameter was replaced by something that is no array of the layer's dtype.
        """
        params = self._checked_params()
        return [
            {name: params[full] for name, full in entry.names.items()} for entry in self._layer_directions
        ]

    def _checked_params(self) -> dict[str, Array]:
        """The parameters as the engine's arrays; users may have replaced them."""
        return {name: self.engine.from_user(name, value, self.dtype) for name, value in self.params.items()}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters as NumPy arrays, under PyTorch's names."""
        return {name: np.array(self.engine.download(value)) for name, value in self._checked_params().items()}

    def to(self, device: str) -> Recurrent:
        """Move the layer to a device, as new arrays in `params`.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Returns
        -------
        Recurrent
            The layer itself.

        Raises
        ------
        DeviceError
            CUDA cannot be used here.
        """
        target = engine(device)
        if target is not self.engine:
            for name, value in self._checked_params().items():
                self.params[name] = target.upload(self.engine.download(value))
            target.synchronize()
            self.engine, self.device = target, device
            self._weight_caches = [target.weight_cache() for _ in self._layer_directions]
        return self

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in, e.g. the ``state_dict`` of a PyTorch ``LSTM``, ``GRU`` or ``RNN``.

        Parameters
        ----------
        state : mapping of str to array_like
            All parameters by name; anything that `numpy.asarray` takes, or an array on a CUDA device; cast to
            the layer's dtype.

        Raises
        ------
        ValueError, TypeError
            A name is missing or unknown, a shape does not fit, or an array is not of real numbers. No
            parameter is changed then.
        """
        missing, unknown = self.params.keys() - state.keys(), state.keys() - self.params.keys()
        if missing or unknown:
            raise ValueError(
                f"state: expected the parameters {sorted(self.params)}; "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        arrays = {name: host_array(state[name], name) for name in self.params}
        for name, value in arrays.items():
            if value.shape != self.params[name].shape:
                raise ValueError(f"{name}: expected shape {self.params[name].shape}, got {value.shape}")
        for name, value in arrays.items():
            self.engine.upload(value.astype(self.dtype, copy=False), out=self.params[name])
        self.engine.synchronize()

    def zero_state(self, batch: int) -> State:
        """Initial state of zeros for `batch` sequences: ``h`` or ``(h, c)``, each (num_layers*D, B, H)."""
        states, *shape = self._state_shape(batch)
        return self._pack_state([self.engine.zeros(tuple(shape), self.dtype) for _ in range(states)])

    def _state_shape(self, batch: int) -> tuple[int, int, int, int]:
        """Shape of all states stacked."""
        return (len(self.cell.states), len(self._layer_directions), batch, self.hidden_size)

    def _pack_state(self, arrays: list[Array]) -> State:
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def __call__(self, x: Any, state: State = None, lengths: Any = None) -> tuple[Array, State]:
        """Run without dropout and without saving anything for a backward pass.

        Parameters
        ----------
        x : ndarray, shape (T, B, I), or (B, T, I) with `batch_first`
            Input, of the layer's dtype.
        state : ndarray or tuple of ndarray, shape (num_layers*D, B, H), optional
            Initial state, ``h`` or ``(h, c)``; zeros by default.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 0 to T. Beyond a sequence's end x is ignored, even NaN, and the output is
            zero; the final state is that after its last step, where the reverse direction begins.

        Returns
        -------
        y : ndarray, shape (T, B, D*H), or (B, T, D*H)
            Output h of the last layer, directions concatenated.
        state : ndarray or tuple of ndarray
            Final state, in the form of the initial one.

        Raises
        ------
        ValueError, TypeError
            A shape or dtype does not fit; the message names the argument.
        """
        with self.engine.on_stream_of(x):
            y, final, _ = self._run(x, state, lengths, keep=False, training=False, copy=False)
            return self.engine.to_user(y, x), self._state_to_user(final, x)

    def forward(
        self, x: Any, state: State = None, lengths: Any = None, *, training: bool = True, copy: bool = True
    ) -> tuple[Array, State, Tape]:
        """Run and save what `backward` needs.

        The tape holds copies, so x and the parameters may be changed before `backward`, which still returns
        the gradients of this call.

        Parameters
        ----------
        x, state, lengths
            As for a call.
        training : bool
            Whether dropout, between layers and of weights, is on.
        copy : bool
            False skips the copies; x, y and the parameters must then stay unchanged until `backward`.

        Returns
        -------
        y : ndarray
            As for a call; a NumPy array is read-only, because `backward` reads it.
        state : ndarray or tuple of ndarray
        tape : Tape
            For one call of `backward`.
        """
        with self.engine.on_stream_of(x):
            y, final, tape = self._run(x, state, lengths, keep=True, training=training, copy=copy)
            assert tape is not None
            y = self.engine.read_only(y, copy)
            return self.engine.to_user(y, x), self._state_to_user(final, x), tape

    def _run(
        self, user_x: Any, state: State, lengths: Any, keep: bool, training: bool, copy: bool
    ) -> tuple[Array, list[Array], Tape | None]:
        engine = self.engine
        x = self._check_input(user_x)
        steps, batch, _ = x.shape
        lengths = engine.lengths(_check_lengths(lengths, steps, batch))
        # The copy is zero past a sequence's end.
        x = engine.copy_input(x, lengths) if keep and (copy or lengths is not None) else engine.contiguous(x)
        states = self._check_state("state", state, batch)
        tape = Tape(self, x.shape, lengths) if keep else None
        finals = engine.stack(self._state_shape(batch), self.dtype)
        for layer in range(self.num_layers):
            mask = None
            if layer > 0 and training and self.dropout > 0.0:
                x, mask = engine.dropout(self.rng, x, self.dropout)
            outputs, saved = [], []
            for direction in range(self.directions):
                n = layer * self.directions + direction
                names, cache = self._layer_directions[n].names, self._weight_caches[n]
                params = {name: self.params[full] for name, full in names.items()}
                weight_mask = None
                if training and self.weight_drop > 0.0:
                    params["weight_hh"], weight_mask = self._drop_weights(names["weight_hh"])
                    cache = None  # the weights are this call's only
                output, saved_pass = engine.forward(
                    self.cell, params, x, states, finals, n, lengths, bool(direction), keep,
                    cache, borrow=not copy,
                )  # fmt: skip
                outputs.append(output)
                saved.append(saved_pass)
                if tape is not None:
                    tape.weight_masks.append(weight_mask)
            if tape is not None:
                tape.masks.append(mask)
                tape.saved.append(saved)
                tape.user_x = user_x
            x = engine.join(outputs, lengths, (steps, batch, self.directions * self.hidden_size))
        return (engine.swap_time_batch(x) if self.batch_first else x), finals, tape

    def _drop_weights(self, name: str) -> tuple[Array, Array]:
        """A copy of a parameter with elements dropped, and the mask."""
        engine = self.engine
        weights = engine.contiguous(engine.from_user(name, self.params[name], self.dtype))
        return engine.dropout(self.rng, weights, self.weight_drop)

    def _state_to_user(self, arrays: list[Array], user_array: Any) -> State:
        """States as arrays of the library of `user_array`."""
        return self._pack_state([self.engine.to_user(array, user_array) for array in arrays])

    def backward(
        self, tape: Tape, dy: Any = None, dstate: State = None, *, input_gradient: bool = True
    ) -> tuple[Array, State, dict[str, Array]]:
        """Back-propagate through the whole sequence, with the input and parameters of the `forward` call.

        Parameters
        ----------
        tape : Tape
            From `forward`; used up by this call.
        dy : ndarray, same shape as y, optional
            Gradient of the loss with respect to the output; zero by default. Ignored beyond a sequence's
            end.
        dstate : ndarray or tuple of ndarray, optional
            Gradient with respect to the final state, structured like it; zero by default.
        input_gradient : bool
            Whether to compute dx; False saves a matrix product.

        Returns
        -------
        dx : ndarray, same shape as x, or None without `input_gradient`
            Zero beyond a sequence's end.
        dstate : ndarray or tuple of ndarray
            Gradient with respect to the initial state.
        grads : dict of str to ndarray
            Gradients of the parameters, keys as in `params`.

        Raises
        ------
        ValueError, TypeError
            The tape belongs to another layer or is used up, or a shape or dtype does not fit.
        """
        if not isinstance(tape, Tape) or tape.owner is not self:
            raise TypeError("tape: expected a tape from this layer's forward")
        if not tape.saved:
            raise ValueError("tape: already used by a backward pass; run forward again")
        user_array = tape.user_x if dy is None else dy
        with self.engine.on_stream_of(user_array):
            dx, initial, grads = self._run_backward(tape, dy, dstate, input_gradient)
            dx = None if dx is None else self.engine.to_user(dx, user_array)
            return dx, self._state_to_user(initial, user_array), grads

    def _run_backward(
        self, tape: Tape, dy: Any, dstate: State, input_gradient: bool
    ) -> tuple[Array | None, list[Array], dict[str, Array]]:
        engine = self.engine
        steps, batch, _ = tape.shape
        dy = self._check_output_gradient(dy, steps, batch)
        dstates = self._check_state("dstate", dstate, batch)
        saved, tape.saved = tape.saved, []
        initial = engine.stack(self._state_shape(batch), self.dtype)
        grads = dict.fromkeys(self.params)
        for layer in reversed(range(self.num_layers)):
            dx: Array | None = None
            for direction in range(self.directions):
                n = layer * self.directions + direction
                need_dx = layer > 0 or input_gradient
                dx, local = engine.backward(
                    saved[layer][direction], dy, direction, dstates, initial, n, dx, need_dx
                )
                weight_mask = tape.weight_masks[n]
                if weight_mask is not None:
                    engine.multiply(local["weight_hh"], weight_mask, out=local["weight_hh"])
                for name, full in self._layer_directions[n].names.items():
                    grads[full] = local[name]
            mask = tape.masks[layer]
            dy = dx if mask is None else engine.multiply(dx, mask, out=dx)
        return (engine.swap_time_batch(dy) if self.batch_first and dy is not None else dy), initial, grads

    def _check_input(self, x: Any) -> Array:
        x = self.engine.from_user("x", x, self.dtype)
        if x.ndim != 3 or x.shape[2] != self.input_size or 0 in x.shape:
            hint = " with T, B of at least 1" if 0 in x.shape else ""
            axes = "B, T" if self.batch_first else "T, B"
            raise ValueError(f"x: expected shape ({axes}, {self.input_size}){hint}, got {x.shape}")
        return self.engine.swap_time_batch(x) if self.batch_first else x

    def _check_output_gradient(self, dy: Any, steps: int, batch: int) -> Array | None:
        """The gradient of the output as (T, B, D*H), None for zeros."""
        features = self.directions * self.hidden_size
        if dy is None:
            return None
        dy = self.engine.from_user("dy", dy, self.dtype)
        expected = (batch, steps, features) if self.batch_first else (steps, batch, features)
        if dy.shape != expected:
            raise ValueError(f"dy: expected shape {expected}, got {dy.shape}")
        return self.engine.contiguous(self.engine.swap_time_batch(dy) if self.batch_first else dy)

    def _check_state(self, name: str, state: State, batch: int) -> list[Array] | None:
        """States as a list, one array per state of the cell; None for zeros."""
        if state is None:
            return None
        shape, names = self._state_shape(batch), self.cell.states
        arrays = [state] if len(names) == 1 else state
        if not isinstance(arrays, (tuple, list)) or len(arrays) != len(names):
            kind = "a tuple of arrays (" + ", ".join(names) + ")" if len(names) > 1 else "an array"
            raise TypeError(f"{name}: expected {kind}, got {type(state).__name__}")
        checked = [self.engine.from_user(name, array, self.dtype) for array in arrays]
        for array in checked:
            if array.shape != shape[1:]:
                raise ValueError(f"{name}: expected shape {shape[1:]}, got {array.shape}")
        return [self.engine.contiguous(array) for array in checked]


def _check_lengths(lengths: Any, steps: int, batch: int) -> Array | None:
    if lengths is None:
        return None
    array = integers("lengths", lengths)
    if array.shape != (batch,):
        raise ValueError(f"lengths: expected shape ({batch},), got {array.shape}")
    if np.any(array < 0) or np.any(array > steps):
        raise ValueError(f"lengths: expected 0 to {steps}, got {int(array.min())} to {int(array.max())}")
    return array.astype(np.int64)
