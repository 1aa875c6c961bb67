"""Weights of one layer and direction, as compiled code is given them: as they are, or packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload
from numba.np.numpy_support import from_dtype

from lstm_numba.arguments import refuse_mask
from lstm_numba.cells import display_name
from lstm_numba.cells.parameters import second_weight
from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.function_table import compiled_functions
from lstm_numba.engines.cpu.memory import aligned_empty
from lstm_numba.engines.cpu.offsets import DESCRIPTOR_SIZE, number_bytes
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.records import Addresses, Layer, Parameters
from lstm_numba.engines.cpu.specialize import gate_count, peephole_count, recurrent_gate_count
from lstm_numba.engines.cpu.weights import pack_part, packed_numbers
from lstm_numba.kernels.argument_types import check_types, name_in_messages, read
from lstm_numba.kernels.memory import address_of
from lstm_numba.kernels.status import (
    BIASES,
    FITS,
    PARAMETERS,
    WEIGHT_HH,
    WEIGHT_IH,
    WEIGHT_PH,
    Checked,
    Typed,
    raise_reason,
    spoil,
)
from lstm_numba.kernels.types import PackedType, PlainType, cell_of
from lstm_numba.nn.recurrent import Recurrent

Array = np.ndarray[Any, Any]

name_in_messages(Recurrent)


@dataclass(frozen=True, eq=False, repr=False)
class Plain:
    """A cell and its parameters as they are: what is written to them counts from the next call on.

    Made by `plain`. In compiled code it has the arrays as attributes.

    Attributes
    ----------
    cell : Cell
    weight_ih, weight_hh, bias_ih, bias_hh, weight_ph : ndarray
        As in `Parameters`.
    functions : ndarray of int64
        Addresses of the compiled matrix products, in this process.
    """

    cell: Any
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    weight_ph: Array
    functions: Array

    def __post_init__(self) -> None:
        """Where Numba looks for the type of an object first."""
        kind = PlainType(type(self.cell), from_dtype(self.weight_hh.dtype))
        object.__setattr__(self, "_numba_type_", kind)

    def __repr__(self) -> str:
        """Without the numbers: Numba puts it into its messages."""
        sizes = self.weight_ih.shape[1], self.weight_hh.shape[1]
        return _text(self, *sizes, self.weight_hh.dtype)

    @property
    def parameters(self) -> Parameters:
        """The arrays together; from Python only."""
        return Parameters(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_ph)

    def __reduce__(self) -> Any:
        """The addresses in `functions` mean nothing to another process."""
        return plain, (self.cell, self.parameters)


@dataclass(frozen=True, eq=False, repr=False)
class Packed:
    """A cell and a copy of its parameters in the order in which the vector registers read them.

    Made by `pack`.

    Attributes
    ----------
    cell : Cell
    inputs, hidden : int
        I and H.
    data : ndarray, 1-D
        The copy. Threads may share it as long as nobody calls `repack`.
    descriptor : ndarray of int64
        Memory for `repack`.
    functions : ndarray of int64
        Addresses of the compiled matrix products, in this process.
    """

    cell: Any
    inputs: int
    hidden: int
    data: Array
    descriptor: Array
    functions: Array

    def __post_init__(self) -> None:
        """Where Numba looks for the type of an object first."""
        kind = PackedType(type(self.cell), from_dtype(self.data.dtype))
        object.__setattr__(self, "_numba_type_", kind)

    def __repr__(self) -> str:
        """Without the numbers: Numba puts it into its messages."""
        return _text(self, self.inputs, self.hidden, self.data.dtype)

    def __reduce__(self) -> Any:
        """The addresses in `functions` mean nothing to another process."""
        return _restored, (self.cell, self.inputs, self.hidden, self.data, lanes(self.data.dtype))


def _text(weights: Plain | Packed, inputs: int, hidden: int, dtype: Any) -> str:
    return f"{type(weights).__name__}({display_name(weights.cell)}, {inputs}, {hidden}, {dtype})"


def _restored(cell: Any, inputs: int, hidden: int, data: Array, lane: int) -> Packed:
    """A copy, where the vector registers are as wide: the order of the numbers depends on it."""
    if lane != lanes(data.dtype):
        raise ValueError(
            f"Packed: expected weights packed for vectors of {lanes(data.dtype)} numbers, got {lane}; "
            "pickle the Plain weights, and pack them there"
        )
    return _packed(cell, inputs, hidden, data)


def _packed(cell: Any, inputs: int, hidden: int, data: Array) -> Packed:
    return Packed(
        cell, inputs, hidden, data, np.zeros(DESCRIPTOR_SIZE, np.int64), compiled_functions(cell, data.dtype)
    )


def plain(source: Any, parameters: Parameters | None = None, *, layer: int = 0, direction: int = 0) -> Plain:
    """Weights of a layer and direction as they are, for the functions of this package.

    Parameters
    ----------
    source : Recurrent or Cell
        A layer on the CPU; or a cell, as ``rnn.cell``, with `parameters`.
    parameters : Parameters, optional
        Arrays of one's own; they are used as they are, not copied.
    layer, direction : int
        Which of a layer's parameters: layer 0, 1, ...; direction 1 is the reverse one.

    Returns
    -------
    Plain

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong kind, or an array's shape, dtype or order does not fit.
    """
    if isinstance(source, Recurrent):
        if parameters is not None:
            raise TypeError("parameters: expected none beside a layer, which has its own")
        if source.device != "cpu":
            raise ValueError(f"source: expected a layer on the CPU, got one on {source.device!r}")
        if not 0 <= layer < source.num_layers or not 0 <= direction < source.directions:
            raise ValueError(
                f"layer, direction: expected below {source.num_layers} and {source.directions}, "
                f"got {layer} and {direction}"
            )
        own = source.layer_params()[layer * source.directions + direction]
        none = np.empty(0, source.dtype)
        parameters = Parameters(*(own.get(name, none) for name in Parameters._fields))
        return plain(source.cell, parameters)
    if isinstance(source, type) or not hasattr(source, "stages"):
        got = f"class {source.__name__}" if isinstance(source, type) else type(source).__name__
        raise TypeError(f"source: expected a recurrent layer, or a cell, as rnn.cell, got {got}")
    if not isinstance(parameters, Parameters):
        raise TypeError(f"parameters: expected Parameters beside a cell, got {type(parameters).__name__}")
    check_supported(source)
    _check_arrays(source, parameters)
    return Plain(source, *parameters, compiled_functions(source, parameters.weight_hh.dtype))


def check_supported(cell: Any, second: bool = False) -> None:
    """Raise a TypeError that names what a cell needs and the functions of this package do not have.

    Parameters
    ----------
    cell : Cell
    second : bool
        Whether they have weights that the second product alone uses.
    """
    missing = list(cell.extras) + ([second_weight(cell)] if second_weight(cell) and not second else [])
    if missing:
        raise TypeError(
            f"{display_name(cell)}: needs {', '.join(missing)}, which layers have, but not the functions of "
            "lstm_numba.kernels"
        )


def _check_arrays(cell: Any, parameters: Parameters) -> None:
    """Arrays that compiled code can read, of shapes that fit each other."""
    dtype = getattr(parameters.weight_hh, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"weight_hh: expected an array of float32 or float64, got {dtype}")
    for name, array in parameters._asdict().items():
        refuse_mask(name, array)
        if not isinstance(array, np.ndarray) or array.dtype != dtype or not array.flags.c_contiguous:
            kind = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{name}: expected a C-contiguous array of {dtype}, got {kind}")
        if array.ndim != (2 if name in ("weight_ih", "weight_hh") else 1):
            raise ValueError(f"{name}: got shape {array.shape}; see lstm_numba.kernels.Parameters")
    raise_reason(parameters_status(cell, parameters))


@njit(**SERIAL)
def parameters_status(cell, parameters):
    """Status of parameters' shapes: of wrong ones what follows would read beyond the arrays."""
    hidden = parameters.weight_hh.shape[1]
    rows, recurrent = gate_count(cell) * hidden, recurrent_gate_count(cell) * hidden
    if hidden < 1 or parameters.weight_hh.shape[0] != recurrent:
        return WEIGHT_HH
    if parameters.weight_ih.shape[1] < 1 or parameters.weight_ih.shape[0] != rows:
        return WEIGHT_IH
    both = parameters.bias_ih.size + parameters.bias_hh.size
    if both != 0 and (parameters.bias_ih.size != rows or parameters.bias_hh.size != recurrent):
        return BIASES
    if parameters.weight_ph.size != peephole_count(cell) * hidden:
        return WEIGHT_PH
    return FITS


