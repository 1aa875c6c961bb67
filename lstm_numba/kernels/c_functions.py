"""A layer's step as a C function, for whoever calls function pointers: ctypes, cffi, SciPy, C code.

The function is ``void step(const void *handle, const T *x, T *state, T *y)`` with T float or double. The
handle is an array of int64: the number of layers, the address of a record of the head or 0, then a record for
each layer; see `lstm_numba.engines.cpu.head.Head` and `lstm_numba.engines.cpu.records.Layer`.
"""

from __future__ import annotations

import ctypes
import functools
import math
from array import array
from itertools import chain
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.np.numpy_support import from_dtype

from lstm_numba.arguments import integer
from lstm_numba.engines.cpu.function_pointers import compile_apart, once
from lstm_numba.engines.cpu.function_table import compiled_functions
from lstm_numba.engines.cpu.head import Head, head_address
from lstm_numba.engines.cpu.memory import address, aligned_zeros
from lstm_numba.engines.cpu.options import SERIAL
from lstm_numba.engines.cpu.passes import run_stack, scratch_bytes
from lstm_numba.engines.cpu.records import ALONE, Layer, Numbers, numbers
from lstm_numba.engines.cpu.sequence import pack
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.kernels.argument_types import memory, pointer
from lstm_numba.kernels.heads import HeadArrays, Headed, head_arrays, layer_and_head
from lstm_numba.kernels.memory import target_address
from lstm_numba.kernels.status import Typed
from lstm_numba.kernels.weights import check_supported
from lstm_numba.nn.linear import Linear
from lstm_numba.nn.recurrent import Recurrent

Array = np.ndarray[Any, Any]


@functools.partial(Typed, handle=pointer, x=memory, state=memory, y=memory)
@njit(**SERIAL)
def c_step(cell, zero, handle, x, state, y):
    """The step of `CStep`, for calls from a ``numba.cfunc`` of one's own.

    Parameters
    ----------
    cell, zero
        `CStep.cell` and `CStep.zero`, as global variables of the calling function.
    handle : pointer or int
        `CStep.handle`, or its address, ``CStep.handle.value``, also as a global variable.
    x, state, y : pointer to the layer's dtype, or ndarray of it, C-contiguous
        As `CStep` describes. Sizes are not checked.
    """
    layers = pointer_to(target_address(handle), 0)
    run_stack(cell, layers, target_address(x), target_address(state), target_address(y), zero)


@once
def _compiled(kind: Any, dtype: Any) -> int:
    """Address of the C function for a cell's class and a dtype."""
    cell, zero = kind(), dtype.type(0)

    def step(handle, x, state, y):
        c_step(cell, zero, handle, x, state, y)

    pointer = types.CPointer(from_dtype(dtype))
    address: int = compile_apart(step, types.voidptr, pointer, pointer, pointer).address
    return address


