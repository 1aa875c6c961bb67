"""Which rows a rank has, what it drops of them, and what a launcher says; without MPI."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lstm_numba.engines import dropout_masks
from lstm_numba.engines.dropout_masks import RowShare, draw_mask, whole
from lstm_numba.errors import UserError
from lstm_numba.ranks.base import ALONE
from lstm_numba.ranks.launch import connect
from lstm_numba.ranks.launcher import Launched, launched
from lstm_numba.ranks.shares import part_of


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 2, 6, 20, 23])
def test_every_row_is_in_one_share_and_shares_are_even(total: int, size: int) -> None:
    parts = [part_of(total, rank, size) for rank in range(size)]
    assert [row for part in parts for row in range(total)[part.rows]] == list(range(total))
    sizes = [part.size for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(ValueError, match="rank: expected 0 to"):
        part_of(total, size, size)


@pytest.mark.parametrize("worth", [0, 1 << 30], ids=["sought", "drawn whole"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 7, 5), (6, 13), (3, 4, 64)])
def test_ranks_drop_what_one_drops(
    shape: tuple[int, ...], worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks equal those of the whole batch, one after the other, and generators end alike."""
    monkeypatch.setattr(dropout_masks, "_WORTH_SEEKING", worth)
    alone = np.random.Generator(np.random.Philox(5))
    wanted = [draw_mask(alone, shape, 0.4), draw_mask(alone, shape, 0.4)]
    for rank in range(3):
        share = RowShare(np.random.Generator(np.random.Philox(5)))
        share.first, share.stop, share.total = part = part_of(shape[-2], rank, 3)
        if not part.size:
            continue
        for mask in wanted:
            drawn = draw_mask(share, (*shape[:-2], part.size, shape[-1]), 0.4)  # type: ignore[arg-type]
            np.testing.assert_array_equal(drawn, mask[..., part.rows, :])
        assert str(share.bit_generator.state) == str(alone.bit_generator.state)


def test_a_generator_that_cannot_seek_draws_the_whole() -> None:
    alone, share = np.random.default_rng(1), RowShare(np.random.default_rng(1))
    share.first, share.stop, share.total = 1, 3, 4
    wanted = alone.random((2, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(share.random((2, 2, 5)), wanted[:, 1:3])
    assert whole(share) is share.whole
    assert whole(alone) is alone
    with pytest.raises(ValueError, match="expected 2 rows, got 3"):
        share.random((2, 3, 5))


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, Launched(0, 1)),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, Launched(1, 4)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}, Launched(3, 8)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, Launched(2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, Launched(0, 1)),  # an allocation, no step
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launched(0, 1)),
        ({"PMI_RANK": "x", "PMI_SIZE": "2"}, Launched(0, 1)),
    ],
)
def test_what_launchers_say(environment: dict[str, str], found: Launched) -> None:
    assert launched(environment) == found


def test_processes_without_mpi4py_do_not_train_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert connect() is ALONE
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "lstm_numba.ranks.mpi", raising=False)
    with pytest.raises(UserError, match=r"2 processes were launched together.*lstm_numba\[mpi\]"):
        connect()
