"""One layer after the other: what the engine is asked for, for each direction and head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstm_numba.cells.wrappers import GOING
from lstm_numba.engines.base import Array
from lstm_numba.engines.dropout_masks import whole
from lstm_numba.nn import checks
from lstm_numba.nn.dropout import dropout
from lstm_numba.nn.heads import joined
from lstm_numba.nn.layer_parameters import LayerParameters
from lstm_numba.nn.many import draw_each
from lstm_numba.nn.regularisation import Regularisation
from lstm_numba.nn.tape import Call, Tape
from lstm_numba.nn.trace import side_by_side


class LayerPasses(LayerParameters):
    """Part of `Recurrent`, which documents it."""

    weight_drop: float
    _regularisation: Regularisation

    def _forward_layer(self, layer: int, x: Array, call: Call) -> Array:
        """All directions of a layer: x (T, B, features) -> (T, B, D*H).

        Appends what `_backward_layer` needs to the call's tape.
        """
        engine, outputs, saved = self.engine, [], []
        with engine.branches(self.directions) as branch:
            for direction in range(self.directions):
                with branch(direction):
                    for output, saved_pass in self._forward_heads(layer, direction, x, call):
                        outputs.append(output)
                        saved.append(saved_pass)
        if call.tape is not None:
            call.tape.saved.append(saved)
        shape = (*self._lead, *x.shape[-3:-1], self.directions * self.output_size)
        return engine.join(outputs, call.lengths, shape)

    def _forward_heads(self, layer: int, direction: int, x: Array, call: Call) -> Iterator[tuple[Any, Any]]:
        """What `Engine.forward` returns for each head of a layer and direction."""
        engine = self.engine
        sizes = self.output_size // self.heads, self.hidden_size // self.heads
        n = layer * self.directions + direction
        params, weight_mask = self._params_of(n, call.training)
        if call.tape is not None:
            call.tape.weight_masks.append(weight_mask)
        for head, local in enumerate(params):
            index = head * len(self._layer_directions) + n
            extras = dict(call.extras[head])
            if call.going:
                extras[GOING] = call.going[direction]
            if call.training:
                extras |= self._draw_masks(x.shape[-3:-1], sizes)
            # Dropped weights are this call's only.
            cache = self._weight_caches[index] if weight_mask is None else None
            yield engine.forward(
                call.cell, local, x, call.states, call.finals, index, call.lengths, bool(direction),
                call.keep, cache, borrow=not call.copy,
                extras=[extras[name] for name in call.cell.extras], back=call.back,
                models=self.models or 0,
            )  # fmt: skip

    def _draw_masks(self, shape: tuple[int, int], sizes: tuple[int, int]) -> dict[str, Array]:
        """Masks of a step's zoneout and dropout."""
        engine, states = self.engine, self.plain_cell.states
        if not self._regularisation.draws:
            return {}
        return draw_each(
            engine,
            self.rng,
            lambda rng: self._regularisation.draw(engine, rng, states, shape, sizes, self.dtype),
        )

    def _traced(self, saved: list[Any], direction: int, lengths: Array | None) -> Iterator[tuple[str, Array]]:
        """Values of a layer and direction by name, from what `_forward_layer` appended."""
        heads = range(direction * self.heads, (direction + 1) * self.heads)
        parts = [self.engine.trace(saved[head], lengths) for head in heads]
        for name in (*self.plain_cell.traced, *self.plain_cell.states):
            yield name, side_by_side(self.engine, [part[name] for part in parts])

    def _params_of(self, n: int, training: bool) -> tuple[list[dict[str, Array]], Array | None]:
        """The parameters of a layer and direction for each head, and the mask of dropped weights."""
        params = {name: self.params[full] for name, full in self._layer_directions[n].names.items()}
        mask = None
        if training and self.weight_drop > 0.0:
            params["weight_hh"], mask = self._drop_weights(self._layer_directions[n].names["weight_hh"])
        if self.heads > 1:
            checks.check_parameters(self, n, params)
        return self._head_params[n].of(params), mask

    def _drop_weights(self, name: str) -> tuple[Array, Array]:
        """A copy of a parameter with elements dropped, and the mask."""
        engine = self.engine
        weights = engine.contiguous(engine.from_user(name, self.params[name], self.dtype))
        # Weights have no rows of a batch.
        return dropout(engine, whole(self.rng), weights, self.weight_drop)

    def _names_of(self, layer: int) -> list[str]:
        """Names of a layer's parameters."""
        first = layer * self.directions
        directions = self._layer_directions[first : first + self.directions]
        return [full for one in directions for full in one.names.values()]

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
        """Back-propagate through all directions of a layer.

        Parameters
        ----------
        layer : int
        tape : Tape
        saved : list
            What `_forward_layer` appended.
        dy : Array (T, B, D*H) or None
        dstates, initial : list of Array, shape (heads*layers*D, B, H/heads)
            Gradients of final states (None: zeros), and of initial ones, which are written.
        need_dx : bool
        grads : dict
            Gets the gradients of the layer's parameters.

        Returns
        -------
        Array (T, B, features) or None
        """
        dx = None
        with self.engine.branches(self.directions) as branch:
            for direction in range(self.directions):
                with branch(direction):
                    dx = self._backward_heads(
                        layer, direction, tape, saved, dy, dstates, initial, dx, need_dx, grads
                    )
        return dx

    def _backward_heads(
        self,
        layer: int,
        direction: int,
        tape: Tape,
        saved: list[Any],
        dy: Array | None,
        dstates: list[Array] | None,
        initial: list[Array],
        dx: Array | None,
        need_dx: bool,
        grads: dict[str, Any],
    ) -> Array | None:
        """`_backward_layer` for one direction, which adds to dx where there is one."""
        engine, n, parts = self.engine, layer * self.directions + direction, []
        for head in range(self.heads):
            columns, index = direction * self.heads + head, head * len(self._layer_directions) + n
            dx, local = engine.backward(saved[columns], dy, columns, dstates, initial, index, dx, need_dx)
            parts.append(local)
        found = joined(engine, parts, len(self._lead))
        if tape.weight_masks[n] is not None:
            engine.multiply(found["weight_hh"], tape.weight_masks[n], out=found["weight_hh"])
        for name, full in self._layer_directions[n].names.items():
            grads[full] = found[name]
        return dx