class CStep:
    """A step of a layer as a C function: ``void step(const void *handle, const T *x, T *state, T *y)``.

    T is float for float32, double for float64. ``x`` holds (B, I) numbers, ``y`` gets (B, H), the last
    layer's h, or with a head (B, O), what the head makes of it; ``state`` holds (S, num_layers, B, H), S
    being 2 for a cell with h and c, else 1, and is overwritten by the new state: all that the step remembers,
    so it can be saved, copied and put back. With ``proj_size=P``, h is (B, P), and the state is
    h (num_layers, B, P) and behind it c. The memory is the caller's, without gaps; x, state and y must not
    overlap. The function allocates nothing, takes no lock and needs no Python.

    Parameters
    ----------
    rnn : Recurrent, SequenceRegressor or SequenceClassifier
        A layer of one direction, or a model, whose linear layer is the head. The weights are copied now,
        later changes are not seen. Of one on a GPU too, what steps is the processor.
    batch : int
        Sequences that are stepped together (B).
    head : Linear, optional
        Linear layer, of the layer's dtype, that is applied to the last layer's h.

    Attributes
    ----------
    address : int
        Of the C function.
    handle : ctypes.c_void_p
        Its first argument. It lives as long as this object, and is for one call at a time: a thread makes one
        of its own.
    function : ctypes function
        The same for calls from Python; takes addresses, as of ``array.ctypes``.
    state_shape : tuple of int
        (S, num_layers, B, H); with `proj_size` of the numbers one after the other.
    state_shapes : list of tuple of int
        (num_layers, B, H) or (num_layers, B, P) of each state.
    layer, batch
        What it was made of: the layer, with its head, as text, and B.
    rnn : Recurrent
        The layer.
    head : tuple of ndarray, or None
        The head's weight (O, H) and bias (O,).
    outputs : int
        Numbers that a step gives for each sequence: O with a head, else H or P.
    layers : list of Layer
        Addresses of each layer's weights and scratch.
    cell, zero
        Arguments of `c_step`, to be global variables of a ``numba.cfunc`` of one's own.

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer and no such model, or reads in both directions; `head` does not fit it;
        `batch` is not positive.

    Examples
    --------
    >>> import numpy as np, lstm_numba as ln
    >>> step = ln.kernels.CStep(ln.LSTM(3, 4, seed=0))
    >>> x, state, y = np.ones(3, np.float32), np.zeros(step.state_shape, np.float32), np.empty(4, np.float32)
    >>> step.function(step.handle, x.ctypes, state.ctypes, y.ctypes)
    >>> bool((y == state[0, 0, 0]).all())
    True
    """

    def __init__(self, rnn: Recurrent | Headed, batch: int = 1, *, head: Linear | None = None) -> None:
        rnn, head = layer_and_head(rnn, head)
        if rnn.bidirectional:
            raise ValueError("rnn: expected one direction; single steps have no end to read from")
        self.rnn, self.batch = rnn, integer("batch", batch)
        self.layer = repr(rnn) if head is None else f"{rnn!r}, head={head!r}"
        cell, dtype, hidden, output = rnn.cell, rnn.dtype, rnn.hidden_size, rnn.output_size
        self.cell, self.zero = cell, dtype.type(0)
        check_supported(cell, second=True)
        units = (output, *[hidden] * (len(cell.states) - 1))
        self.state_shapes = [(rnn.num_layers, self.batch, count) for count in units]
        self.state_shape: tuple[int, ...] = (len(units), *self.state_shapes[0])
        if output != hidden:
            self.state_shape = (sum(map(math.prod, self.state_shapes)),)
        functions = address(compiled_functions(cell, dtype, False))
        self.head = None if head is None else head_arrays(rnn, head)
        self.outputs = output if self.head is None else len(self.head.bias)
        self._alive: list[Array] = []
        self.layers: list[Layer] = []
        for params in rnn.dense_params():
            inputs = params["weight_ih"].shape[1]
            packed = pack(cell, params, inputs, hidden, output, dtype)
            layer = Layer(self.batch, inputs, hidden, output, address(packed), functions, 0)
            scratch = aligned_zeros((scratch_bytes(cell, layer, 1, False, ALONE, self.zero),), np.uint8)
            self._alive += [packed, scratch]
            self.layers.append(layer._replace(scratch=address(scratch)))
        self._head = None if self.head is None else self._record(self.head)
        where = 0 if self._head is None else self._head.buffer_info()[0]
        self._numbers = array("q", (rnn.num_layers, where, *chain.from_iterable(self.layers)))
        self.handle = ctypes.c_void_p(self._numbers.buffer_info()[0])
        kind: Any = type(cell)
        self.address = _compiled(kind, dtype)
        self.function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(self.address)

    def _record(self, head: HeadArrays) -> Numbers:
        """What the head's C function is told."""
        outputs, inputs = head.weight.shape
        where = head_address(self.rnn.dtype), address(head.weight), address(head.bias)
        return numbers(Head(*where, self.batch, inputs, outputs))

    def __repr__(self) -> str:
        return f"CStep({self.layer}, batch={self.batch})"

    def __reduce__(self) -> Any:
        raise TypeError(
            "CStep: cannot be copied or pickled, its handle is made of addresses; make another one"
        )
