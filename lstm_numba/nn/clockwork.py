"""The Clockwork RNN: groups of hidden units that move at periods of their own (Koutník et al. 2014).

The H units are G groups of H/G, with periods T_0 < T_1 < ... Group k moves at the steps t = 0, 1, ... that
its period divides, and reads the states of its own and of slower groups:

    h_k(t) = tanh(W_k x(t) + b_ih + R_kk h_k(t-1) + Σ_{l>k} R_kl h_l(t-1) + b_hh)  if t mod T_k = 0
    h_k(t) = h_k(t-1)                                                                else

So group k is a plain RNN over the steps 0, T_k, 2 T_k, ..., with the input x(t), h_{k+1}(t-1), ...,
h_{G-1}(t-1). The engine of the layer's device runs these RNNs, the slowest first, and backwards the fastest
first. Where a group rests nothing is computed, and for the blocks of R that would lead from faster to slower
groups there are neither parameters nor products.

J. Koutník, K. Greff, F. Gomez, J. Schmidhuber, "A Clockwork RNN", ICML 2014, arXiv:1402.3511.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.cells import CELLS
from lstm_numba.cells.parameters import parameter_names, suffix
from lstm_numba.engines.base import Steps
from lstm_numba.nn.heads import entries
from lstm_numba.nn.initial_weights import initial_weights
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.nn.tape import Array, Call, Tape
from lstm_numba.signatures import explicit

#: Every step belongs to itself.
SAME = Steps(1, 0, 1)


class ClockworkRNN(Recurrent):
    """RNN whose groups of units move at periods of their own; see `lstm_numba.nn.clockwork`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, dropout_kind, bidirectional, dtype
        See `Recurrent`.
    device, seed
        See `Recurrent`. `hidden_size` is a multiple of the number of periods.
    periods : sequence of int
        Period of each group of ``H // len(periods)`` units, ascending. They need not divide each other.
    models : int, optional
        See `Recurrent`.
    init : {"uniform", "xavier", "orthogonal"}
        Initial weights: those of an RNN of all units, without what no group reads (see `Recurrent`); with
        "orthogonal" the recurrent weights of each group are orthogonal, all others as with "xavier".

    Attributes
    ----------
    params : dict of str to ndarray
        For group k = 0, 1, ... of G, the fastest first, the parameters of its RNN of n = H/G units:
        ``weight_ih_l0_g{k}`` (n, I + (G-1-k)*n), of whose columns the first I are for x and every n after
        these for a slower group, k + 1 first; ``weight_hh_l0_g{k}`` (n, n) for its own state;
        ``bias_ih_l0_g{k}`` and ``bias_hh_l0_g{k}`` (n,). In the second direction ``_l0_reverse_g{k}``. The
        group's units are k*n to (k+1)*n of output and state.
    periods : tuple of int

    Raises
    ------
    ValueError, TypeError
        An argument is out of range or of the wrong type; the message names it.

    Notes
    -----
    Time begins with 0 in each call, whatever the initial state; in the second direction at each sequence's
    own end. There are no `resets`.
    """

    @explicit()
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        periods: Sequence[int] = (1, 2, 4, 8),
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        dropout_kind: str = "element",
        bidirectional: bool = False,
        dtype: Any = np.float32,
        device: str = "cpu",
        seed: int | np.random.Generator | Sequence[int | np.random.Generator] | None = None,
        init: str = "uniform",
        models: int | None = None,
    ) -> None:
        self.periods = _check_periods(periods)
        units = integer("hidden_size", hidden_size)
        if units % len(self.periods):
            raise ValueError(
                f"hidden_size: expected a multiple of {len(self.periods)}, the number of periods, got {units}"
            )
        self.group_size = units // len(self.periods)
        super().__init__(
            CELLS["rnn"], input_size, units, num_layers, bias=bias, batch_first=batch_first, dropout=dropout,
            dropout_kind=dropout_kind, bidirectional=bidirectional, dtype=dtype, device=device, seed=seed,
            init=init, models=models,
        )  # fmt: skip

    def _make_params(self, init: str) -> None:
        names = parameter_names(self.plain_cell, self.bias)
        self._group_names = [
            [{name: f"{name}{suffix(n, d)}_g{k}" for name in names} for k in range(len(self.periods))]
            for n, d in itertools.product(range(self.num_layers), range(self.directions))
        ]
        super()._make_params(init)
        self._shapes = {name: value.shape[len(self._lead) :] for name, value in self.params.items()}

    def _draw_params(self, init: str, rng: np.random.Generator) -> dict[str, Array]:
        # Those of an RNN of all units, cut into the groups' own.
        whole = super()._draw_params("xavier" if init == "orthogonal" else init, rng)
        size, parts = self.group_size, {}
        for entry, groups in zip(self._layer_directions, self._group_names, strict=True):
            params = {name: self.engine.download(whole[full]) for name, full in entry.names.items()}
            for k, full in enumerate(groups):
                rows = slice(k * size, (k + 1) * size)
                own = {name: value[rows] for name, value in params.items()}
                slower = own["weight_hh"][:, rows.stop :]
                own["weight_ih"] = np.concatenate([own["weight_ih"], slower], axis=1)
                own["weight_hh"] = own["weight_hh"][:, rows]
                if init == "orthogonal":
                    ((_, own["weight_hh"]),) = initial_weights(
                        init, self.plain_cell, {"weight_hh_l0": (size, size)}, size, rng
                    )
                parts.update({full[name]: value for name, value in own.items()})
        return {
            name: self.engine.upload(np.array(part, self.dtype, order="C")) for name, part in parts.items()
        }

    def _forget_weights(self) -> None:
        super()._forget_weights()
        self._prepared_calls = None  # it is called group by group
        self._group_caches = [[self.engine.weight_cache() for _ in groups] for groups in self._group_names]

    def __repr__(self) -> str:
        begin, _, end = super().__repr__().rpartition(", dtype=")
        return f"{begin}, periods={self.periods}, dtype={end}"

    def layer_params(self) -> list[dict[str, Array]]:
        """Raises a TypeError: a layer and direction has the parameters of several RNNs."""
        raise TypeError("ClockworkRNN: its groups step apart, so that only the layer itself can run them")

    dense_params = layer_params

    def _checked(self, name: str) -> Array:
        """A parameter, which the user may have replaced."""
        array = self.engine.from_user(name, self.params[name], self.dtype)
        expected = (*self._lead, *self._shapes[name])
        if array.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
        return array

    # -- forward -----------------------------------------------------------------------------------

    def _forward_layer(self, layer: int, x: Array, call: Call) -> Array:
        if call.going:
            raise ValueError(
                "resets: ClockworkRNN has none, as its groups count the steps of the whole sequence"
            )
        engine, hidden, lengths = self.engine, self.hidden_size, call.lengths
        steps, batch, _ = x.shape[-3:]
        y = engine.empty((*self._lead, steps, batch, self.directions * hidden), self.dtype)
        saved = []
        for direction in range(self.directions):
            n = layer * self.directions + direction
            source = self._reversed(x, lengths) if direction else x
            target = engine.empty((*self._lead, steps, batch, hidden), self.dtype) if direction else y
            saved.append(self._forward_groups(n, source, target, call))
            if direction:
                engine.copy_steps(self._reversed(target, lengths), 0, y, hidden, hidden, SAME)
        if call.tape is not None:
            call.tape.saved.append([saved, lengths, None if call.back else y])
        return y if lengths is None else engine.copy_input(y, lengths)

    def _traced(self, saved: list[Any], direction: int, lengths: Array | None) -> Iterator[tuple[str, Array]]:
        engine, hidden, (_, _, y) = self.engine, self.hidden_size, saved
        h = engine.empty((*y.shape[:2], hidden), self.dtype)
        engine.copy_steps(y, direction * hidden, h, 0, hidden, SAME)
        yield "h", h if lengths is None else engine.copy_input(h, lengths)

    def _forward_groups(self, n: int, x: Array, y: Array, call: Call) -> list[Any]:
        """Run a layer and direction, x (T, B, features) being in the order in which it is read.

        Writes the output to the first H columns of `y`, beyond a sequence's end too. Returns what the engine
        saved for each group.
        """
        engine, size, lead = self.engine, self.group_size, self._lead
        steps, batch, features = x.shape[-3:]
        initial = None if call.states is None else self._entries(call.states[0], n, n + 1)
        final = self._entries(call.finals[0], n, n + 1)
        first = self._split(initial, batch)
        outputs: dict[int, Array] = {}
        saved: dict[int, Any] = {}
        for k, period in reversed(list(enumerate(self.periods))):
            count, ends = -(-steps // period), self._steps_of(call.lengths, period)
            inputs = engine.empty((*lead, count, batch, features + len(outputs) * size), self.dtype)
            engine.copy_steps(x, 0, inputs, 0, features, Steps(period, 0, 1))
            for slower, column in self._columns(k, features):
                engine.copy_steps(first[slower], 0, self._entries(inputs, 0, 1), column, size, SAME)
                # Just before step s + 1 of this group, at (s + 1) * period - 1.
                before = Steps(period, period - 1, self.periods[slower])
                engine.copy_steps(outputs[slower], 0, self._entries(inputs, 1, count), column, size, before)
            last = engine.empty((*lead, 1, batch, size), self.dtype)
            params = {name: self._checked(full) for name, full in self._group_names[n][k].items()}
            output, saved[k] = engine.forward(
                call.cell, params, inputs, [first[k]], [last], 0, ends, False, call.keep,
                self._group_caches[n][k], borrow=not call.copy, back=call.back, models=self.models or 0,
            )  # fmt: skip
            outputs[k] = engine.join([output], ends, (*lead, count, batch, size))
            engine.copy_steps(outputs[k], 0, y, k * size, size, Steps(1, 0, period))
            engine.copy_steps(last, 0, final, k * size, size, SAME)
        return [saved[k] for k in range(len(self.periods))]

    # -- backward ----------------------------------------------------------------------------------

    def _backward_layer(
        self,
        layer: int,
        tape: Tape,
        saved: list[Any],
        dy: Array | None,
        dstates: list[Array] | None,
        initial: list[Array],
        need_dx: bool,
        grads: dict[str, Any],
    ) -> Array | None:
        engine, hidden, lead, (groups, lengths, _) = self.engine, self.hidden_size, self._lead, saved
        steps, batch, _ = tape.shape
        features = hidden * self.directions if layer else self.input_size
        if dy is not None and lengths is not None and layer == self.num_layers - 1:
            dy = engine.copy_input(dy, lengths)  # the user's, which may be anything beyond an end
        total: Array | None = None
        for direction in range(self.directions):
            n = layer * self.directions + direction
            gradient, column = dy, direction * hidden
            if dy is not None and direction:
                gradient, column = engine.empty((*lead, steps, batch, hidden), self.dtype), 0
                engine.copy_steps(dy, hidden, gradient, 0, hidden, SAME)
                gradient = self._reversed(gradient, lengths)
            dx = engine.zeros((*lead, steps, batch, features), self.dtype) if need_dx else None
            last = None if dstates is None else self._entries(dstates[0], n, n + 1)
            first = self._entries(initial[0], n, n + 1)
            sizes = (steps, batch, features)
            local = self._backward_groups(groups[direction], gradient, column, last, first, sizes, dx)
            for names, part in zip(self._group_names[n], local, strict=True):
                grads.update({full: part[name] for name, full in names.items()})
            if dx is not None and direction:
                engine.add_steps(self._reversed(dx, lengths), 0, total, 0, features, SAME)
            else:
                total = dx
        return total

    def _backward_groups(
        self,
        saved: list[Any],
        dy: Array | None,
        column: int,
        dlast: Array | None,
        initial: Array,
        sizes: tuple[int, int, int],
        dx: Array | None,
    ) -> list[dict[str, Array]]:
        """Back-propagate through a layer and direction, in the order in which it was read.

        `dy` (T, B, ...), of which `column` is the first of H, is zero beyond a sequence's end. Writes the
        gradient of the initial state (1, B, H) and adds to `dx`. Returns those of each group's parameters.
        """
        engine, size, lead = self.engine, self.group_size, self._lead
        steps, batch, features = sizes
        last = [None] * len(saved) if dlast is None else [[part] for part in self._split(dlast, batch)]
        # Gradients of each group's states, the initial one first, from the output and faster groups.
        counts = [-(-steps // period) for period in self.periods]
        states = [engine.zeros((*lead, 1 + count, batch, size), self.dtype) for count in counts]
        grads = []
        for k, period in enumerate(self.periods):
            if dy is not None:
                engine.add_steps(dy, column + k * size, states[k], 0, size, Steps(1, period, period))
            first = engine.empty((*lead, 1, batch, size), self.dtype)
            need = dx is not None or k + 1 < len(saved)
            dy_of_group = self._entries(states[k], 1, 1 + counts[k])
            dinputs, local = engine.backward(saved[k], dy_of_group, 0, last[k], [first], 0, None, need)
            grads.append(local)
            if dx is not None:
                engine.add_steps(dinputs, 0, dx, 0, features, Steps(period, 0, 1))
            for slower, start in self._columns(k, features):
                before = Steps(period, self.periods[slower] - 1, self.periods[slower])
                engine.add_steps(dinputs, start, states[slower], 0, size, before)
            engine.copy_steps(first, 0, initial, k * size, size, SAME)
            engine.add_steps(self._entries(states[k], 0, 1), 0, initial, k * size, size, SAME)
        return grads

    # -- shared ------------------------------------------------------------------------------------

    def _entries(self, array: Array, first: int, last: int) -> Array:
        """Some of the first axis, but for that of models."""
        return entries(array, first, last, len(self._lead))

    def _columns(self, k: int, features: int) -> list[tuple[int, int]]:
        """The groups that group k reads, and the first column of each in its input."""
        slower = range(k + 1, len(self.periods))
        return [(n, features + (n - k - 1) * self.group_size) for n in slower]

    def _split(self, state: Array | None, batch: int) -> list[Array]:
        """A state (1, B, H), None for zeros, as one (1, B, n) for each group."""
        shape = (*self._lead, 1, batch, self.group_size)
        parts = [self.engine.zeros(shape, self.dtype) for _ in self.periods]
        for k, part in enumerate(parts if state is not None else ()):
            self.engine.copy_steps(state, k * self.group_size, part, 0, self.group_size, SAME)
        return parts

    def _steps_of(self, lengths: Array | None, period: int) -> Array | None:
        """Steps that a group makes in each sequence."""
        if lengths is None:
            return None
        return self.engine.lengths(-(-self.engine.download(lengths) // period))

    def _reversed(self, array: Array, lengths: Array | None) -> Array:
        """Each sequence of a C-contiguous array (T, B, C) from its last step to its first.

        Steps beyond a sequence's end stay where they are.
        """
        if array.ndim > 3:
            found = self.engine.empty(array.shape, array.dtype)
            for n in range(len(array)):
                ends = lengths if lengths is None or lengths.ndim == 1 else lengths[n]
                self.engine.assign(found[n], self._reversed(array[n], ends))
            return found
        steps, batch, width = array.shape
        if lengths is None:
            rows, table = np.arange(steps)[::-1], array.reshape(steps, batch * width)
        else:
            times, ends = np.arange(steps)[:, None], self.engine.download(lengths)
            times = np.where(times < ends, ends - 1 - times, times)
            rows, table = times * batch + np.arange(batch), array.reshape(steps * batch, width)
        tokens = self.engine.tokens(np.ascontiguousarray(rows), gradient=False)
        return self.engine.take_rows(table, tokens).reshape(steps, batch, width)


def _check_periods(periods: Any) -> tuple[int, ...]:
    if (
        isinstance(periods, (str, bytes))
        or not isinstance(periods, (Sequence, np.ndarray))
        or len(periods) == 0
    ):
        raise TypeError(f"periods: expected a sequence of integers, got {periods!r}")
    checked = tuple(integer("periods", period) for period in periods)
    if any(a >= b for a, b in itertools.pairwise(checked)):
        raise ValueError(f"periods: expected ascending integers, got {checked}")
    return checked