def pack(weights: Plain) -> Packed:
    """Weights in the order in which the vector registers read them: a copy; see `repack`.

    Parameters
    ----------
    weights : Plain

    Returns
    -------
    Packed

    Raises
    ------
    TypeError
        `weights` is something else.
    """
    if not isinstance(weights, Plain):
        raise TypeError(f"weights: expected Plain, got {type(weights).__name__}")
    cell, parameters = weights.cell, weights.parameters
    inputs, hidden = parameters.weight_ih.shape[1], parameters.weight_hh.shape[1]
    dtype = parameters.weight_hh.dtype
    numbers = both_numbers(cell, inputs, hidden, dtype.type(0))
    packed = _packed(cell, inputs, hidden, aligned_empty((numbers,), dtype))
    repack(packed, parameters)
    return packed


def unflatten(like: Any, flat: Any) -> Parameters:
    """A vector's numbers as parameters: views, without allocation.

    Parameters
    ----------
    like : Parameters or Plain
        Whose shapes to take, one array after the other.
    flat : ndarray, 1-D
        C-contiguous; as many numbers as `parameter_count` says.

    Returns
    -------
    Parameters
        In compiled code: of no numbers at all, which every function refuses, where there are more or fewer.

    Raises
    ------
    ValueError
        From Python: there are more or fewer numbers.
    """
    if flat.size != parameter_count(like):
        raise ValueError("flat: expected as many numbers as there are parameters")
    parameters: Parameters = _unflatten(like, flat)
    return parameters


