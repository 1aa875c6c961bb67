"""What a user's kernel needs of a layer for `step`: weights, gradients, sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells import display_name
from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.elementwise import copy_block, transpose
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over
from lstm_numba.engines.cuda.memory import DeviceArray, empty, upload, zeros
from lstm_numba.engines.cuda.options import KERNEL
from lstm_numba.engines.cuda.scalar import store_scalars
from lstm_numba.engines.cuda.specialize import class_constant, load_biases, zero_slots
from lstm_numba.kernels.weights import check_supported


class Weights(NamedTuple):
    """The weights of one layer and direction, passed to a kernel as they are.

    G gates, S slots (`lstm_numba.cells.protocol`), P peephole weights a unit. The arrays are flat, on the
    device, and of the layer's dtype.

    Attributes
    ----------
    cell : Cell
    inputs, hidden : int
        Features of the input (I) and hidden units (H).
    input : (I * G * H,)
        ``weight_ih`` transposed, so that threads of neighbouring units read neighbouring elements.
    recurrent : (H * G * H,)
        ``weight_hh`` transposed.
    bias : (S * H,)
        Both biases of every slot together; zero where there are none.
    peephole : (P * H,)
    input_rows : (G * H * I,)
        ``weight_ih``, for the backward pass.
    recurrent_rows : (G * H * H,)
        ``weight_hh``.
    """

    cell: Any
    inputs: Any
    hidden: Any
    input: Any
    recurrent: Any
    bias: Any
    peephole: Any
    input_rows: Any
    recurrent_rows: Any


class ParameterGradients(NamedTuple):
    """Gradients of one layer's and direction's parameters, in their shapes; empty where it has none.

    Attributes
    ----------
    weight_ih : (G * H, I)
    weight_hh : (G * H, H)
    bias_ih, bias_hh : (G * H,)
    weight_ph : (P * H,)
    """

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any
    weight_ph: Any


@cuda.jit(**KERNEL)
def _fill_biases(cell, bias_ih, bias_hh, slots, hidden):
    """Sum both biases of every slot; zero where there are none."""
    for unit in stride_range(cuda.grid(1), hidden, cuda.gridsize(1)):
        if bias_ih.size > 0:
            store_scalars(slots, unit, hidden, load_biases(cell, bias_ih, bias_hh, unit, hidden))
        else:
            store_scalars(slots, unit, hidden, zero_slots(cell, slots))


def device_weights(rnn: Any, layer: int = 0, direction: int = 0) -> Weights:
    """Copy a layer's weights to the device, laid out for a kernel.

    Parameters
    ----------
    rnn : Recurrent
        On "cuda" or "cpu". Later changes of its parameters are not seen.
    layer : int
        Which of its layers.
    direction : int
        1 for the second direction of a bidirectional one.

    Returns
    -------
    Weights

    Raises
    ------
    TypeError, ValueError
        `rnn` is no recurrent layer, has not so many layers or directions, or its cell needs what these
        functions do not have.
    DeviceError
        There is not enough memory.
    """
    params = {name: _on_device(array) for name, array in _parameters(rnn, layer, direction).items()}
    cell, hidden, none = rnn.cell, rnn.hidden_size, empty((0,), rnn.dtype)
    bias = empty((len(cell.slots) * hidden,), rnn.dtype)
    biases = (params.get(name, none) for name in ("bias_ih", "bias_hh"))
    launch_over(_fill_biases, hidden, cell, *biases, bias, hidden)
    return Weights(
        cell=cell,
        inputs=params["weight_ih"].shape[1],
        hidden=hidden,
        input=flat(transpose(params["weight_ih"])),
        recurrent=flat(transpose(params["weight_hh"])),
        bias=bias,
        peephole=_copy(params.get("weight_ph", none)),
        input_rows=_copy(params["weight_ih"]),
        recurrent_rows=_copy(params["weight_hh"]),
    )


def device_gradients(rnn: Any, layer: int = 0, direction: int = 0) -> ParameterGradients:
    """Zeros on the device, for a kernel to add the gradients of a layer's parameters to.

    ``gradients._asdict()`` has the parameters' names without their suffix.

    Parameters
    ----------
    rnn, layer, direction
        As for `device_weights`.

    Returns
    -------
    ParameterGradients

    Raises
    ------
    TypeError, ValueError, DeviceError
        As for `device_weights`.
    """
    params = _parameters(rnn, layer, direction)
    shapes = {name: params[name].shape if name in params else (0,) for name in ParameterGradients._fields}
    return ParameterGradients(**{name: zeros(shape, rnn.dtype) for name, shape in shapes.items()})


def _parameters(rnn: Any, layer: int, direction: int) -> dict[str, Any]:
    if not hasattr(rnn, "layer_params"):
        raise TypeError(f"rnn: expected a recurrent layer, got {type(rnn).__name__}")
    for name, value, count in (("layer", layer, rnn.num_layers), ("direction", direction, rnn.directions)):
        if value not in range(count):
            raise ValueError(f"{name}: expected 0 to {count - 1}, got {value!r}")
    check_supported(rnn.cell)
    if rnn.cell.mean_levels:
        raise TypeError(
            f"{display_name(rnn.cell)}: needs means over all units, which layers have, but not the functions "
            "of lstm_numba.kernels.cuda"
        )
    params: dict[str, Any] = rnn.layer_params()[layer * rnn.directions + direction]
    return params


def _on_device(array: Any) -> DeviceArray:
    return upload(array) if isinstance(array, np.ndarray) else array


def _copy(array: DeviceArray) -> DeviceArray:
    """A flat copy of an array on the device."""
    out = empty((array.size,), array.dtype)
    copy_block(array, (0, 0), out, (0, 0), (1, array.size))
    return out


# -- a tape: rows of H elements; the first ones are the scratch memory of a step without a tape --------


#: Row 0 is the new h, row 1 the operand of a cell with two stages; then the slots,
slots_row = class_constant(lambda cell: len(cell.stages))
#: the previous states,
previous_row = class_constant(lambda cell: len(cell.stages) + len(cell.slots))
#: the new states but h,
cell_state_row = class_constant(lambda cell: len(cell.stages) + len(cell.slots) + len(cell.states))
#: and, in the backward pass, the gradients of the peephole weights.
peephole_row = class_constant(lambda cell: len(cell.stages) + len(cell.slots) + 2 * len(cell.states) - 1)

_tape_rows = class_constant(
    lambda cell: len(cell.stages) + len(cell.slots) + 2 * len(cell.states) - 1 + len(cell.peepholes)
)
_scratch_rows = class_constant(lambda cell: 1 if len(cell.stages) == 1 else 2 + len(cell.slots))


def scratch_size(weights: Any) -> Any:
    """Elements of scratch memory that a step needs: H, or 5 H where it has two stages (GRU, reset before).

    To be called from the host or from a kernel.

    Parameters
    ----------
    weights : Weights

    Returns
    -------
    int
    """
    return _scratch_rows(weights.cell) * weights.hidden


def tape_size(weights: Any) -> Any:
    """Elements that a step keeps for the backward pass: a multiple of H, 3 H to 11 H depending on the cell.

    To be called from the host or from a kernel.

    Parameters
    ----------
    weights : Weights

    Returns
    -------
    int
    """
    return _tape_rows(weights.cell) * weights.hidden


@overload(scratch_size)
def _(weights):
    return lambda weights: _scratch_rows(weights.cell) * weights.hidden


@overload(tape_size)
def _(weights):
    return lambda weights: _tape_rows(weights.cell) * weights.hidden
