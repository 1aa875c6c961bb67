"""Heads, zoneout, dropout in the step and resets on the device, beside the CPU with the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recurrent_problems import Case, Problem, pack, unpack
from tolerances import assert_close

from lstm_numba.engines import engine

CASE = Case(3, 2, 2, 4, 2, True, (3, 2))
RESETS = np.array([[False, True], [True, False], [True, False]])


@pytest.mark.parametrize("bits", [np.random.Philox])
@pytest.mark.parametrize(
    ("name", "options", "to"),
    [
        ("lstm", {"zoneout": (0.4, 0.2), "recurrent_dropout": 0.3, "heads": 2}, "initial"),
        ("gru", {"dropout": 0.3, "dropout_kind": "sequence"}, "zeros"),
        ("gru", {"recurrent_dropout": 0.3, "recurrent_dropout_kind": "candidate", "dropout": 0.2}, "zeros"),
    ],
)
def test_everything_as_on_the_processor(name: str, options: dict[str, Any], to: str, bits: Any) -> None:
    found: list[list[Any]] = []
    for device in ("cuda", "cpu"):
        p = Problem(name, CASE, np.float64, device=device, **options)
        y, _ = p.layer(p.x, pack(p.states), CASE.lengths)
        p.layer.rng = np.random.Generator(bits(3))
        out, state, tape = p.layer.forward(p.x, pack(p.states), CASE.lengths, RESETS, to)
        dx, dstate, grads = p.layer.backward(tape, p.dy, pack(p.dstates))
        arrays = [p.layer.engine.download(grad) for grad in grads.values()]
        found.append([y, out, *unpack(state), dx, *unpack(dstate), *arrays, p.layer.rng.random(2)])
    for got, expected in zip(*found, strict=True):
        assert_close(got, expected, "backward")


@pytest.mark.parametrize("bits", [np.random.Philox, np.random.PCG64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_are_those_of_the_processor(dtype: str, bits: Any) -> None:
    masks = []
    for device in ("cuda", "cpu"):
        rng, computes = np.random.Generator(bits(5)), engine(device)
        for shape, p, kept in (((3, 5, 7), 0.3, 1.0), ((1, 2, 3), 0.5, 2.0), ((2, 3), 0.0, 1.0)):
            mask = computes.download(computes.mask(rng, shape, p, dtype, kept))
            assert mask.dtype == dtype
            assert set(np.unique(mask)) == ({0.0, kept} if p else {kept})
            masks.append(np.array(mask))
    for got, expected in zip(masks[:3], masks[3:], strict=True):
        np.testing.assert_array_equal(got, expected)
