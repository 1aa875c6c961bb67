"""Cells around cells: zoneout, dropout of recurrent connections and of the candidate, resets.

Each adds phases without products before or after those of the cell, so that it costs no pass over memory of
its own; the backward equations are derived from all of them together.

Zoneout
    A unit keeps a state with probability p: s = m ⊙ s' + (1 − m) ⊙ s₋, where s' is the cell's new state and m
    its mask, 0 where the unit keeps it. At inference the expectation: s = (1 − p) s' + p s₋. Within the step,
    as in h = o ⊙ tanh(c), the new states are the cell's.
Recurrent mask
    The operand of every recurrent product is multiplied by a mask: R (d ⊙ h₋).
Candidate mask
    The candidate's activation is multiplied by a mask: c = f ⊙ c₋ + i ⊙ (d ⊙ g).
Resets
    The states before a step are zero, or the initial ones, where a row's sequence begins anew.

D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.
Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NIPS
2016.
S. Semeniuta, A. Severyn, E. Barth, "Recurrent dropout without memory loss", COLING 2016.
"""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from lstm_numba.cells.definition import Definition, Extra, Phase
from lstm_numba.cells.registration import defined_cell

#: Between the parts of a wrapped cell's key.
SEPARATOR = "|"
#: Extras: 1 where a row goes on, 0 where it is reset; masks of recurrent operands and of the candidate.
GOING, RECURRENT_MASK, CANDIDATE_MASK = "going", "recurrent_mask", "candidate_mask"
RESETS = ("zeros", "initial")


class Wrapping(NamedTuple):
    """What is around a cell; see the module.

    Attributes
    ----------
    zoneout : tuple of float
        Probability of keeping each state, for the expectation; empty for none.
    zoneout_masks : tuple of bool
        Whether each state has a mask, the extra ``update_`` with its name; empty for none.
    recurrent_mask, candidate_mask : bool
        Whether there are the extras of these names.
    resets : str
        Where the extra ``going`` is 0, the states before a step become "zeros" or the "initial" ones, which
        the cell carries along as further states, ``h_initial`` and so on; empty for no resets.
    """

    zoneout: tuple[float, ...] = ()
    zoneout_masks: tuple[bool, ...] = ()
    recurrent_mask: bool = False
    candidate_mask: bool = False
    resets: str = ""


def update_mask(state: str) -> str:
    """Name of a state's mask."""
    return f"update_{state}"


def initial(state: str) -> str:
    """Name of the state that holds the initial value of another."""
    return f"{state}_initial"


def wrap(cell: Any, **parts: Any) -> Any:
    """The cell with something around it.

    Parameters
    ----------
    cell : Cell
    **parts
        Attributes of `Wrapping`.

    Returns
    -------
    Cell
        The same for the same arguments; the cell itself where there is nothing around it.

    Raises
    ------
    ValueError
        The cell has no candidate, or not so many states, or is wrapped already.
    """
    wrapping, kind = Wrapping(**parts), _kind(cell)
    return cell if wrapping == Wrapping() else _wrapped(kind, wrapping)


def _kind(cell: Any) -> Any:
    """A cell's class, by which cells are told apart: they are empty tuples, all of them equal."""
    return type(cell)


@functools.cache
def _wrapped(kind: Any, wrapping: Wrapping) -> Any:
    cell = kind()
    if SEPARATOR in cell.key:
        raise ValueError(f"{cell.display_name}: is wrapped already; wrap {cell.key.split(SEPARATOR)[0]}")
    for name in ("zoneout", "zoneout_masks"):
        if len(getattr(wrapping, name)) not in (0, len(cell.states)):
            raise ValueError(f"{name}: expected one for each of the states {', '.join(cell.states)}")
    if cell.projected and wrapping.resets == "initial":
        raise ValueError(f"{cell.display_name}: resets to initial states of fewer units are not supported")
    if wrapping.resets not in ("", *RESETS):
        raise ValueError(f"resets: expected {' or '.join(RESETS)}, got {wrapping.resets!r}")
    key = f"{cell.key}{SEPARATOR}{_text(wrapping)}"
    found = defined_cell(_definition(cell.definition, wrapping), key, doc=cell.__doc__)
    copyreg.pickle(type(found), lambda wrapped: (_restored, (type(wrapped), cell, tuple(wrapping))))
    return found


