"""What ranks do together, and a rank that is alone: for it everything is done already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy.typing as npt

from lstm_numba.ranks.shares import Part, part_of

Array = npt.NDArray[Any]
T = TypeVar("T")


class Sum:
    """A sum over ranks that goes on while other things are done; of one rank it is the array.

    Attributes
    ----------
    own : ndarray or None
        Where the array to be summed is best computed; it may be anywhere.
    result : ndarray
        The sum, the same bits on all ranks, until `begin` is called again.
    on_device : bool
        Whether the arrays are a GPU's, not NumPy's.
    """

    own: Array | None = None
    result: Array
    on_device = False

    def begin(self, array: Array) -> Callable[[], bool]:
        """Begin to sum, maybe in place; what is returned goes on with it, and tells whether it is done."""
        self.result = array
        return lambda: True


class Ranks:
    """One process that trains alone; the base of those that share a training.

    Whatever is not said to be for one rank is called by all, in the same order.

    Attributes
    ----------
    rank, size : int
        Which of how many.
    local_rank, local_size : int
        Which of how many on this machine.
    concurrent : bool
        Whether a second thread may go on with sums while this one does other things.
    own_gpu : bool
        Whether this rank has a GPU that no other one has; to be set.
    """

    rank = 0
    size = 1
    local_rank, local_size = 0, 1
    own_gpu = False
    concurrent = True

    @property
    def first(self) -> bool:
        """Whether this rank is the one that writes and speaks."""
        return self.rank == 0

    def part(self, total: int) -> Part:
        """This rank's rows of a batch."""
        return part_of(total, self.rank, self.size)

    def largest(self, total: int) -> int:
        """Rows of the largest share of a batch."""
        return -(-total // self.size)

    # -- sums ------------------------------------------------------------------------------------

    def sum(self, array: Array) -> Array:
        """Sum an array over the ranks, in place; each has the same bits afterwards."""
        return array

    def new_sum(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Sum:
        """A sum of large arrays of one shape, which is taken again and again."""
        return Sum()

    def gather(self, array: Array) -> Array:
        """Arrays of one shape of all ranks, (size, ...)."""
        return array[None]

    def gather_here(self, text: str) -> list[str]:
        """Texts of all ranks of this machine."""
        return [text]

    def join(self, array: Array | None, axis: int = 0) -> Array:
        """The arrays of all ranks, one after the other along an axis; None from a rank that has none."""
        assert array is not None
        return array

    # -- one for all -----------------------------------------------------------------------------

    def once(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first rank, which alone calls it."""
        return make()

    def once_a_machine(self, make: Callable[[], T]) -> T:
        """What `make` gives on one rank of each machine, which alone calls it.

        Where there are several, NumPy arrays in it are read-only, in memory that all of them share.
        """
        return make()

    # -- the end ---------------------------------------------------------------------------------

    def watch(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the number of a rank of this machine that ends before `part_company`.

        One other rank of the machine calls it, in a thread of its own.
        """

    def part_company(self) -> None:
        """Wait for all ranks; from then on each may end by itself."""

    def abort(self, status: int) -> NoReturn:
        """End all ranks with an exit status; called by any of them."""
        raise SystemExit(status)

    # -- threads ---------------------------------------------------------------------------------

    def threads(self, available: int, bound: frozenset[int], chosen: bool) -> int:
        """Threads of this rank, where nobody asked for a number.

        Parameters
        ----------
        available : int
            That the process may use.
        bound : frozenset of int
            Cores in its affinity.
        chosen : bool
            Somebody has chosen `available`, for each rank.
        """
        return available


#: A process that trains alone.
ALONE = Ranks()