@overload(unflatten)
def _(like, flat):
    check_types(("like", "flat"), (like, flat), {"flat": read})
    return lambda like, flat: _unflatten(like, flat)


@njit(**SERIAL)
def _unflatten(like, flat):
    if flat.size != parameter_count(like):
        nothing = flat[:0]
        return Parameters(nothing.reshape((0, 0)), nothing.reshape((0, 0)), nothing, nothing, nothing)
    a = like.weight_ih.size
    b = a + like.weight_hh.size
    c = b + like.bias_ih.size
    d = c + like.bias_hh.size
    return Parameters(
        flat[:a].reshape(like.weight_ih.shape), flat[a:b].reshape(like.weight_hh.shape), flat[b:c], flat[c:d],
        flat[d:],
    )  # fmt: skip


@Typed
@njit(**SERIAL)
def parameter_count(like):
    """How many numbers there are in `Parameters`, or in `Plain` weights.

    Parameters
    ----------
    like : Parameters or Plain

    Returns
    -------
    int
        Elements of all arrays together: the size of a flat array of them for `unflatten`.
    """
    weights = like.weight_ih.size + like.weight_hh.size + like.weight_ph.size
    return weights + like.bias_ih.size + like.bias_hh.size


@njit(**INLINE)
def locate(parameters):
    """Parameters' addresses; 0 for biases that are not there."""
    biased = parameters.bias_ih.size > 0
    return Addresses(
        address_of(parameters.weight_ih),
        address_of(parameters.weight_hh),
        address_of(parameters.bias_ih) if biased else 0,
        address_of(parameters.bias_hh) if biased else 0,
        address_of(parameters.weight_ph),
        0,
    )