def _restored(kind: Any, cell: Any, parts: tuple[Any, ...]) -> Any:
    """Unpickle a wrapped cell; a ValueError if its equations have changed."""
    _wrapped(_kind(cell), Wrapping(*parts))
    if not hasattr(kind, "gates"):
        raise ValueError(f"cell {cell.key}: other equations than those of the cell that was pickled")
    return kind()


def _text(wrapping: Wrapping) -> str:
    """A wrapping as text."""
    values = ((n, v) for n, v in zip(Wrapping._fields, wrapping, strict=True) if v)
    return SEPARATOR.join(
        f"{name}={'_'.join(map(repr, value)) if isinstance(value, tuple) else value}"
        for name, value in values
    )


def _definition(cell: Definition, wrapping: Wrapping) -> Definition:
    """The equations of a cell and of what is around it."""
    states, extras, names = cell.states, list(cell.extras), []
    before, phases, after = [], cell.phases, []
    if wrapping.resets:
        names.append("resets")
        extras.append(Extra(GOING, units=False))
        to_initial = wrapping.resets == "initial"
        before.append(Phase((), lambda z, v: _reset(cell.states, to_initial, v)))
        if to_initial:
            states += tuple(map(initial, cell.states))
            after.append(Phase((), lambda z, v: {initial(s): v[initial(s)] for s in cell.states}))
    if any(wrapping.zoneout) or any(wrapping.zoneout_masks):
        names.append("zoneout")
        extras += [
            Extra(update_mask(state))
            for state, masked in zip(cell.states, wrapping.zoneout_masks, strict=bool(wrapping.zoneout_masks))
            if masked
        ]
        before.append(Phase((), lambda z, v: {f"previous_{s}": v[s] for s in cell.states}))
        after.insert(0, Phase((), lambda z, v: _zone_out(cell.states, wrapping, v)))
    if wrapping.recurrent_mask:
        names.append("recurrent dropout")
        extras.append(Extra(RECURRENT_MASK))
        phases = tuple(_with_masked_operands(phases))
    if wrapping.candidate_mask:
        names.append("dropout of the candidate")
        extras.append(Extra(CANDIDATE_MASK))
    return cell._replace(
        name=f"{cell.name}, {', '.join(names)}",
        states=states,
        phases=(*before, *phases, *after),
        backward=None,
        extras=tuple(extras),
        candidate_mask=CANDIDATE_MASK if wrapping.candidate_mask else "",
    )


def _reset(states: tuple[str, ...], to_initial: bool, v: Any) -> dict[str, Any]:
    if not to_initial:
        return {state: v[GOING] * v[state] for state in states}
    return {state: v[GOING] * v[state] + (1 - v[GOING]) * v[initial(state)] for state in states}


def _zone_out(states: tuple[str, ...], wrapping: Wrapping, v: Any) -> dict[str, Any]:
    found = {}
    for n, state in enumerate(states):
        previous, new = v[f"previous_{state}"], v[state]
        if wrapping.zoneout_masks and wrapping.zoneout_masks[n]:
            mask = v[update_mask(state)]
            new = mask * new + (1 - mask) * previous
        elif wrapping.zoneout and wrapping.zoneout[n]:
            p = wrapping.zoneout[n]
            new = (1 - p) * new + p * previous
        found[state] = new
    return found


def _with_masked_operands(phases: tuple[Phase, ...]) -> Iterator[Phase]:
    """The phases, each recurrent product's operand times the mask."""
    for n, phase in enumerate(phases):
        masked = {
            product.operand: f"masked_{product.operand}_{n}"
            for product in phase.products
            if product.weight == "weight_hh"
        }
        if masked:
            yield Phase((), functools.partial(_masked, masked))
        yield phase._replace(
            products=tuple(p._replace(operand=masked.get(p.operand, p.operand)) for p in phase.products)
        )


def _masked(names: dict[str, str], z: Any, v: Any) -> dict[str, Any]:
    return {name: v[RECURRENT_MASK] * v[operand] for operand, name in names.items()}
