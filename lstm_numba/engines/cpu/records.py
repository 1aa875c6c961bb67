"""Records of int64 numbers: how Python tells compiled code what to do.

A record is a NamedTuple of integers, addresses and further records. Python writes it as an array of numbers
(`numbers`), compiled code reads it by name (`read_record`). Addresses are in bytes, strides in numbers of the
layer's dtype, except where a field says otherwise.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, TypeAlias, get_type_hints

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

#: A record's numbers, perhaps with others behind it.
Numbers: TypeAlias = "array[int]"

_I64 = ir.IntType(64)


class Parameters(NamedTuple):
    """Parameters of one layer and direction, or their gradients, in PyTorch's layout; C-contiguous.

    Attributes
    ----------
    weight_ih : ndarray, shape (G*H, I)
    weight_hh : ndarray, shape (G*H, H)
    bias_ih, bias_hh : ndarray, shape (G*H,), or (0,) without biases
    weight_ph : ndarray, shape (P*H,), or (0,) for a cell without peepholes
    """

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any
    weight_ph: Any


class Addresses(NamedTuple):
    """Addresses of the arrays of one layer and direction: parameters or their gradients; 0 for none.

    Attributes
    ----------
    weight_ih, weight_hh, bias_ih, bias_hh, weight_ph : int
        Of `Parameters`.
    second : int
        Of the weights that the second recurrent product alone has.
    """

    weight_ih: int
    weight_hh: int
    bias_ih: int
    bias_hh: int
    weight_ph: int
    second: int


class Layer(NamedTuple):
    """A layer and direction.

    Attributes
    ----------
    batch, inputs, hidden, output : int
        B, I, H and the units of the first state: H, or fewer where it is projected.
    weights : int
        Address of the packed weights, those of the pass that is to run.
    functions : int
        Address of a `FunctionTable`.
    scratch : int
        Address of scratch memory.
    """

    batch: int
    inputs: int
    hidden: int
    output: int
    weights: int
    functions: int
    scratch: int


class FunctionTable(NamedTuple):
    """Addresses of functions that are compiled apart from the kernels that call them.

    The tiles of `lstm_numba.engines.cpu.microkernel`, then packing, checksum and product; see
    `lstm_numba.engines.cpu.function_table`.
    """

    input_tile: int
    first_tile: int
    second_tile: int
    clear_tile: int  # for the slots that the input does not feed
    wide_tile: int  # of `BACK_VECTORS` vectors
    narrow_tile: int  # of one vector
    pack: int
    checksum: int
    product: int
    pack_transposed: int


class Sequence(NamedTuple):
    """A sequence, and where the forward pass writes.

    Attributes
    ----------
    steps : int
        T.
    reverse : int
        1 to read it from its end.
    keep : int
        1 to save what the backward pass needs.
    x, lengths : int
        Addresses of x (T, B, I) and of the steps of each row; 0 for `lengths` where all have T.
    h : int
        Address of the history (T + 1, B, H).
    rest : int
        Address of what else is saved; see `lstm_numba.engines.cpu.offsets.saved_offsets`.
    entries : int
        Entries of h at the beginning of `rest`; 0 where the history is elsewhere.
    block, chunks : int
        Steps of a block and chunks of the rows; where they are 0, as `blocking` chooses for one thread.
    extras : int
        Address of four numbers for each of the cell's extras: its address, its strides from one step and from
        one row to the next, and how many units it has.
    unit_parts : int
        Threads that share the units; 1 where they share the rows.
    """

    steps: int
    reverse: int
    keep: int
    x: int
    lengths: int
    h: int
    rest: int
    entries: int
    block: int
    chunks: int
    extras: int
    unit_parts: int


class Team(NamedTuple):
    """Threads that share a sequence.

    Attributes
    ----------
    by_units : int
        1 where each has its units, with a barrier at every step, 0 where each has its rows.
    parts : int
        How many.
    workers : int
        Threads that share the products of all steps.
    """

    by_units: int
    parts: int
    workers: int


#: The calling thread.
ALONE = Team(0, 1, 1)


class Packing(NamedTuple):
    """What weights are packed from; those of the forward pass go to the layer's.

    Attributes
    ----------
    params : Addresses
    back : int
        Address for the weights of the backward pass; 0 if they are not wanted.
    descriptor : int
        Address of `DESCRIPTOR_SIZE` numbers of int64 for each of the parts.
    parts : int
        Parts of the packing.
    checks : int
        Parts of the check whether the packed weights are out of date; 0 to pack without it.
    words : int
        Address of the list of the checksum's arrays: address and bytes of each.
    arrays : int
        How many these are.
    sums : int
        Address of the checksums of the parameters that were packed last, after the number of their parts (0
        if there are none).
    found : int
        Address for the checksums of the present parameters.
    """

    params: Addresses
    back: int
    descriptor: int
    parts: int
    checks: int = 0
    words: int = 0
    arrays: int = 0
    sums: int = 0
    found: int = 0


#: For weights that are packed already.
PACKED = Packing(Addresses(0, 0, 0, 0, 0, 0), 0, 0, 0)


class OutputGradient(NamedTuple):
    """Gradient of the loss with respect to the output: its address, 0 for zeros, and its rows' stride."""

    dy: int
    row: int


