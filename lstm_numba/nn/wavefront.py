"""Stacked layers as a wavefront: a layer computes a chunk of time while the one below is at the next chunk.

J. Appleyard, T. Kocisky, P. Blunsom, "Optimizing performance of recurrent neural networks on GPUs", 2016.
"""

from __future__ import annotations

import itertools
from typing import Any

from lstm_numba.engines.base import Array, Steps
from lstm_numba.nn.tape import Call

_ALL = Steps(1, 0, 1)


def chunks_of(rnn: Any, x: Array, call: Call) -> int:
    """In how many chunks of time the layers of a forward pass run side by side; 1: one after the other."""
    alone = rnn.models or rnn.num_layers == 1 or rnn.directions > 1 or rnn.heads > 1
    if alone or call.keep or call.lengths is not None or call.cell.extras:
        return 1
    steps, batch, _ = x.shape
    shape = batch, rnn.hidden_size, rnn.output_size
    return min(steps, int(rnn.engine.wavefront(call.cell, rnn.num_layers, steps, shape, rnn.dtype)))


def run(rnn: Any, x: Array, call: Call, chunks: int) -> Array:
    """All layers of `rnn` on x (T, B, I), without a backward pass: (T, B, H).

    Parameters
    ----------
    rnn : Recurrent
        Of one direction.
    x : Array (T, B, I)
    call : Call
        Its final states are written, and hold those between the chunks meanwhile.
    chunks : int
    """
    engine, (steps, batch, _) = rnn.engine, x.shape
    y = engine.empty((steps, batch, rnn.output_size), rnn.dtype)
    layers = [rnn._params_of(n, False)[0][0] for n in range(rnn.num_layers)]
    bounds = [steps * n // chunks for n in range(chunks + 1)]
    kept = []  # until all layers are done: another one may still read it
    with engine.pipeline(rnn.num_layers) as stage:
        for first, last in itertools.pairwise(bounds):
            part = _steps(x, first, last)
            for layer, params in enumerate(layers):
                with stage(layer):
                    states = call.finals if first > 0 else call.states
                    output, _ = engine.forward(
                        call.cell, params, part, states, call.finals, layer, None, False, False,
                        rnn._weight_caches[layer],
                    )  # fmt: skip
                    part = engine.join([output], None, (last - first, batch, rnn.output_size))
                    kept += [output, part]
                    if layer == rnn.num_layers - 1:
                        engine.copy_steps(part, 0, _steps(y, first, last), 0, rnn.output_size, _ALL)
    return y


def _steps(array: Array, first: int, last: int) -> Array:
    """Some steps of an array (T, B, C), C-contiguous."""
    _, batch, width = array.shape
    return array.reshape(-1)[first * batch * width : last * batch * width].reshape(last - first, batch, width)
