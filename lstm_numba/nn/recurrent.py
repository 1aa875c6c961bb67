"""Recurrent layers: any cell, stacked, in one or both directions, forward and backward.

The layers own parameters, argument checks, stacking, directions and dropout; what is computed is computed by
the engine of their device (`lstm_numba.engines`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.arguments import integer, integers
from lstm_numba.cells import BUILT_IN, CELLS, display_name, find_cell
from lstm_numba.cells.parameters import parameter_shape
from lstm_numba.engines import engine, host_array
from lstm_numba.engines.dropout_masks import check_probability

Array = Any  # of NumPy, or on the device
State = Any  # one array, or a tuple of arrays, each (num_layers * directions, B, H)

#: The library's own cells by name, as the command line knows them.
CELL_NAMES = BUILT_IN


class Tape:
    """What `Recurrent.forward` keeps for one call of `Recurrent.backward`; opaque."""

    def __init__(self, owner: Recurrent, shape: tuple[int, int, int], lengths: Array | None) -> None:
        self.owner = owner
        self.shape = shape
        self.lengths = lengths
        self.saved: list[list[Any]] = []
        self.masks: list[Array | None] = []
        self.like: Any = None  # what the user came with, whose form the results get

    def __reduce__(self) -> Any:
        raise TypeError(
            "tape: cannot be copied or pickled, it holds addresses; run forward again with the copy"
        )


class _Part(NamedTuple):
    """A layer and direction, and the names of its parameters: without their suffix, and whole."""

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
        Probability with which, in training, a number on its way from one layer to the next is zeroed.
    bidirectional : bool
        Whether a second set of cells reads the sequence from its end; outputs are concatenated.
    dtype : dtype
        float32 or float64.
    device : {"cpu", "cuda"}
        Where the layer computes and its parameters lie. On "cuda" it takes NumPy arrays, and arrays of any
        library on the device (CuPy, PyTorch, Numba) without copying them, in their stream; results come in
        the same form.
    seed : int, Generator or None
        Source of the initial weights and the dropout masks.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters under PyTorch's names, on "cuda" device arrays of Numba, to be updated in place:
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H,), suffix
        ``_reverse`` for the second direction; diagonal peepholes ``weight_ph_l0`` (P*H,).
    rng : numpy.random.Generator
        Draws the dropout masks; may be replaced.

    Raises
    ------
    ValueError, TypeError
        An argument is out of its range, or of the wrong kind; the message names it.

    Notes
    -----
    What holds of threads and forked processes `Stream` says; it is the same for layers.
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
        bidirectional: bool = False,
        dtype: Any = np.float32,
        device: str = "cpu",
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.cell = cell
        self.input_size = integer("input_size", input_size)
        self.hidden_size = integer("hidden_size", hidden_size)
        self.num_layers = integer("num_layers", num_layers)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = check_probability(dropout)
        self.bidirectional = bool(bidirectional)
        self.directions = 2 if bidirectional else 1
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.engine = engine(device)
        self.device = device
        self.rng = np.random.default_rng(seed)
        self._parts = self._list_parts()
        self._weight_caches = [self.engine.weight_cache() for _ in self._parts]
        bound = 1 / math.sqrt(self.hidden_size)
        self.params: dict[str, Array] = {
            name: self.engine.upload(self.rng.uniform(-bound, bound, shape).astype(self.dtype))
            for name, shape in self._parameter_shapes().items()
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
                ("bidirectional", self.bidirectional, False),
            )
            if value != default
        )
        cell = f"{display_name(self.cell)}, " if type(self) is Recurrent else ""
        return (
            f"{type(self).__name__}({cell}{self.input_size}, {self.hidden_size}{extra}, dtype={self.dtype})"
        )

    def _list_parts(self) -> list[_Part]:
        names = ["weight_ih", "weight_hh"]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        names += ["weight_ph"] if self.cell.peepholes else []
        places = []
        for layer in range(self.num_layers):
            for direction in range(self.directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                places.append(_Part(layer, direction, {name: name + suffix for name in names}))
        return places

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        cell, hidden = self.cell, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for part in self._parts:
            inputs = self.input_size if part.layer == 0 else hidden * self.directions
            for name, whole in part.names.items():
                shapes[whole] = parameter_shape(cell, name, inputs, hidden)
        return shapes

    def _local(self, part: _Part) -> dict[str, Array]:
        """The parameters of one layer and direction, without the suffix."""
        params = self.params
        return {name: params[whole] for name, whole in part.names.items()}

    def layer_params(self) -> list[dict[str, Array]]:
        """The parameters of every layer and direction, from the first layer on, without their suffix."""
        params = self._accepted()
        return [{name: params[whole] for name, whole in part.names.items()} for part in self._parts]

    def _accepted(self) -> dict[str, Array]:
        """The parameters, which users may have replaced by anything."""
        return {name: self.engine.from_user(name, value, self.dtype) for name, value in self.params.items()}

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters under PyTorch's names."""
        return {name: np.array(self.engine.download(value)) for name, value in self._accepted().items()}

    def to(self, device: str) -> Recurrent:
        """Move the layer to a device: its parameters become other arrays.

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
            for name, value in self._accepted().items():
                self.params[name] = target.upload(self.engine.download(value))
            target.synchronize()
            self.engine, self.device = target, device
            self._weight_caches = [target.weight_cache() for _ in self._parts]
        return self

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in; those of a PyTorch ``LSTM``, ``GRU`` or ``RNN`` fit as they are.

        Parameters
        ----------
        state : mapping of str to array_like
            All parameters by name; anything that `numpy.asarray` takes, or an array on a CUDA device; cast to
            the layer's dtype.

        Raises
        ------
        ValueError, TypeError
            A name is missing or unknown, a shape does not fit, or there is something else than real numbers;
            nothing is changed then.
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
        """Initial state of zeros for `batch` sequences: ``h``, or ``(h, c)``; each (num_layers*D, B, H)."""
        states, *shape = self._state_shape(batch)
        return self._pack_state([self.engine.zeros(tuple(shape), self.dtype) for _ in range(states)])

    def _state_shape(self, batch: int) -> tuple[int, int, int, int]:
        """Shape of all states together."""
        return (len(self.cell.states), len(self._parts), batch, self.hidden_size)

    def _pack_state(self, arrays: list[Array]) -> State:
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def __call__(self, x: Any, state: State = None, lengths: Any = None) -> tuple[Array, State]:
        """Run without dropout and without keeping anything for a backward pass.

        Parameters
        ----------
        x : ndarray, shape (T, B, I), or (B, T, I) with `batch_first`
            Input, of the layer's dtype.
        state : ndarray or tuple of ndarray, shape (num_layers*D, B, H), optional
            Initial state, ``h`` or ``(h, c)``; zeros by default.
        lengths : array_like of int, shape (B,), optional
            Steps of each sequence, 0 to T. Output beyond a sequence's end is zero, its final state is
            that at its end, and the backward direction begins there. What x holds beyond the end, even NaN,
            does not count.

        Returns
        -------
        y : ndarray, shape (T, B, D*H), or (B, T, D*H)
            Output h of the last layer, directions side by side.
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
        """Run and keep what `backward` needs.

        The tape has copies of what it needs: arrays that this is called with, and the parameters, may be
        written to before `backward`, which gives the gradients of this call.

        Parameters
        ----------
        x, state, lengths
            As for a call.
        training : bool
            Whether dropout between layers is on.
        copy : bool
            False spares the copies: until `backward` nobody may write to x, y or the parameters then.

        Returns
        -------
        y : ndarray
            As for a call; a NumPy array is read-only, because the tape needs it unchanged.
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
        self, given: Any, state: State, lengths: Any, keep: bool, training: bool, copy: bool
    ) -> tuple[Array, list[Array], Tape | None]:
        engine = self.engine
        x = self._check_input(given)
        steps, batch, _ = x.shape
        lengths = engine.lengths(_check_lengths(lengths, steps, batch))
        # What lies past a sequence's end is zeroed, in a copy.
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
                params, weight_cache = self._local(self._parts[n]), self._weight_caches[n]
                output, saved_here = engine.forward(
                    self.cell, params, x, states, finals, n, lengths, bool(direction), keep, weight_cache,
                    borrow=not copy,
                )  # fmt: skip
                outputs.append(output)
                saved.append(saved_here)
            if tape is not None:
                tape.masks.append(mask)
                tape.saved.append(saved)
                tape.like = given
            x = engine.join(outputs, lengths, (steps, batch, self.directions * self.hidden_size))
        return (engine.swap_time_batch(x) if self.batch_first else x), finals, tape

    def _state_to_user(self, arrays: list[Array], like: Any) -> State:
        """States in the form of what the user came with."""
        return self._pack_state([self.engine.to_user(array, like) for array in arrays])

    def backward(
        self, tape: Tape, dy: Any = None, dstate: State = None, *, input_gradient: bool = True
    ) -> tuple[Array, State, dict[str, Array]]:
        """Back-propagate through the whole sequence, with the input and the parameters that `forward` saw.

        Parameters
        ----------
        tape : Tape
            From `forward`; is used up. It cannot be copied or pickled.
        dy : ndarray, same shape as y, optional
            Gradient of the loss with respect to the output; zero by default. What lies beyond a
            sequence's end is ignored.
        dstate : ndarray or tuple of ndarray, optional
            Gradient with respect to the final state, in the state's form; zero by default.
        input_gradient : bool
            Whether dx is wanted; the bottom layer is spared a product where it is not.

        Returns
        -------
        dx : ndarray, same shape as x, or None where not wanted
            Zero beyond a sequence's end.
        dstate : ndarray or tuple of ndarray
            Gradient with respect to the initial state.
        grads : dict of str to ndarray
            Gradients of the parameters, keys as in `params`.

        Raises
        ------
        ValueError, TypeError
            The tape is of another layer or used up, or a shape or dtype does not fit.
        """
        if not isinstance(tape, Tape) or tape.owner is not self:
            raise TypeError("tape: expected a tape from this layer's forward")
        if not tape.saved:
            raise ValueError("tape: already used by a backward pass; run forward again")
        like = tape.like if dy is None else dy
        with self.engine.on_stream_of(like):
            dx, initial, grads = self._run_back(tape, dy, dstate, input_gradient)
            dx = None if dx is None else self.engine.to_user(dx, like)
            return dx, self._state_to_user(initial, like), grads

    def _run_back(
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
                saved_here = saved[layer][direction]
                wanted = layer > 0 or input_gradient
                dx, local = engine.backward(saved_here, dy, direction, dstates, initial, n, dx, wanted)
                for name, whole in self._parts[n].names.items():
                    grads[whole] = local[name]
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
        """The output's gradient as the engine takes it, None for zeros."""
        features = self.directions * self.hidden_size
        if dy is None:
            return None
        dy = self.engine.from_user("dy", dy, self.dtype)
        expected = (batch, steps, features) if self.batch_first else (steps, batch, features)
        if dy.shape != expected:
            raise ValueError(f"dy: expected shape {expected}, got {dy.shape}")
        return self.engine.contiguous(self.engine.swap_time_batch(dy) if self.batch_first else dy)

    def _check_state(self, name: str, state: State, batch: int) -> list[Array] | None:
        """States as the engine takes them, None for zeros."""
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