@Checked
@njit(**SERIAL)
def repack(packed, parameters):
    """Pack parameters again, after they changed; for calls from compiled code, without allocation.

    Parameters
    ----------
    packed : Packed
        Is overwritten; no other thread may use it meanwhile.
    parameters : Parameters
        Of the shapes that it was made from.

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; the packed weights are NaN then.

    Raises
    ------
    ValueError
        From Python: the shapes are others.
    """
    cell, zero = cell_of(packed), packed.data.dtype.type(0)
    status = parameters_status(cell, parameters)
    if status == FITS and (
        parameters.weight_ih.shape[1] != packed.inputs or parameters.weight_hh.shape[1] != packed.hidden
    ):
        status = PARAMETERS
    if status != FITS:
        spoil(packed.data, zero)
        return status
    located, descriptor = locate(parameters), np.int64(packed.descriptor.ctypes.data)
    layer = _layer_of(packed)
    for back in (False, True):
        address = part_address(packed, back)
        pack_part(cell, layer, located, back, address, descriptor, np.int64(0), np.int64(1), zero)
    return status


@njit(**SERIAL)
def both_numbers(cell, inputs, hidden, zero):
    """How many numbers packed weights of both passes are."""
    forward = packed_numbers(cell, inputs, hidden, hidden, False, zero)
    return forward + packed_numbers(cell, inputs, hidden, hidden, True, zero)


@njit(**INLINE)
def part_address(packed, back):
    """Address of the packed weights of a pass: forward, then backward."""
    cell, zero = cell_of(packed), packed.data.dtype.type(0)
    begin = address_of(packed.data)
    if back:
        inputs, hidden = packed.inputs, packed.hidden
        begin += packed_numbers(cell, inputs, hidden, hidden, False, zero) * number_bytes(zero)
    return begin


# What differs between plain and packed weights. The bodies are put in by the overloads.


def zero_like(weights: Any) -> Any:
    """A zero of the weights' dtype."""
    raise NotImplementedError


@overload(zero_like, INLINE)
def _(weights):
    if isinstance(weights, PackedType):
        return lambda weights: weights.data.dtype.type(0)
    return lambda weights: weights.weight_hh.dtype.type(0)


def layer_sizes(weights: Any) -> Any:
    """I and H."""
    raise NotImplementedError


@overload(layer_sizes, INLINE)
def _(weights):
    if isinstance(weights, PackedType):
        return lambda weights: (weights.inputs, weights.hidden)
    return lambda weights: (weights.weight_ih.shape[1], weights.weight_hh.shape[1])


@njit(**INLINE)
def _layer_of(weights):
    """The layer's sizes and functions, for packing."""
    inputs, hidden = layer_sizes(weights)
    nothing = np.int64(0)
    return Layer(nothing, inputs, hidden, hidden, nothing, np.int64(weights.functions.ctypes.data), nothing)


def weights_status(weights: Any) -> Any:
    """Status of the weights' own shapes: plain ones may have been put together anywhere."""
    raise NotImplementedError


@overload(weights_status, INLINE)
def _(weights):
    if isinstance(weights, PackedType):
        return lambda weights: FITS
    return lambda weights: parameters_status(cell_of(weights), weights)


def packing_numbers(weights: Any) -> Any:
    """Numbers of scratch for packed weights: none where they are packed already."""
    raise NotImplementedError


@overload(packing_numbers, INLINE)
def _(weights):
    if isinstance(weights, PackedType):
        return lambda weights: 0

    def numbers(weights):
        inputs, hidden = layer_sizes(weights)
        cell, zero = cell_of(weights), zero_like(weights)
        forward = packed_numbers(cell, inputs, hidden, hidden, False, zero)
        return max(forward, packed_numbers(cell, inputs, hidden, hidden, True, zero))

    return numbers


def packed_address(weights: Any, back: Any, scratch: Any, descriptor: Any) -> Any:
    """Address of the packed weights of a pass; plain ones are packed into scratch first."""
    raise NotImplementedError


@overload(packed_address, INLINE)
def _(weights, back, scratch, descriptor):
    if isinstance(weights, PackedType):
        return lambda weights, back, scratch, descriptor: part_address(weights, back)

    def pack_first(weights, back, scratch, descriptor):
        zero = zero_like(weights)
        located, one, none = locate(weights), np.int64(1), np.int64(0)
        pack_part(cell_of(weights), _layer_of(weights), located, back, scratch, descriptor, none, one, zero)
        return scratch

    return pack_first
