"""Recurrent layers: any cell, stacked, in one or both directions, forward and backward.

A layer holds the parameters, checks arguments, and does stacking, directions, heads and dropout; the engine
of its device (`lstm_numba.engines`) computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.cells import display_name
from lstm_numba.cells.parameters import second_weight
from lstm_numba.engines import engine
from lstm_numba.engines.dropout_masks import check_probability
from lstm_numba.nn import checks, wavefront
from lstm_numba.nn.dropout import check_kind, dropout
from lstm_numba.nn.heads import join_units, split_extras, split_units
from lstm_numba.nn.initial_weights import check_init
from lstm_numba.nn.layer_passes import LayerPasses
from lstm_numba.nn.many import check_models, generators, repeat
from lstm_numba.nn.notebook import InNotebooks
from lstm_numba.nn.projection import projected_cell
from lstm_numba.nn.regularisation import Regularisation
from lstm_numba.nn.resets import check_resets, going
from lstm_numba.nn.tape import Array, Call, Given, State, Tape
from lstm_numba.nn.trace import Trace, trace_of, traced_cell
from lstm_numba.signatures import explicit


class Recurrent(LayerPasses, InNotebooks):
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
    dropout_kind : {"element", "sequence"}
        "element" draws for each element of the output; "sequence" draws one mask a sequence, for all its
        steps [1]_ [3]_: variational, or locked, dropout.
    weight_drop : float
        Probability of zeroing an element of ``weight_hh``, in training only: dropout on the recurrent
        connections [1]_. Each `forward` draws one mask a layer and direction, for all steps and sequences.
    zoneout : float or tuple of float
        Probability that a unit keeps a state in a step [2]_, for all states or for each in the order of
        ``cell.states``. In training by masks, one draw a step, sequence, unit and state; otherwise each state
        becomes the expectation.
    recurrent_dropout : float
        Probability of dropping in the recurrent step, in training only; what is kept is divided by 1 - p.
    recurrent_dropout_kind : {"sequence", "candidate"}
        "sequence" [3]_: units of what the recurrent products read, the same ones at all steps of a sequence.
        "candidate" [4]_: units of the candidate, other ones at each step, so that no state is lost.
    bidirectional : bool
        Whether each layer also reads the sequence from its end; the two outputs are concatenated.
    proj_size : int
        Units that the output h of an LSTM is projected to by ``weight_hr`` [6]_, as PyTorch's; 0 for none.
        Then h, y and their gradients have as many units, c has H.
    heads : int
        Recurrences side by side that read the same input, of ``hidden_size / heads`` units each, so that the
        recurrent weights are block-diagonal [5]_. The first head has the first units of states and outputs.
    dtype : dtype
        float32 or float64.
    device : {"cpu", "cuda"}
        Where the parameters are stored and the layer computes. On "cuda" it takes NumPy arrays, and device
        arrays of CuPy, PyTorch or Numba without copying them, on their stream; results are arrays of the
        same library.
    seed : int, Generator, sequence of these, or None
        Source of the initial weights and the dropout masks.
    init : {"uniform", "xavier", "orthogonal", "identity"}
        Initial weights, see `lstm_numba.nn.initial_weights`: PyTorch's uniform ones; Glorot's uniform ones;
        an orthogonal ``weight_hh`` for each gate; identity, for an RNN with relu.
    models : int, optional
        As many models of the same kind, N, in one layer. Parameters, states, outputs and gradients have a
        leading axis of them; so have x, lengths, resets and extras, or they have none and all models are
        given the same: then dx is the sum of theirs. Every thread takes whole models, whose results are the
        same bits as those of a layer of that model alone on one thread. On "cuda" blocks of threads take
        models, or one model after the other has the whole device, whichever is estimated to be the faster.
        `seed` may be a sequence of a seed for each; of an integer model n has that plus n. `model` gives one.

    Attributes
    ----------
    params : dict of str to ndarray
        The parameters under PyTorch's names, to be updated in place; on "cuda" device arrays of Numba.
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H,), suffix
        ``_reverse`` for the second direction; diagonal peepholes ``weight_ph_l0`` (P*H,). With several heads
        the rows of all of them are ordered by head, then gate, and ``weight_hh_l0`` is (G*H, H/heads). With a
        projection ``weight_hh_l0`` is (G*H, proj_size), and ``weight_hr_l0`` (proj_size, H).
    rng : numpy.random.Generator
        Draws the masks; may be replaced by another generator. Each layer draws, in this order, that of the
        dropout before it, and for each direction that of its recurrent weights, then for each head zoneout's,
        state by state, and that of the recurrent dropout. A Philox gives the same ones on each device.
    cell : Cell
        What computes inference: the cell that was given, with zoneout's expectation if there is zoneout.
    plain_cell : Cell
        The cell that was given.

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
    .. [2] D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR
       2017.
    .. [3] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural
       networks", NIPS 2016.
    .. [4] S. Semeniuta, A. Severyn, E. Barth, "Recurrent dropout without memory loss", COLING 2016.
    .. [5] M. Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024.
    .. [6] H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network
       architectures for large vocabulary speech recognition", arXiv:1402.1128, 2014.
    """

    @explicit()
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
        dropout_kind: str = "element",
        weight_drop: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_kind: str = "sequence",
        bidirectional: bool = False,
        proj_size: int = 0,
        heads: int = 1,
        dtype: Any = np.float32,
        device: str = "cpu",
        seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None = None,
        init: str = "uniform",
        models: int | None = None,
    ) -> None:
        check_init(init, cell)
        cell = projected_cell(cell, proj_size, hidden_size)
        self._regularisation = Regularisation.read(cell, zoneout, recurrent_dropout, recurrent_dropout_kind)
        self.plain_cell = cell
        self.cell = self._regularisation.cell(cell, training=False)
        self.zoneout, self.recurrent_dropout = zoneout, self._regularisation.dropout
        self.recurrent_dropout_kind = recurrent_dropout_kind
        self.input_size = integer("input_size", input_size)
        self.hidden_size = integer("hidden_size", hidden_size)
        self.proj_size = proj_size
        self.output_size = proj_size or self.hidden_size
        self.num_layers = integer("num_layers", num_layers)
        self.heads = integer("heads", heads)
        if self.hidden_size % self.heads:
            raise ValueError(f"heads: expected a divisor of the {self.hidden_size} hidden units, got {heads}")
        if self.heads > 1 and second_weight(cell):
            raise ValueError(f"heads: expected 1 beside {second_weight(cell)}, got {heads}")
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = check_probability(dropout)
        self.dropout_kind = check_kind(dropout_kind)
        self.weight_drop = check_probability(weight_drop, "weight_drop")
        self.bidirectional = bool(bidirectional)
        self.directions = 2 if bidirectional else 1
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype: expected float32 or float64, got {self.dtype}")
        self.engine = engine(device)
        self.device = device
        self.models = check_models(models) or None
        self.rng = generators(seed, self.models or 0)
        self._make_params(init)

    def __repr__(self) -> str:
        extra = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("num_layers", self.num_layers, 1),
                ("bias", self.bias, True),
                ("batch_first", self.batch_first, False),
                ("dropout", self.dropout, 0.0),
                ("dropout_kind", repr(self.dropout_kind), repr("element")),
                ("weight_drop", self.weight_drop, 0.0),
                ("zoneout", self.zoneout, 0.0),
                ("recurrent_dropout", self.recurrent_dropout, 0.0),
                ("recurrent_dropout_kind", repr(self.recurrent_dropout_kind), repr("sequence")),
                ("bidirectional", self.bidirectional, False),
                ("proj_size", self.proj_size, 0),
                ("heads", self.heads, 1),
                ("models", self.models, None),
            )
            if value != default
        )
        cell = f"{display_name(self.plain_cell)}, " if type(self) is Recurrent else ""
        return (
            f"{type(self).__name__}({cell}{self.input_size}, {self.hidden_size}{extra}, dtype={self.dtype})"
        )

    def zero_state(self, batch: int) -> State:
        """Initial state of zeros for `batch` sequences: ``h`` or ``(h, c)``, each (num_layers*D, B, H)."""
        count, sizes = len(self._layer_directions), (self.output_size, self.hidden_size)
        shapes = [(*self._lead, count, batch, sizes[min(n, 1)]) for n in range(len(self.cell.states))]
        return self._pack_state([self.engine.zeros(shape, self.dtype) for shape in shapes])

    def _state_shapes(self, cell: Any, batch: int) -> list[tuple[int, ...]]:
        """Shape of each state of a cell, as the engine takes them."""
        count, states = self.heads * len(self._layer_directions), len(self.cell.states)
        sizes = self.output_size // self.heads, self.hidden_size // self.heads
        return [(*self._lead, count, batch, sizes[min(n % states, 1)]) for n in range(len(cell.states))]

    def _new_states(self, cell: Any, batch: int) -> list[Array]:
        """Arrays for all states of a cell."""
        shapes = self._state_shapes(cell, batch)
        if self.proj_size:
            return [self.engine.empty(shape, self.dtype) for shape in shapes]
        return self.engine.stack((len(shapes), *shapes[0]), self.dtype)

    def _pack_state(self, arrays: list[Array]) -> State:
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def __call__(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        resets: Any = None,
        reset_to: str = "zeros",
        *,
        extras: Mapping[str, Any] | None = None,
    ) -> tuple[Array, State]:
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
        resets : array_like of bool, shape (T, B), or (B, T) with `batch_first`, optional
            Where another sequence begins inside a row. Where ``resets[t, b]``, the states before step t are
            not those after step t - 1 but those of `reset_to`; in the reverse direction, which comes from t,
            those before step t - 1. Beyond a sequence's end they are ignored.
        reset_to : {"zeros", "initial"}
            Zeros, or the initial state, whose gradient is then the sum over all that begins with it; not with
            a projection.
        extras : mapping of str to ndarray, optional
            What the equations of a cell of one's own declare as extras: arrays of the layer's dtype of shape
            (T or 1, B or 1, H), or (T or 1, B or 1, 1) for those that all units share; with `batch_first` the
            first two axes the other way round. All layers and directions are given the same ones.

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
        if self._prepared_calls and lengths is resets is extras is None and reset_to == "zeros":
            found = self._prepared_calls(self, x, state)
            if found is not None:
                y, final = found
                return y, self._pack_state(final)
        given = Given(state, lengths, resets, reset_to, extras)
        with self.engine.on_stream_of(x):
            y, final, _ = self._run(x, given, keep=False, training=False, copy=False)
            return self.engine.to_user(y, x), self._state_to_user(final, x)

    def forward(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        resets: Any = None,
        reset_to: str = "zeros",
        *,
        extras: Mapping[str, Any] | None = None,
        training: bool = True,
        copy: bool = True,
    ) -> tuple[Array, State, Tape]:
        """Run and save what `backward` needs.

        The tape holds copies, so x, extras and the parameters may be changed before `backward`, which still
        returns the gradients of this call.

        Parameters
        ----------
        x, state, lengths, resets, reset_to, extras
            As for a call.
        training : bool
            Whether dropout, between layers, of weights and in the step, and zoneout's masks are on.
        copy : bool
            False skips the copies; x, extras, y and the parameters must then stay unchanged until `backward`.

        Returns
        -------
        y : ndarray
            As for a call; a NumPy array is read-only, because `backward` reads it.
        state : ndarray or tuple of ndarray
        tape : Tape
            For one call of `backward`.
        """
        drawn = training and (self.dropout or self.weight_drop or self._regularisation.draws)
        if self._prepared_calls and lengths is resets is extras is None and reset_to == "zeros" and not drawn:
            found = self._prepared_calls(self, x, state, True, copy)
            if found is not None:
                y, final, call, saved = found
                known = Tape(self, self.cell, x.shape, call)
                known.saved, known.user_x = saved, x
                return self.engine.read_only(y, copy), self._pack_state(final), known
        given = Given(state, lengths, resets, reset_to, extras)
        with self.engine.on_stream_of(x):
            y, final, tape = self._run(x, given, keep=True, training=training, copy=copy)
            assert tape is not None
            y = self.engine.read_only(y, copy)
            return self.engine.to_user(y, x), self._state_to_user(final, x), tape

    def trace(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        resets: Any = None,
        reset_to: str = "zeros",
        *,
        extras: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Run as a call does, and return what happened inside.

        Parameters
        ----------
        x, state, lengths, resets, reset_to, extras
            As for a call.

        Returns
        -------
        Trace
            A dictionary of arrays (T, B, H), or (B, T, H) with `batch_first`: every gate and candidate after
            its activation, and every state after each step, of every layer and direction, by the name that it
            has in the cell and PyTorch's suffix: ``f_l0``, ``c_l1_reverse``. With `proj_size` h has as many
            units. Zero beyond a sequence's end.

        Raises
        ------
        ValueError, TypeError
            A shape or dtype does not fit; the message names the argument.
        """
        self._refuse_models()
        given = Given(state, lengths, resets, reset_to, extras)
        with self.engine.on_stream_of(x):
            _, _, tape = self._run(x, given, keep=True, training=False, copy=False, back=False)
            assert tape is not None
            return trace_of(self, tape, x, lengths)

    def _run(
        self, user_x: Any, given: Given, keep: bool, training: bool, copy: bool, back: bool = True
    ) -> tuple[Array, list[Array], Tape | None]:
        engine = self.engine
        x, lead = checks.check_input(self, user_x), self._lead
        steps, batch, _ = shape = x.shape[-3:]
        lengths = checks.check_lengths(given.lengths, steps, batch, lead)
        states = checks.check_state(self, "state", given.state, batch)
        resets = check_resets(given.resets, given.reset_to, (steps, batch), lengths, self.batch_first, lead)
        extras = checks.check_extras(self, given.extras, steps, batch, keep and copy)
        # Without a backward pass the initial state zero is no other than zeros.
        to = "zeros" if states is None and not keep else given.reset_to
        if self.proj_size and given.reset_to == "initial":
            raise ValueError("reset_to: expected zeros beside proj_size, got 'initial'")
        cell = self._regularisation.cell(self.plain_cell, training, "" if resets is None else to)
        cell = cell if back else traced_cell(cell)
        call = Call(
            cell,
            self._initial_states(cell, states),
            self._new_states(cell, batch),
            engine.lengths(lengths),
            self._going(resets),
            split_extras(engine, extras, self.heads),
            keep,
            training,
            copy,
            Tape(self, cell, shape) if keep else None,
            back,
        )
        shared = bool(lead) and x.ndim == 3
        if shared and lengths is not None and lengths.ndim == 2:
            x = repeat(engine, x, lead[0])  # its end is another one in each
        # The copy is zero past a sequence's end.
        copied = keep and (copy or lengths is not None)
        x = engine.copy_input(x, call.lengths) if copied else engine.contiguous(x)
        if call.tape is not None:
            call.tape.user_x, call.tape.lengths, call.tape.shared_x = user_x, call.lengths, shared
        chunks = wavefront.chunks_of(self, x, call)
        x = self._forward_layers(x, call) if chunks == 1 else wavefront.run(self, x, call, chunks)
        finals = [join_units(engine, array, self.heads) for array in call.finals[: len(self.cell.states)]]
        return (engine.swap_time_batch(x) if self.batch_first else x), finals, call.tape

    def _forward_layers(self, x: Array, call: Call) -> Array:
        """All layers, one after the other."""
        for layer in range(self.num_layers):
            mask = None
            if layer > 0 and call.training and self.dropout > 0.0:
                x, mask = dropout(self.engine, self.rng, x, self.dropout, self.dropout_kind)
            if call.tape is not None:
                call.tape.masks.append(mask)
            x = self._forward_layer(layer, x, call)
        return x

    def _initial_states(self, cell: Any, states: list[Array] | None) -> list[Array] | None:
        """The states of each head, and again those that the cell carries along."""
        if states is None:
            return None
        split = [split_units(self.engine, array, self.heads) for array in states]
        return split + split[: len(cell.states) - len(split)]

    def _going(self, resets: Array | None) -> list[Array]:
        """Where each direction is not reset."""
        if resets is None:
            return []
        return [
            self.engine.upload(going(resets, bool(direction), self.dtype))
            for direction in range(self.directions)
        ]

    def _state_to_user(self, arrays: list[Array], user_array: Any) -> State:
        """States as arrays of the library of `user_array`."""
        return self._pack_state([self.engine.to_user(array, user_array) for array in arrays])

    def backward(
        self,
        tape: Tape,
        dy: Any = None,
        dstate: State = None,
        *,
        input_gradient: bool = True,
        ready: Callable[[dict[str, Array]], None] | None = None,
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
        ready : callable, optional
            Is given the gradients of a layer's parameters as soon as they are final, the last layer's first;
            of a small call all at once.

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
            dx, initial, grads = self._run_backward(tape, dy, dstate, input_gradient, ready)
            dx = None if dx is None else self.engine.to_user(dx, user_array)
            return dx, self._state_to_user(initial, user_array), grads

    def _run_backward(
        self,
        tape: Tape,
        dy: Any,
        dstate: State,
        input_gradient: bool,
        ready: Callable[[dict[str, Array]], None] | None,
    ) -> tuple[Array | None, list[Array], dict[str, Array]]:
        engine = self.engine
        if tape.call:
            found = tape.call.backward(tape.saved, dy, dstate, input_gradient)
            if found is not None:
                tape.saved = []
                if ready is not None:
                    ready(found[2])
                return found
        steps, batch, _ = tape.shape
        dy = checks.check_output_gradient(self, dy, steps, batch)
        dstates = checks.check_state(self, "dstate", dstate, batch)
        saved, tape.saved = tape.saved, []
        if tape.call:  # with arrays that fit
            dy = None if dy is None else np.array(dy)
            dstates = None if dstates is None else self._pack_state([np.array(array) for array in dstates])
            found = tape.call.backward(saved, dy, dstates, input_gradient)
            if ready is not None:
                ready(found[2])
            return found
        dstates = self._final_gradients(tape.cell, dstates, batch)
        initial = self._new_states(tape.cell, batch)
        grads = dict.fromkeys(self.params)
        for layer in reversed(range(self.num_layers)):
            need_dx = layer > 0 or input_gradient
            dx = self._backward_layer(layer, tape, saved[layer], dy, dstates, initial, need_dx, grads)
            if ready is not None:
                ready({name: grads[name] for name in self._names_of(layer)})
            mask = tape.masks[layer]
            dy = dx if mask is None else engine.multiply(dx, mask, out=dx)
        count = len(self.cell.states)
        for array, carried in zip(initial, initial[count:], strict=False):
            engine.add_row(array.reshape(1, array.size), carried.reshape(carried.size))
        first = [join_units(engine, array, self.heads) for array in initial[:count]]
        if tape.shared_x and dy is not None:
            dy = engine.column_sums(engine.contiguous(dy).reshape(len(dy), -1)).reshape(dy.shape[1:])
        return (engine.swap_time_batch(dy) if self.batch_first and dy is not None else dy), first, grads

    def _final_gradients(self, cell: Any, dstates: list[Array] | None, batch: int) -> list[Array] | None:
        """Gradients of all final states of a cell, zeros for those that it carries along."""
        if dstates is None:
            return None
        split = [split_units(self.engine, array, self.heads) for array in dstates]
        shapes = self._state_shapes(cell, batch)[len(split) :]
        return split + [self.engine.zeros(shape, self.dtype) for shape in shapes]
