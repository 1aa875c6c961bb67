"""What follows from a cell's products: slots and their order, stages, row blocks of the weights."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from lstm_numba.cells.definition import Definition, Product
from lstm_numba.cells.protocol import Stage

#: Names of weights.
_WEIGHT = re.compile(r"weight_(?!ph$)[a-z][a-z0-9]*")
#: Slots of which all orders are tried.
_MOST_SLOTS = 8


class Plan(NamedTuple):
    """The wiring of a cell; see `lstm_numba.cells.protocol.Cell`.

    Attributes
    ----------
    gates, recurrent_gates : tuple of str
    slots : tuple of str
        Those that products feed, in an order in which each product's are neighbours, the input's the first.
    input_gates : tuple of int
    stages : tuple of Stage
    operand : str
        Name of the second stage's operand; empty for a cell of one stage.
    """

    gates: tuple[str, ...]
    recurrent_gates: tuple[str, ...]
    slots: tuple[str, ...]
    input_gates: tuple[int, ...]
    stages: tuple[Stage, ...]
    operand: str


def make_plan(cell: Definition) -> Plan:
    """Plan a cell.

    Raises
    ------
    ValueError
        Its products cannot be computed by the engines; the message says which and why.
    """
    inputs, recurrent = _feeds(cell)
    gates = _row_blocks("weight_ih", inputs)
    names = dict.fromkeys(product.weight for product in recurrent)
    rows = {name: _row_blocks(name, [p for p in recurrent if p.weight == name]) for name in names}
    slots = _order(gates, [product.slots for product in recurrent])
    stages = tuple(_stage(slots, rows[product.weight], product) for product in recurrent)
    _check_projection(cell, recurrent)
    input_gates = tuple(gates.index(slot) for slot in slots[: len(gates)])
    operand = recurrent[1].operand if len(recurrent) > 1 else ""
    return Plan(gates, rows["weight_hh"], slots, input_gates, stages, operand)


def _feeds(cell: Definition) -> tuple[list[Product], list[Product]]:
    """The products with the input and the recurrent ones, checked."""
    inputs: list[Product] = []
    recurrent: list[tuple[int, Product]] = []
    for n, phase in enumerate(cell.phases):
        for product in phase.products:
            first = product.weight != "weight_ih" and not recurrent
            if (first and product.weight != "weight_hh") or not _WEIGHT.fullmatch(product.weight):
                expected = "weight_hh" if first else "weight_hh or another name that begins with weight_"
                raise ValueError(
                    f"phase {n}: a product with {product.weight!r}; expected weight_ih or {expected}"
                )
            _check_operand(cell, n, product, [phase for phase, _ in recurrent])
            if product.weight == "weight_ih":
                inputs.append(product)
            else:
                recurrent.append((n, product))
    for weight, found in (("weight_ih", inputs), ("weight_hh", recurrent)):
        if not found:
            raise ValueError(f"phases: no product with {weight}")
    return inputs, [product for _, product in recurrent]


def _check_projection(cell: Definition, recurrent: list[Product]) -> None:
    """The last phase alone is projected, and has the second recurrent product with a weight of its own."""
    for n, phase in enumerate(cell.phases):
        if phase.projected and (
            any(p.products for p in cell.phases[n + 1 :])
            or [p.weight for p in phase.products] != [p.weight for p in recurrent[1:]]
            or recurrent[1].weight == "weight_hh"
            or len(recurrent[1].slots) != 1
            or len(cell.states) == 1
        ):
            raise ValueError(
                f"phase {n}: is projected; expected the last phase, with the second recurrent product alone, "
                "which has a weight of its own and feeds one slot, and a state that is not projected"
            )


def _check_operand(cell: Definition, phase: int, product: Product, earlier: list[int]) -> None:
    """The input's products are of x, the recurrent ones of the first state and then of a result.

    Phases without products may stand before: then the first product's operand may be a result of theirs.
    """
    first, begin = cell.states[0], not any(p.products for p in cell.phases[:phase])
    if product.weight == "weight_ih":
        fits, expected = product.operand == "x", "x"
    elif not earlier:
        other = phase > 0 and product.operand not in ("x", *cell.states)
        fits = begin and (product.operand == first or other)
        expected = f"the state {first}, in the first phase"
    else:
        fits = len(earlier) == 1 and phase > earlier[0] and product.operand not in ("x", *cell.states)
        expected = "a result of the first phase, in a second one, and no third product"
        if product.operand == first:
            expected = f"one product with the state {first}, for all slots that it feeds"
    if not fits:
        raise ValueError(
            f"phase {phase}: {product.weight} with the operand {product.operand!r}: expected {expected}"
        )


def _row_blocks(weight: str, products: list[Product]) -> tuple[str, ...]:
    blocks = tuple(slot for product in products for slot in product.slots)
    if len(set(blocks)) != len(blocks):
        raise ValueError(f"phases: {weight} feeds a slot twice: {', '.join(blocks)}")
    return blocks


def _order(inputs: tuple[str, ...], recurrent: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The slots in the first order in which those of the input come first and each product's side by side."""
    every = tuple(dict.fromkeys((*inputs, *itertools.chain(*recurrent))))
    if len(every) > _MOST_SLOTS:
        raise ValueError(f"phases: {len(every)} slots, expected {_MOST_SLOTS} at most")
    for order in itertools.permutations(every):
        if set(order[: len(inputs)]) == set(inputs) and all(_adjacent(order, slots) for slots in recurrent):
            return order
    raise ValueError(
        f"phases: no order of the slots {', '.join(every)} has those of each product side by side"
    )


def _adjacent(order: tuple[str, ...], slots: tuple[str, ...]) -> bool:
    first = min(map(order.index, slots))
    return set(order[first : first + len(slots)]) == set(slots)


def _stage(slots: tuple[str, ...], rows: tuple[str, ...], product: Product) -> Stage:
    """A product's slots, which are neighbours, and the row block that feeds each of them."""
    first = min(map(slots.index, product.slots))
    fed = slots[first : first + len(product.slots)]
    return Stage(first, tuple(rows.index(slot) for slot in fed), product.weight)