class GradientTargets(NamedTuple):
    """Where gradients are written: of x, rows `row` numbers apart, and of the parameters, added to or not.

    Rows of x in whole vectors cost no copy; with 0 for `dx` and such rows its gradient is left out.
    """

    dx: int
    row: int
    grads: Addresses
    add: int


class SequenceJob(NamedTuple):
    """The forward pass of a sequence; behind it, the addresses of its initial and of its final states."""

    layer: Layer
    sequence: Sequence
    team: Team
    packing: Packing
    stale: int = 0  # set where packed weights are out of date


class BackwardJob(NamedTuple):
    """The backward pass; behind it, the addresses of the gradients of the final and of the initial states."""

    layer: Layer
    sequence: Sequence
    team: Team
    output_gradient: OutputGradient
    targets: GradientTargets


class ProductJob(NamedTuple):
    """Matrix products C (+)= A B with one A; behind it, a `ProductOperand` for each B, and the segments.

    A segment is a range of A's rows: its first row, its number of rows, and for every operand the first row
    of C that they are for, or -1 where they are not multiplied with it.
    """

    a: int
    a_row: int
    a_column: int
    inner: int
    lane: int
    size: int  # bytes of a number
    add: int
    workspace: int
    share: int  # bytes of the workspace for each thread
    wide: int  # address of the tile of two vectors
    narrow: int  # and of that of one
    parts: int
    operands: int
    segments: int


class ProductOperand(NamedTuple):
    """A matrix B and its product C: addresses, strides, and how many columns they have."""

    b: int
    b_row: int
    b_column: int
    c: int
    c_row: int
    width: int
    packed: int  # bytes into a thread's workspace


class PackingJob(NamedTuple):
    """What a packing kernel is to do; behind it, the gates that feed the slots."""

    weight: int
    packed: int
    columns: int
    units: int
    lane: int
    slots: int


@cache
def _members(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Names of a record's fields, each with the class of the record that it is, or None for a number."""
    hints = get_type_hints(kind)
    return tuple((name, hints[name] if hasattr(hints[name], "_fields") else None) for name in kind._fields)


def size_of(kind: Any) -> int:
    """How many numbers a record is."""
    return sum(1 if inner is None else size_of(inner) for _, inner in _members(kind))


def index_of(kind: Any, *path: str) -> int:
    """Which of a record's numbers is the first one of a field, or of a field of a record within it."""
    position = 0
    for field in path:
        before = kind._fields[: kind._fields.index(field)]
        members = dict(_members(kind))
        position += sum(1 if members[name] is None else size_of(members[name]) for name in before)
        kind = members[field]
    return position


@cache
def _flattener(kind: Any) -> Any:
    """A function from a record, and numbers behind it, to all of them; as quick as one written by hand."""

    def items(kind: Any, path: str) -> Iterator[str]:
        members = _members(kind)
        if all(inner is None for _, inner in members):
            yield f"*{path}"
            return
        for n, (_, inner) in enumerate(members):
            yield from (f"{path}[{n}]",) if inner is None else items(inner, f"{path}[{n}]")

    return eval(f"lambda record, behind: ({', '.join(items(kind, 'record'))}, *behind)")


def numbers(record: Any, behind: tuple[int, ...] = ()) -> Numbers:
    """A record as an array of numbers, with others behind it; ``buffer_info()[0]`` is its address."""
    kind: Any = type(record)
    return array("q", _flattener(kind)(record, behind))


def _record_type(kind: Any) -> Any:
    items = [types.int64 if inner is None else _record_type(inner) for _, inner in _members(kind)]
    return types.BaseTuple.from_types(items, kind)


def _element(builder: Any, where: Any, position: Any) -> Any:
    """Pointer to the int64 at a position from an address or a pointer on."""
    pointer = _I64.as_pointer()
    start = builder.inttoptr(where, pointer) if where.type == _I64 else builder.bitcast(where, pointer)
    return builder.gep(start, [position])


@intrinsic
def read_record(typingctx: Any, kind: Any, where: Any, n: Any) -> Any:
    """Record number `n` of a class, of those from an address, or from where a pointer leads, on."""
    record = kind.instance_class

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.mul(args[2], ir.Constant(_I64, size_of(record)))
        position = 0

        def load(inner: Any) -> Any:
            nonlocal position
            items = []
            for _, member in _members(inner):
                if member is None:
                    at = builder.add(first, ir.Constant(_I64, position))
                    items.append(builder.load(_element(builder, args[1], at)))
                    position += 1
                else:
                    items.append(load(member))
            return context.make_tuple(builder, _record_type(inner), items)

        return load(record)

    return _record_type(record)(kind, _place(where), types.int64), codegen


@intrinsic
def write_record(typingctx: Any, where: Any, n: Any, record: Any) -> Any:
    """Write a record of numbers as number `n` of those from an address, or from where a pointer leads, on."""
    count = len(record)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.mul(args[1], ir.Constant(_I64, count))
        for position, kind in enumerate(sig.args[2]):
            value = context.cast(builder, builder.extract_value(args[2], position), kind, types.int64)
            at = builder.add(first, ir.Constant(_I64, position))
            builder.store(value, _element(builder, args[0], at))
        return context.get_dummy_value()

    return types.void(_place(where), types.int64, record), codegen


def _place(where: Any) -> Any:
    return types.int64 if isinstance(where, types.Integer) else where
