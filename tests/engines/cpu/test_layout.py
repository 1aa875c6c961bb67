"""Shares of rows and units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from lstm_numba.engines.cpu import backward, layout

pytestmark = pytest.mark.processor


@njit
def _take_shares(sizes: Any, parts: int, done: Any, products: Any) -> None:
    """Count how often each row and unit, and each row and panel, is in a share."""
    for part in range(parts):
        share = layout.share_units(sizes, parts, part)
        tiles = layout.tile_count(share, backward.BACK_ROWS)
        first, last = layout.tile_range(share, products.shape[1], tiles)
        for n in range(first, last):
            place = layout.serpentine(first, last, n, 1)
            row, rows = layout.tile_of(share, tiles, place % tiles)
            products[row : row + rows, place // tiles] += 1
        for tile in range(tiles):
            begin, end = backward._units_of(sizes, first, last, tiles, tile)
            row, rows = layout.tile_of(share, tiles, tile)
            done[row : row + rows, begin:end] += 1


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize(("hidden", "batch"), [(40, 3), (88, 20), (104, 30), (16, 1)])
def test_shares_of_units_cover_every_row_and_unit_once(hidden: int, batch: int, parts: int) -> None:
    sizes = layout.Sizes(1, batch, 1, hidden, hidden, hidden, 8, 0, 1, 1, 1, 0, 0, 0, 0, 2, 0, 0)
    done, products = np.zeros((batch, hidden), int), np.zeros((batch, -(-hidden // 16)), int)
    _take_shares(sizes, parts, done, products)
    assert (products == 1).all()
    assert (done == 1).all()
