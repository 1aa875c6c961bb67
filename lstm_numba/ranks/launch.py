"""The connection to the processes that a launcher started with this one."""

from __future__ import annotations

import os

from lstm_numba.errors import UserError
from lstm_numba.ranks.base import ALONE, Ranks
from lstm_numba.ranks.launcher import launched


def connect() -> Ranks:
    """The ranks that this process was launched with; `ALONE` without a launcher, or of one process.

    Raises
    ------
    UserError
        There are others, but mpi4py cannot be imported, or its MPI is not the launcher's: then each process
        would train alone.
    """
    here = launched()
    if here.size == 1:
        return ALONE
    # Our own line says why all end; MPICH would add one of its own.
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    # Of Open MPI's ways to share memory the one for InfiniBand complains where there is none.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    try:
        from lstm_numba.ranks.mpi import MpiRanks
    except ImportError as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{here.size} processes were launched together, which need mpi4py ({why}): "
            "pip install 'lstm_numba[mpi]', and an MPI, that of the machine or pip install mpich"
        ) from None
    except RuntimeError as error:  # mpi4py found no library of MPI
        why = " ".join(str(error).split())
        raise UserError(
            f"{here.size} processes were launched together, but mpi4py finds no MPI ({why}): "
            "install the one whose mpiexec this is; of wheels, pip install mpich"
        ) from None
    ranks = MpiRanks()
    if ranks.size != here.size:
        raise UserError(
            f"{here.size} processes were launched together, but mpi4py's MPI ({ranks.mpi_name}) sees "
            f"{ranks.size}: use the mpiexec of the same MPI"
        )
    return ranks