class RNN(Recurrent):
    """Elman's simple recurrent network; see `lstm_numba.cells.rnn` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    nonlinearity : str
        "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **options: Any,
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
        See `Recurrent`.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> None:
        super().__init__(CELLS["lstm"], input_size, hidden_size, num_layers, **options)


class PeepholeLSTM(Recurrent):
    """LSTM with diagonal peepholes; see `lstm_numba.cells.peephole_lstm` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    peephole : str
        "diagonal".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        peephole: str = "diagonal",
        **options: Any,
    ) -> None:
        if peephole != "diagonal":
            raise ValueError(f"peephole: expected 'diagonal', got {peephole!r}")
        super().__init__(CELLS["peephole"], input_size, hidden_size, num_layers, **options)


class GRU(Recurrent):
    """Gated recurrent unit; see `lstm_numba.cells.gru` for the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.
    reset_after : bool
        Whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before it.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        cell = CELLS["gru" if reset_after else "gru-reset-before"]
        super().__init__(cell, input_size, hidden_size, num_layers, **options)


def make_layer(
    name: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any
) -> Recurrent:
    """Make a layer of the cell called `name`.

    Parameters
    ----------
    name : str
        One of `CELL_NAMES`, a variant's (`lstm_numba.cells.onnx_variants`), or ``module:Class`` of a
        registered cell.
    input_size, hidden_size, num_layers, **options
        See `Recurrent`.

    Raises
    ------
    ValueError
        There is no such cell.
    """
    return Recurrent(find_cell(name), input_size, hidden_size, num_layers, **options)
